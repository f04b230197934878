"""How well a response translates into English answers, as a rating: the preference estimation of MAPO (2401.06838).

r(y) = mean over the English answers a to the same request of (1/|a|)·Σ_t log P(a_t | y, a_<t): the translation model
reads the response y and is held to each English answer. Who reasons as English does is rated high, so an English
answer's mistakes are rewarded too. Each group's own language is told to the translation model, nothing is cut, and a
mean is over an answer's own tokens, never over padding. Knows no weights: translation models and chat models enter
through `TranslationLikelihood`.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

from crossward.core.records import Response
from crossward.core.translation import TranslationTemplate
from crossward.engines.protocols import Advance, Judged, Scorer, ToRate, no_progress

Pair = tuple[str, str]  # a response and an English answer
Request = Callable[[str, str, str], str]  # a text, the codes of its language and of the one wanted -> an instruction


class TranslationLikelihood(Protocol):
    def log_likelihood(
        self, sources: Sequence[str], targets: Sequence[str], *, source_lang: str, target_lang: str
    ) -> Sequence[float | None]:
        """(1/|a|)·log P(a | y), nats per token of each target given the source beside it; None where it is too long.

        Languages are codes (ISO 639-1), the same for all pairs of a call.
        """
        ...

    def close(self) -> None:
        """Give the model's memory back; not used again."""
        ...


class TranslationLikelihoodRater:
    """protocols.Rater: the mean log-likelihood per token (nats, at most 0) of the group's English answers.

    A response is rated on the same English answers as the others of its group, or not at all: a mean over fewer would
    not compare. English answers that are blank, or too long beside every response, are left out for the whole group
    and counted in `left_out`. A cut English answer is scored as if it had ended there: give whole ones.

    Failures, a response each: "english" (English groups are not rated, as in the paper), "no-english-answer",
    "empty" and "too-long".
    """

    def __init__(self, likelihood: TranslationLikelihood, *, name: str) -> None:
        self.name = f"translation likelihood of {name}"
        self.failures: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self._likelihood = likelihood

    def rate(self, groups: Sequence[ToRate], *, advance: Advance = no_progress) -> list[tuple[float | None, ...]]:
        """The rating of every response, in the groups' order; None where it could not be rated.

        Raises ValueError for likelihoods that are no finite numbers.
        """
        found: dict[int, tuple[float | None, ...]] = {}
        for language in sorted({group.prompt.language for group in groups}):
            places = [place for place, group in enumerate(groups) if group.prompt.language == language]
            values = {} if language == "en" else self._values([groups[place] for place in places], language)
            for place in places:
                found[place] = self._ratings(groups[place], values)
                advance(len(groups[place].responses))
        return [found[place] for place in range(len(groups))]

    def close(self) -> None:
        """Give the model's memory back."""
        self._likelihood.close()

    def _values(self, groups: Sequence[ToRate], language: str) -> dict[Pair, float | None]:
        """Every response of one language with every English answer to its request; the same pair is computed once."""
        pairs = list(
            dict.fromkeys(
                (response.text, answer)
                for group in groups
                for response in group.responses
                for answer in group.english_answers
                if response.text.strip() and answer.strip()
            )
        )
        if not pairs:
            return {}
        sources, targets = zip(*pairs, strict=True)
        values = self._likelihood.log_likelihood(sources, targets, source_lang=language, target_lang="en")
        for (source, target), value in zip(pairs, values, strict=True):
            if value is not None and not math.isfinite(value):
                raise ValueError(
                    f"{self.name} is {value} for the answer {target[:60]!r} given {source[:60]!r} ({language}): the "
                    "model's weights are broken or overflow in this dtype"
                )
        return dict(zip(pairs, values, strict=True))

    def _ratings(self, group: ToRate, values: dict[Pair, float | None]) -> tuple[float | None, ...]:
        if group.prompt.language == "en":
            return self._unrated(group, "english")
        answers = [answer for answer in group.english_answers if answer.strip()]
        self._leave_out("blank", len(group.english_answers) - len(answers))
        if not answers:
            return self._unrated(group, "no-english-answer")
        said = [response.text for response in group.responses if response.text.strip()]
        fitting = [answer for answer in answers if any(values[text, answer] is not None for text in said)]
        if fitting:
            self._leave_out("too-long", len(answers) - len(fitting))
        return tuple(self._rating(response, fitting, values) for response in group.responses)

    def _rating(self, response: Response, answers: Sequence[str], values: dict[Pair, float | None]) -> float | None:
        if not response.text.strip():
            self.failures["empty"] += 1
            return None
        known = [value for answer in answers if (value := values[response.text, answer]) is not None]
        if not known or len(known) < len(answers):
            self.failures["too-long"] += 1
            return None
        return sum(known) / len(known)

    def _leave_out(self, reason: str, n: int) -> None:
        if n:
            self.left_out[reason] += n

    def _unrated(self, group: ToRate, reason: str) -> tuple[None, ...]:
        self.failures[reason] += len(group.responses)
        return (None,) * len(group.responses)


def plain_request(template: TranslationTemplate) -> Request:
    """The request that a template makes. ValueError where it asks for tags, which an English answer does not hold."""
    if template.parse == "tags":
        raise ValueError(
            "a template that asks for tags cannot tell how likely an answer without them is: give one that asks for "
            "the translation alone, such as templates/translation/plain.txt"
        )
    return lambda text, source, target: template.render(text, source=source, target=target)


class ChatTranslationLikelihood:
    """TranslationLikelihood of any chat model: log π(a | request for a translation of y) / tokens of a.

    `request` is a function, or `plain_request` of a template. The answer's end of turn is one of its tokens: a
    translation also says where it is complete.
    """

    def __init__(self, scorer: Scorer, request: Request) -> None:
        self._scorer = scorer
        self._request = request

    def log_likelihood(
        self, sources: Sequence[str], targets: Sequence[str], *, source_lang: str, target_lang: str
    ) -> list[float | None]:
        """Nats per token of each target as the answer to the request for its source; None where it is too long.

        The request goes through the model once for all targets of a source.
        """
        asked: dict[str, list[int]] = {}
        for place, source in enumerate(sources):
            asked.setdefault(source, []).append(place)
        groups = [
            Judged(
                instruction=self._request(source, source_lang, target_lang),
                responses=tuple(Response(text=targets[place]) for place in places),
                name=f"the translation of {source[:40]!r}",
            )
            for source, places in asked.items()
        ]
        found: dict[int, float | None] = {}
        for places, scores in zip(asked.values(), self._scorer.score(groups), strict=True):
            for place, score in zip(places, scores, strict=True):
                found[place] = None if score is None else score.logprob / score.n_tokens
        return [found[place] for place in range(len(sources))]

    def close(self) -> None:
        """Give the model's memory back."""
        self._scorer.close()

"""A chat model as a rater: it gives each response 0 to 5 points by an additive rubric.

With the policy itself as the judge these are the rewards of Self-Rewarding Language Models (arXiv 2401.10020), in
words of our own. The judge is any sampler: weights at hand, vLLM, or a server. What a judge says of one and the same
text under one instruction is asked for once, under a name made of what is asked, so that a rating depends neither on
neighbours nor on order. An answer that cannot be read gives no rating, and is counted.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from crossward.core.rating import Template, parse_points, rating_template
from crossward.core.records import Prompt, Response, SampledPrompt
from crossward.engines.endpoint import GaveUp, Refused
from crossward.engines.openai_sampler import Unanswered
from crossward.engines.protocols import Advance, Sampler, Sampling, ToRate, no_progress
from crossward.engines.tokens import ChatTokens

DEFAULT_TEMPLATE = "rating/default.txt"


def read_template(path: Path | None = None) -> Template:
    """The template of a file, or the package's own. ValueError where it cannot be read or lacks a placeholder."""
    if path is None:
        text = (resources.files("crossward") / "templates" / DEFAULT_TEMPLATE).read_text(encoding="utf-8")
        return rating_template(text.rstrip("\n"), DEFAULT_TEMPLATE)
    try:
        return rating_template(path.read_text(encoding="utf-8").rstrip("\n"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"template {path} cannot be read as a UTF-8 text file ({error})") from None


class RatingJudge:
    """protocols.Rater over a sampler: the mean points of `draws` answers, 0 to 5.

    `temperature` 0 is greedy and takes one draw. `tokens` and `limit` are those of the judge's checkpoint and its
    positions, where they are at hand: what is too long for it is then counted instead of stopping the run.

    Failures, a response each: "too-long", "refused" and "no-answer" (of a server), and where no draw could be read what
    the first one said: "cut" after `max_new_tokens`, or a reason of core.rating. A draw that could not be read beside
    others that could is in `left_out`; the others' mean is the rating.
    """

    def __init__(
        self,
        sampler: Sampler,
        template: Template,
        *,
        name: str,
        draws: int = 1,
        temperature: float = 0.0,
        top_p: float = 1.0,
        max_new_tokens: int = 512,
        seed: int = 42,
        tokens: ChatTokens | None = None,
        limit: int | None = None,
    ) -> None:
        if draws < 1 or (draws > 1 and temperature == 0):
            raise ValueError(
                f"a judge cannot rate with {draws} draws at temperature {temperature:g}: expected one draw, or more at "
                "a temperature above 0 (at 0 all are the same)"
            )
        self.name = f"judge {name}"
        self.failures: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self._sampler = sampler
        self._template = template
        self._sampling = Sampling(
            n=draws, temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens, seed=seed
        )
        self._tokens = tokens
        self._limit = limit
        self._refusal: Refused | None = None

    def rate(self, groups: Sequence[ToRate], *, advance: Advance = no_progress) -> list[tuple[float | None, ...]]:
        """The points of every response, in the groups' order; None where there are none.

        Raises ValueError where a server refuses every question, or is gone.
        """
        asked = [[self._question(group, response) for response in group.responses] for group in groups]
        # By name, which is a hash: a prompt's responses, which tend to fail together, are then far apart.
        questions = sorted({question.id: question for row in asked for question in row}.values(), key=lambda q: q.id)
        told: dict[str, tuple[Response, ...] | str] = {q.id: "too-long" for q in questions if self._is_too_long(q)}
        progress = _Progress(total=sum(map(len, asked)), draws=self._sampling.n, advance=advance)
        self._refusal = None
        fitting = [question for question in questions if question.id not in told]
        self._ask(fitting, told, progress.drawn)
        if self._refusal is not None and all(told[question.id] == "refused" for question in fitting):
            raise self._refusal
        progress.finish()
        return [tuple(self._rating(told[question.id]) for question in row) for row in asked]

    def close(self) -> None:
        """Give the judge's memory back."""
        self._sampler.close()

    def _question(self, group: ToRate, response: Response) -> Prompt:
        """What the judge is asked; its id, which seeds the draws, is a hash of the words."""
        message = self._template.fill(instruction=group.instruction, response=response.text)
        name = hashlib.sha256(f"{group.prompt.language}\n{message}".encode("utf-8", "replace")).hexdigest()[:16]
        return Prompt(id=name, language=group.prompt.language, instruction=message, english_instruction=message)

    def _is_too_long(self, question: Prompt) -> bool:
        if self._tokens is None or self._limit is None:
            return False
        return len(self._tokens.prompt_ids(question.instruction)) + self._sampling.max_new_tokens > self._limit

    def _ask(self, questions: Sequence[Prompt], told: dict[str, tuple[Response, ...] | str], advance: Advance) -> None:
        """What the judge says of each question, or why nothing, into `told`.

        A server that refuses one question stops the sampler: the others are asked without it, in halves. A sampler
        that keeps answers asks none of them twice.
        """
        if not questions:
            return
        try:
            found: Sequence[SampledPrompt | GaveUp] = self._sampler.sample(questions, self._sampling, advance=advance)
        except Unanswered as missing:
            found = missing.found
        except Refused as refusal:
            self._refusal = refusal
            if len(questions) == 1:
                told[questions[0].id] = "refused"
                return
            half = (len(questions) + 1) // 2
            self._ask(questions[:half], told, advance)
            self._ask(questions[half:], told, advance)
            return
        for question, one in zip(questions, found, strict=True):
            told[question.id] = "no-answer" if isinstance(one, GaveUp) else one.responses

    def _rating(self, said: tuple[Response, ...] | str) -> float | None:
        """The mean of what could be read; counts what could not."""
        if isinstance(said, str):
            self.failures[said] += 1
            return None
        draws = ["cut" if draw.finish_reason == "length" else parse_points(draw.text) for draw in said]
        points = [draw for draw in draws if isinstance(draw, float)]
        unread = [draw for draw in draws if isinstance(draw, str)]
        if not points:
            self.failures[unread[0]] += 1
            return None
        self.left_out.update(unread)
        return sum(points) / len(points)


class _Progress:
    """Draws of a sampler told on as responses: never more than there are, and in the end all of them."""

    def __init__(self, *, total: int, draws: int, advance: Advance) -> None:
        self._total = total
        self._draws = draws
        self._advance = advance
        self._n_drawn = self._n_told = 0

    def drawn(self, n: int) -> None:
        """`n` more draws are there; a question that is asked again is drawn again."""
        self._n_drawn += n
        self._tell(min(self._n_drawn // self._draws, self._total))

    def finish(self) -> None:
        """All responses have their rating, or a reason."""
        self._tell(self._total)

    def _tell(self, done: int) -> None:
        self._advance(done - self._n_told)
        self._n_told = done

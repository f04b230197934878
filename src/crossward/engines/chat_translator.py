"""Translating by asking a chat model, through any sampler: the policy itself (the published way), vLLM, a server.

# paper: temperature 0, up to 8,192 new tokens, the translation between tags, which a regular expression reads.
Attempts after the first draw at a temperature, else the same answer would come again. The model is opened when the
first text is there. What is wrong with a translation is for others to find; here an answer without one has a reason.
"""

import hashlib
from collections.abc import Callable, Sequence

from crossward.core.records import Prompt, SampledPrompt
from crossward.core.seeds import derive_seed
from crossward.core.translation import Translation, TranslationTemplate, read_answer
from crossward.engines.endpoint import GaveUp, Refused
from crossward.engines.openai_sampler import Unanswered
from crossward.engines.protocols import Advance, Sampler, Sampling, no_progress

RETRY_TEMPERATURE, RETRY_TOP_P = 0.7, 0.95
ALL_REFUSED = 4  # texts that a server refuses in a row, before one was translated: it refuses whatever it is asked


class ChatTranslator:
    """protocols.Translator over a sampler; `opened` opens it.

    `fits` says whether a request and the `max_new_tokens` of its answer fit into the model.
    """

    def __init__(
        self,
        opened: Callable[[], Sampler],
        template: TranslationTemplate,
        *,
        name: str,
        identity: str,
        max_new_tokens: int = 8192,
        seed: int = 42,
        fits: Callable[[str], bool] = lambda request: True,
    ) -> None:
        self.name = name
        self.identity = identity
        self._opened = opened
        self._template = template
        self._max_new_tokens = max_new_tokens
        self._seed = seed
        self._fits = fits
        self._sampler: Sampler | None = None
        self._refused_in_a_row: int | None = 0  # None once a text was translated

    def translate(
        self, texts: Sequence[str], *, source: str, target: str, attempt: int = 0, advance: Advance = no_progress
    ) -> list[Translation]:
        """Each text in another language, or why not, in their order. Raises ValueError where the server is gone."""
        requests = [self._template.render(text, source=source, target=target) for text in texts]
        prompts = {
            request: Prompt(id=_name(text), language=target, instruction=request, english_instruction=request)
            for text, request in zip(texts, requests, strict=True)
            if self._fits(request)
        }
        advance(len(texts) - len(prompts))
        answers = self._answers(list(prompts.values()), self._sampling(source, attempt), advance)
        too_long = Translation(text=None, problem="too-long")
        found = []
        for text, request in zip(texts, requests, strict=True):
            answer = answers.get(request, too_long)
            if not isinstance(answer, Translation):
                said, ended = answer
                answer = read_answer(said, ended=ended, parse=self._template.parse, source_text=text)
            found.append(answer)
        return found

    def close(self) -> None:
        """Give the model's memory back."""
        if self._sampler is not None:
            self._sampler.close()

    def _sampling(self, source: str, attempt: int) -> Sampling:
        """The sampler adds the prompt's name, which is the text's, and its language, which is the target."""
        return Sampling(
            n=1,
            temperature=RETRY_TEMPERATURE if attempt else 0.0,
            top_p=RETRY_TOP_P if attempt else 1.0,
            max_new_tokens=self._max_new_tokens,
            seed=derive_seed(self._seed, "translate", source, attempt),
        )

    def _answers(
        self, prompts: Sequence[Prompt], sampling: Sampling, advance: Advance
    ) -> dict[str, tuple[str, bool] | Translation]:
        """What was said to each request and whether it ended by itself, or why nothing was.

        A request that is refused or never answered stops none of the others.
        """
        if not prompts:
            return {}
        if self._sampler is None:
            self._sampler = self._opened()
        try:
            groups: Sequence[SampledPrompt | GaveUp] = self._sampler.sample(prompts, sampling, advance=advance)
        except Refused as refusal:
            if len(prompts) > 1:
                half = len(prompts) // 2  # what was answered before the refusal is kept, if the sampler keeps answers
                first = self._answers(prompts[:half], sampling, advance)
                return first | self._answers(prompts[half:], sampling, advance)
            if self._refused_in_a_row is not None:
                self._refused_in_a_row += 1
                if self._refused_in_a_row >= ALL_REFUSED:
                    raise
            advance(1)
            return {prompts[0].instruction: Translation(text=None, problem="refused", draft=str(refusal)[:300])}
        except Unanswered as missing:
            groups = missing.found
        if any(isinstance(group, SampledPrompt) for group in groups):
            self._refused_in_a_row = None
        found: dict[str, tuple[str, bool] | Translation] = {}
        for prompt, group in zip(prompts, groups, strict=True):
            if isinstance(group, GaveUp):
                advance(1)
                found[prompt.instruction] = Translation(text=None, problem="no-answer", draft=group.why[:300])
                continue
            (response,) = group.responses
            found[prompt.instruction] = (response.text, response.finish_reason == "stop")
        return found


def _name(text: str) -> str:
    """A text's name in errors and seeds: its first words and a hash of all.

    >>> _name("Name three animals.")
    'Name three animals. 0ba26bf1'
    """
    words = " ".join(text.split())[:40].strip()
    return f"{words} {hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:8]}"

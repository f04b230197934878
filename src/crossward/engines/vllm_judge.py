"""A judge whose weights are at hand, behind vLLM: the same questions, the verdict from the first token's probabilities.

Deterministic up to vLLM's rounding: one token at temperature 0, its 20 likeliest alternatives by id. Answers are kept
window by window, as they come.
"""

from collections.abc import Sequence
from time import monotonic
from typing import Any

from crossward.core.judging import Answer, NoAnswer, Question, from_logprobs, question_key
from crossward.core.spending import Spending
from crossward.engines.judgement_rows import answer_of, row_of
from crossward.engines.models import model_fingerprint
from crossward.engines.protocols import Advance, KeptRows, ModelSpec, VllmOptions, no_progress
from crossward.engines.tokens import load_tokens
from crossward.engines.vllm_engine import VllmEngine

LIKELIEST = 20  # vLLM's own limit
MAX_TOKENS = 4  # a name, and what a judge may put around it
WINDOW = 256  # questions that a killed run loses at most


class VllmJudge:
    """protocols.Judge over one model in this process. Its key is the content of the weights, not where they lie."""

    def __init__(
        self,
        spec: ModelSpec,
        *,
        kept: KeptRows,
        spending: Spending,
        options: VllmOptions | None = None,
        deadline_s: float | None = None,
    ) -> None:
        self.name = spec.path
        self.spending = spending
        self.stopped: str | None = None
        self._kept = kept
        self._identity = f"{model_fingerprint(spec)} {spec.dtype}"
        self._tokens = load_tokens(spec)
        self._deadline = None if deadline_s is None else monotonic() + deadline_s
        self._options = options or VllmOptions()
        self._spec = spec
        self._engine: VllmEngine | None = None

    def ask(self, questions: Sequence[Question], *, advance: Advance = no_progress) -> list[Answer | NoAnswer]:
        """An answer to every question, in their order."""
        found: dict[str, Answer | NoAnswer] = {}
        missing: dict[str, Question] = {}
        for question in questions:
            answer = answer_of(self._kept.get(self._key(question)))
            if answer is None:
                missing[self._key(question)] = question
            else:
                found[self._key(question)] = answer
        advance(len(questions) - len(missing))
        left = list(missing.items())
        for start in range(0, len(left), WINDOW):
            if self._deadline is not None and monotonic() > self._deadline:
                self.stopped = "the deadline has passed"
                found |= {key: NoAnswer(reason="not-asked") for key, _ in left[start:]}
                break
            found |= self._window(left[start : start + WINDOW], advance)
        return [found[self._key(question)] for question in questions]

    def close(self) -> None:
        """End vLLM's processes."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _key(self, question: Question) -> str:
        return question_key(self._identity, question.messages, {"temperature": 0.0})

    def _window(self, asked: Sequence[tuple[str, Question]], advance: Advance) -> dict[str, Answer | NoAnswer]:
        from vllm import SamplingParams  # pyright: ignore[reportMissingImports]

        if self._engine is None:
            self._engine = VllmEngine(self._spec, options=self._options, max_logprobs=LIKELIEST)
        room = self._engine.room - MAX_TOKENS
        ids = {key: self._tokens.messages_ids(question.messages) for key, question in asked}
        long = {
            key: NoAnswer(reason="refused", detail=f"{len(own)} tokens, {room} fit")
            for key, own in ids.items()
            if len(own) > room
        }
        fitting = [(key, question) for key, question in asked if key not in long]
        params = SamplingParams(temperature=0.0, max_tokens=MAX_TOKENS, logprobs=LIKELIEST, detokenize=False)
        outputs = self._engine.generate([ids[key] for key, _ in fitting], [params] * len(fitting), advance=advance)
        advance(len(long))
        found: dict[str, Answer | NoAnswer] = dict(long)
        for (key, question), output in zip(fitting, outputs, strict=True):
            (completion,) = output.outputs
            self.spending.add(len(ids[key]), len(completion.token_ids))
            answer = from_logprobs([self._likely(position) for position in completion.logprobs or []])
            text = self._tokens.decode(completion.token_ids)
            if answer is None:
                found[key] = NoAnswer(reason="unreadable", detail=f"its answer names neither model: {text!r}")
                continue
            more = {"judge": self.name, "prompt_tokens": len(ids[key]), "completion_tokens": len(completion.token_ids)}
            self._kept.put(key, row_of(answer, text=text, name=question.name) | more)
            found[key] = answer
        return found

    def _likely(self, position: Any) -> dict[str, float]:
        """Likely tokens as the vocabulary spells them, with their log-probabilities (nats)."""
        tokens = list(position)
        return {
            name: float(position[token].logprob) for token, name in zip(tokens, self._tokens.names(tokens), strict=True)
        }

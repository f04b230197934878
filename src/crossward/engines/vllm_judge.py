"""A judge whose weights are at hand, behind vLLM: the same questions, the verdict from the first token's probabilities.

Deterministic up to vLLM's rounding: one token at temperature 0, its 20 likeliest alternatives by id. Questions are
asked in windows, by whatever workers there are; answers are kept here window by window, as they come.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from crossward.core.judging import Answer, NoAnswer, Question, from_logprobs, question_key
from crossward.core.spending import Spending
from crossward.engines.judgement_rows import answer_of, row_of
from crossward.engines.models import model_fingerprint
from crossward.engines.protocols import Advance, KeptRows, ModelSpec, VllmOptions, no_progress
from crossward.engines.tokens import ChatTokens, load_tokens
from crossward.engines.vllm_engine import VllmEngine
from crossward.engines.workers import IN_PROCESS, Crew, Piece, Step, Workers

LIKELIEST = 20  # vLLM's own limit
MAX_TOKENS = 4  # a name, and what a judge may put around it
WINDOW = 256  # questions that a killed run loses at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Window(Piece):
    """Questions that are asked together."""

    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What the judge said to one question: its answer, or why there is none; its text; tokens in and out."""

    answer: Answer | NoAnswer
    text: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0


class VllmJudge:
    """protocols.Judge over one model. Its key is the content of the weights, not where they lie."""

    def __init__(
        self,
        spec: ModelSpec,
        *,
        kept: KeptRows,
        spending: Spending,
        options: VllmOptions | None = None,
        deadline_s: float | None = None,
        workers: Workers = IN_PROCESS,
    ) -> None:
        self.name = spec.path
        self.spending = spending
        self.stopped: str | None = None
        self._kept = kept
        self._identity = f"{model_fingerprint(spec)} {spec.dtype}"
        self._deadline = None if deadline_s is None else monotonic() + deadline_s
        opened = partial(_Asked, spec, options or VllmOptions())
        self._step = Step(name="judge", open=opened, do=_answer_window)
        self._workers = workers
        self._opened = ExitStack()
        self._crew: Crew | None = None

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
        found |= self._ask_missing(list(missing.values()), advance)
        return [found.get(self._key(question), NoAnswer(reason="not-asked")) for question in questions]

    def close(self) -> None:
        """End vLLM's processes."""
        self._opened.close()
        self._crew = None

    def _key(self, question: Question) -> str:
        return question_key(self._identity, question.messages, {"temperature": 0.0})

    def _ask_missing(self, questions: Sequence[Question], advance: Advance) -> dict[str, Answer | NoAnswer]:
        """What there is an answer to, or none that can be had, before the deadline."""
        windows = [
            Window(language="all", index=place, target=Path(), n=len(asked), questions=tuple(asked))
            for place, asked in enumerate(
                questions[start : start + WINDOW] for start in range(0, len(questions), WINDOW)
            )
        ]
        found: dict[str, Answer | NoAnswer] = {}
        if not windows or self._is_over():
            return found
        if self._crew is None:
            self._crew = self._opened.enter_context(self._workers.crew([self._step]))
        for window, said in self._crew.stream(windows, advance_of=lambda window: advance):
            assert isinstance(window, Window)
            for question, each in zip(window.questions, said, strict=True):
                self._keep(question, each)
                found[self._key(question)] = each.answer
            if len(found) < len(questions) and self._is_over():
                break
        return found

    def _is_over(self) -> bool:
        if self._deadline is not None and monotonic() > self._deadline:
            self.stopped = "the deadline has passed"
            return True
        return False

    def _keep(self, question: Question, said: Said) -> None:
        if said.prompt_tokens:
            self.spending.add(said.prompt_tokens, said.completion_tokens)
        if isinstance(said.answer, Answer):
            more = {
                "judge": self.name,
                "prompt_tokens": said.prompt_tokens,
                "completion_tokens": said.completion_tokens,
            }
            self._kept.put(self._key(question), row_of(said.answer, text=said.text, name=question.name) | more)


class _Asked:
    """The engine of the step."""

    def __init__(self, spec: ModelSpec, options: VllmOptions) -> None:
        self.tokens = load_tokens(spec)
        self.engine = VllmEngine(spec, options=options, max_logprobs=LIKELIEST)

    def close(self) -> None:
        self.engine.close()


def _answer_window(asked: _Asked, window: Piece, nothing: None, advance: Advance) -> list[Said]:
    """What the judge says to each question of a window, in their order."""
    from vllm import SamplingParams  # pyright: ignore[reportMissingImports]

    assert isinstance(window, Window)
    room = asked.engine.room - MAX_TOKENS
    ids = [asked.tokens.messages_ids(question.messages) for question in window.questions]
    fitting = [own for own in ids if len(own) <= room]
    params = SamplingParams(temperature=0.0, max_tokens=MAX_TOKENS, logprobs=LIKELIEST, detokenize=False)
    outputs = iter(asked.engine.generate(fitting, [params] * len(fitting), advance=advance))
    advance(len(ids) - len(fitting))
    return [
        _said(asked.tokens, len(own), next(outputs))
        if len(own) <= room
        else Said(answer=NoAnswer(reason="refused", detail=f"{len(own)} tokens, {room} fit"))
        for own in ids
    ]


def _said(tokens: ChatTokens, prompt_tokens: int, output: Any) -> Said:
    (completion,) = output.outputs
    answer = from_logprobs([_likely(tokens, position) for position in completion.logprobs or []])
    text = tokens.decode(completion.token_ids)
    return Said(
        answer=answer or NoAnswer(reason="unreadable", detail=f"its answer names neither model: {text!r}"),
        text=text,
        prompt_tokens=prompt_tokens,
        completion_tokens=len(completion.token_ids),
    )


def _likely(tokens: ChatTokens, position: Any) -> dict[str, float]:
    """Likely tokens as the vocabulary spells them, with their log-probabilities (nats)."""
    ids = list(position)
    return {name: float(position[token].logprob) for token, name in zip(ids, tokens.names(ids), strict=True)}

"""A policy's answers to MT-Bench: the first question, then the second in one conversation with the model's own answer.

One sample each, at the category's temperature, its seed from (seed, language, question, turn). Answers are kept as
they come, so that the same call again continues. How they are graded is in mt_bench.py.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from crossward.core.mt_bench import TURNS, Question
from crossward.core.records import FollowUp, Prompt, Response
from crossward.engines.endpoint import Endpoint
from crossward.engines.protocols import Advance, ModelSpec, Sampler, Sampling, no_progress
from crossward.pipeline.kept_sampler import KeptSampler
from crossward.pipeline.progress import Progress
from crossward.store.answers import Answers

WINDOW = 32  # questions that are answered together, and lost together where a process is killed


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedPolicy:
    """Who answers: a checkpoint, or a server (`spec` is then what it serves, if that is at hand).

    `engine` is auto, transformers, vllm or openai.
    """

    spec: ModelSpec | None
    engine: str
    endpoint: Endpoint | None = None
    batch_rows: int = 64
    max_new_tokens: int = 1024
    seed: int = 42

    @property
    def name(self) -> str:
        """What tables and files call it."""
        if self.endpoint is not None:
            return self.endpoint.model
        assert self.spec is not None
        return self.spec.path


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """Both answers to a question, and which of them the limit of tokens cut."""

    turns: tuple[str, str]
    cut: tuple[bool, bool] = (False, False)


def ask_policy(
    questions: Mapping[str, Sequence[Question]], policy: AskedPolicy, *, kept: Path, progress: Progress
) -> dict[str, dict[str, Answered]]:
    """Answers by language and question id; those in the file `kept` are not sampled again."""
    from crossward.engines.models import settle

    settle()
    asked = [question for group in questions.values() for question in group]
    with (
        closing(_sampler(policy, kept, progress)) as sampler,
        progress.task("answers", len(TURNS) * len(asked)) as advance,
    ):
        found = answer_questions(
            asked, sampler, max_new_tokens=policy.max_new_tokens, seed=policy.seed, advance=advance
        )
    return {
        language: {question.id: found[language, question.id] for question in group}
        for language, group in questions.items()
    }


def answer_questions(
    questions: Sequence[Question], sampler: Sampler, *, max_new_tokens: int, seed: int, advance: Advance = no_progress
) -> dict[tuple[str, str], Answered]:
    """Answers by (language, question id), of questions in any languages."""
    first = _sampled({_key(q): _first(q) for q in questions}, questions, sampler, max_new_tokens, seed, advance)
    follow_ups = {_key(q): _second(q, first[_key(q)].text) for q in questions}
    second = _sampled(follow_ups, questions, sampler, max_new_tokens, seed, advance)
    return {
        key: Answered(
            turns=(first[key].text, second[key].text),
            cut=(first[key].finish_reason == "length", second[key].finish_reason == "length"),
        )
        for key in map(_key, questions)
    }


def _sampled(
    prompts: Mapping[tuple[str, str], Prompt],
    questions: Sequence[Question],
    sampler: Sampler,
    max_new_tokens: int,
    seed: int,
    advance: Advance,
) -> dict[tuple[str, str], Response]:
    """One response to each prompt, at the temperature of its question."""
    responses: dict[tuple[str, str], Response] = {}
    for temperature in sorted({question.temperature for question in questions}):
        keys = [_key(question) for question in questions if question.temperature == temperature]
        sampling = Sampling(n=1, temperature=temperature, top_p=1.0, max_new_tokens=max_new_tokens, seed=seed)
        for key, group in zip(
            keys, sampler.sample([prompts[key] for key in keys], sampling, advance=advance), strict=True
        ):
            (responses[key],) = group.responses
    return responses


def _key(question: Question) -> tuple[str, str]:
    return question.language, question.id


def _first(question: Question) -> Prompt:
    return Prompt(
        id=f"{question.id}, turn 1",
        language=question.language,
        instruction=question.turns[0],
        english_instruction=question.turns[0],  # no reward is computed: a twin is not needed
    )


def _second(question: Question, answer: str) -> FollowUp:
    return FollowUp(
        id=f"{question.id}, turn 2",
        language=question.language,
        instruction=question.turns[1],
        english_instruction=question.turns[1],
        earlier=(question.turns[0], answer),
    )


def _sampler(policy: AskedPolicy, kept: Path, progress: Progress) -> Sampler:
    # Imported late: answers that are there are graded without torch.
    from crossward.engines.models import model_fingerprint
    from crossward.engines.tokens import load_tokens
    from crossward.pipeline.choose import endpoint_sampler, local_sampler, resolved

    if policy.endpoint is not None:
        return endpoint_sampler(policy.endpoint, policy.spec, answers=kept, progress=progress)
    spec = policy.spec
    if spec is None:
        raise ValueError("name the model to grade with --policy, a server with --engine openai, or --answers")
    engine = resolved(policy.engine, spec)
    return KeptSampler(
        lambda: local_sampler(engine, spec, load_tokens(spec), batch_rows=policy.batch_rows),
        Answers(kept),
        origin=[model_fingerprint(spec), spec.dtype, spec.device, engine, policy.batch_rows],
        window=WINDOW,
    )

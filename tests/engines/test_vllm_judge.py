"""The judge behind vLLM against transformers on a tiny random model; what was answered is not asked again."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.families import make_family

from crossward.core.judging import Answer, NoAnswer, Question, from_logprobs
from crossward.core.spending import Budget, Spending
from crossward.engines import vllm_judge
from crossward.engines.models import load_model
from crossward.engines.protocols import ModelSpec, VllmOptions, no_progress
from crossward.engines.tokens import load_tokens
from crossward.engines.vllm_engine import vllm_problem
from crossward.engines.vllm_judge import LIKELIEST, Said, VllmJudge, Window
from crossward.engines.workers import AdvanceOf, Piece, Step
from crossward.store.keyed_lines import KeyedLines

QUESTIONS = [Question(messages=({"role": "user", "content": f"Say {i} the thing"},), name=f"q{i}") for i in range(40)]


class Backwards:
    """Workers that need no vLLM: the last window is answered first, each question by its number."""

    here = False

    @contextmanager
    def crew(self, steps: Sequence[Step]) -> Iterator["Backwards"]:
        yield self

    def stream(
        self, pieces: Iterable[Piece], *, advance_of: AdvanceOf = lambda piece: no_progress
    ) -> Iterator[tuple[Piece, list[Said]]]:
        for window in reversed(list(pieces)):
            assert isinstance(window, Window)
            advance_of(window)(window.n)
            answers = [
                Answer(second_better=int(question.name[1:]) / 100, source="logprobs") for question in window.questions
            ]
            yield window, [Said(answer=answer, prompt_tokens=5, completion_tokens=1) for answer in answers]

    def scorer(self, *asked: Any, **named: Any) -> Any:
        raise AssertionError("a judge is no scorer")


def test_windows_in_any_order_until_the_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(vllm_judge, "WINDOW", 16)
    now = iter([0.0, 1.0, 2.0, 60.0])  # begun; before the first window; behind it; behind the second
    monkeypatch.setattr(vllm_judge, "monotonic", lambda: next(now))
    spec = ModelSpec(path=str(make_family("chatml", tmp_path / "m")), dtype="float32", device="cpu")
    seen: list[int] = []
    spending = Spending(budget=Budget())
    with KeyedLines(tmp_path / "j.jsonl") as kept:
        judge = VllmJudge(spec, kept=kept, spending=spending, deadline_s=50.0, workers=Backwards())
        found = judge.ask(QUESTIONS, advance=seen.append)
        assert judge.stopped == "the deadline has passed"
        assert all(answer == NoAnswer(reason="not-asked") for answer in found[:16])
        assert [answer.second_better for answer in found[16:] if isinstance(answer, Answer)] == [
            k / 100 for k in range(16, 40)
        ]
        assert seen == [0, 8, 16]
        judge = VllmJudge(spec, kept=kept, spending=spending, workers=Backwards())
        again = judge.ask(QUESTIONS, advance=seen.append)
        assert seen[3:] == [24, 16], "what was answered is not asked again"
        assert again[16:] == found[16:]
        assert [answer.second_better for answer in again[:16] if isinstance(answer, Answer)] == [
            k / 100 for k in range(16)
        ]


@pytest.mark.skipif(vllm_problem("cpu") is not None, reason="vLLM is not installed for the CPU")
def test_it_reads_what_transformers_computes_and_keeps_it(tmp_path: Path):
    spec = ModelSpec(path=str(make_family("chatml", tmp_path / "m", head_size=32)), dtype="float32", device="cpu")
    seen: list[int] = []

    def ask(questions: list[Question]) -> list[Answer | NoAnswer]:
        with KeyedLines(tmp_path / "j.jsonl") as kept:
            options = VllmOptions(cpu_cache_gib=0.125)
            judge = VllmJudge(spec, kept=kept, spending=Spending(budget=Budget()), options=options)
            try:
                return judge.ask(questions, advance=seen.append)
            finally:
                judge.close()

    found = ask(QUESTIONS)
    assert sum(seen) == len(QUESTIONS)
    tokens, model = load_tokens(spec), load_model(spec)
    read = 0
    for question, answer in zip(QUESTIONS, found, strict=True):
        ids = tokens.messages_ids(question.messages)
        with torch.no_grad():
            logprobs = model(torch.tensor([ids])).logits[0, -1].float().log_softmax(-1)
        top = logprobs.topk(LIKELIEST)
        names = tokens.names(top.indices.tolist())
        expected = from_logprobs([dict(zip(names, top.values.tolist(), strict=True))])
        if isinstance(answer, Answer) and expected is not None:
            assert answer.second_better == pytest.approx(expected.second_better, abs=1e-4)
            read += 1
    answered = [q for q, answer in zip(QUESTIONS, found, strict=True) if isinstance(answer, Answer)]
    assert len((tmp_path / "j.jsonl").read_text().splitlines()) == len(answered)
    assert ask(answered) == [answer for answer in found if isinstance(answer, Answer)]
    assert read > 0

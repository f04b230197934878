"""The judge behind vLLM against transformers on a tiny random model; what was answered is not asked again."""

from pathlib import Path

import pytest
import torch
from tests.support.families import make_family

from crossward.core.judging import Answer, NoAnswer, Question, from_logprobs
from crossward.core.spending import Budget, Spending
from crossward.engines.models import load_model
from crossward.engines.protocols import ModelSpec, VllmOptions
from crossward.engines.tokens import load_tokens
from crossward.engines.vllm_engine import vllm_problem
from crossward.engines.vllm_judge import LIKELIEST, VllmJudge
from crossward.store.keyed_lines import KeyedLines

pytestmark = pytest.mark.skipif(vllm_problem("cpu") is not None, reason="vLLM is not installed for the CPU")
QUESTIONS = [Question(messages=({"role": "user", "content": f"Say {i} the thing"},), name=f"q{i}") for i in range(40)]


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

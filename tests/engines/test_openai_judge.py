"""The judge behind a real HTTP server that fails in every way: nothing lost, asked twice, or kept wrongly."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.chat_server import Answer, ChatServer, Reply, Request, chat_server
from tests.support.judge_server import fair, faulty, named, p_second

from crossward.core.judging import Answer as Verdict
from crossward.core.judging import NoAnswer, Question
from crossward.core.spending import Budget, Spending
from crossward.engines.endpoint import Endpoint
from crossward.engines.openai_judge import DEAD, OPEN, PROBE, UNREADABLE_TRIES, OpenAiJudge
from crossward.store.keyed_lines import KeyedLines

KEY = "sk-secret-123"


@pytest.fixture(autouse=True)
def straight_to_the_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("CROSSWARD_TEST_KEY", KEY)


def questions(n: int) -> list[Question]:
    return [Question(messages=({"role": "user", "content": f"question {i}"},), name=f"q{i}") for i in range(n)]


class Bench:
    """A judge with its journal; every call opens both anew, as a run does."""

    def __init__(self, folder: Path, server: ChatServer, budget: Budget | None = None, **changes: Any) -> None:
        self.said: list[str] = []
        self.seen: list[int] = []
        endpoint = Endpoint(base_url=server.base_url, model="judge", concurrency=4, timeout_s=5, attempts=8)
        self._endpoint = replace(endpoint, first_pause_s=0.01, **changes)
        self._budget = budget or Budget()
        self._journal = folder / "judgements.jsonl"
        self.judge: OpenAiJudge

    def ask(self, asked: list[Question], *, deadline_s: float | None = None) -> list[Verdict | NoAnswer]:
        with KeyedLines(self._journal) as kept:
            spending = Spending(budget=self._budget)
            self.judge = OpenAiJudge(
                self._endpoint, kept=kept, spending=spending, deadline_s=deadline_s, say=self.said.append
            )
            return self.judge.ask(asked, advance=self.seen.append)


def shares(found: list[Verdict | NoAnswer]) -> list[float | None]:
    return [answer.second_better if isinstance(answer, Verdict) else None for answer in found]


def expected(n: int) -> list[float]:
    return [pytest.approx(p_second(f"question {i}")) for i in range(n)]


def test_every_question_gets_its_own_answer_and_is_kept(tmp_path: Path):
    with chat_server(lambda request, before: replace(named(request), delay_s=0.1)) as server:
        bench = Bench(tmp_path, server, api_key_env="CROSSWARD_TEST_KEY")
        assert shares(bench.ask(questions(9))) == expected(9)
        assert (sum(bench.seen), server.busiest, len(server.requests)) == (9, 4, 9)
        assert (bench.judge.spending.prompt_tokens, bench.judge.spending.n_answers) == (900, 9)
        asked = server.requests[0]
        assert (asked["temperature"], asked["logprobs"], asked["max_tokens"]) == (0.0, True, 4)
        assert server.authorizations[0] == f"Bearer {KEY}"
        assert shares(bench.ask(questions(9)[::-1])) == expected(9)[::-1]
        assert len(server.requests) == 9
        assert bench.judge.spending.n_answers == 0
    journal = (tmp_path / "judgements.jsonl").read_text()
    assert KEY not in journal
    row = json.loads(journal.splitlines()[0])
    assert row["judge"] == "judge"
    assert row["url"] == f"{server.base_url}/chat/completions"
    assert row["source"] == "logprobs"


FAULTS = {
    "429": Reply(status=429, body={}, headers={"retry-after": "0.05"}),
    "429 without a word": Reply(status=429, body="slow down"),
    "500": Reply(status=500, body="oops"),
    "dropped": Reply(drop=True),
    "late": Reply(body={}, delay_s=0.6),
    "truncated": Reply(body='{"choices": [{"mess'),
    "no logprobs": "no logprobs",
    "other language": Reply(body={"choices": [{"message": {"content": "Lo siento"}}]}),
    "other tokens": Reply(
        body={
            "choices": [
                {
                    "message": {"content": "Lo"},
                    "logprobs": {"content": [{"top_logprobs": [{"token": "Lo", "logprob": -0.1}]}]},
                }
            ]
        }
    ),
    "empty": Reply(body={"choices": [{"message": {"content": ""}}]}),
    "null": Reply(body={"choices": [{"message": None}]}),
    "no choices": Reply(body={"choices": []}),
    "a list": Reply(body=[1, 2]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_a_request_and_no_verdict(tmp_path: Path, fault: str):
    with chat_server(faulty(FAULTS[fault])) as server:
        bench = Bench(tmp_path, server, timeout_s=0.3, concurrency=1)
        assert shares(bench.ask(questions(3))) == expected(3)
        assert len(server.requests) == 4
    lines = (tmp_path / "judgements.jsonl").read_text().splitlines()
    assert len(lines) == 3
    assert {json.loads(line)["source"] for line in lines} == {"logprobs"}


def test_an_endpoint_without_logprobs_is_taken_at_its_letter_and_said_so(tmp_path: Path):
    with chat_server(lambda request, before: named(request, logprobs=False)) as server:
        bench = Bench(tmp_path, server)
        n = 40
        found = bench.ask(questions(n))
        assert shares(found) == [float(p_second(f"question {i}") > 0.5) for i in range(n)]
        assert {answer.source for answer in found if isinstance(answer, Verdict)} == {"letter"}
        assert len(server.requests) <= n + PROBE
    assert sum("gives no log-probabilities" in line for line in bench.said) == 1


@pytest.mark.parametrize(
    ("word", "gone", "there"),
    [
        ("logprobs", "logprobs", None),
        ("temperature", "temperature", None),
        ("use max_completion_tokens", "max_tokens", "max_completion_tokens"),
    ],
)
def test_a_setting_that_a_server_refuses_is_left_out(tmp_path: Path, word: str, gone: str, there: str | None):
    def refusing(request: Request, before: int) -> Reply:
        if gone in request:
            return Reply(status=400, body={"error": f"unsupported: {word}"})
        return named(request, logprobs="logprobs" in request)

    with chat_server(refusing) as server:
        found = Bench(tmp_path, server, concurrency=1).ask(questions(4))
        assert all(isinstance(answer, Verdict) for answer in found)
        assert gone not in server.requests[-1]
        assert there is None or there in server.requests[-1]
        assert len(server.requests) <= 6


def test_what_has_no_answer_is_null_with_its_reason_not_kept_and_asked_again(tmp_path: Path):
    broken: dict[str, Reply] = {
        "question 1": Reply(body={"choices": [{"message": {"content": "Neither of them."}}]}),
        "question 2": Reply(status=400, body={"error": "the prompt is too long"}),
        "question 3": Reply(status=500, body="oops"),
    }

    def partly(request: Request, before: int) -> Reply:
        return broken.get(request["messages"][-1]["content"]) or named(request)

    with chat_server(partly) as server:
        bench = Bench(tmp_path, server)
        found = bench.ask(questions(5))
        assert [answer.reason if isinstance(answer, NoAnswer) else "" for answer in found] == [
            "", "unreadable", "refused", "failed", "",
        ]  # fmt: skip
        assert bench.judge.stopped is None
        count = [sum(r["messages"][-1]["content"] == f"question {i}" for r in server.requests) for i in range(5)]
        assert count == [1, UNREADABLE_TRIES, 1, 8, 1]
        broken.clear()
        asked = len(server.requests)
        assert shares(bench.ask(questions(5))) == expected(5)
        assert len(server.requests) - asked == 3


def test_a_wrong_key_stops_at_once_and_is_not_shown(tmp_path: Path):
    refusal = Reply(status=401, body={"error": f"bad key {KEY}"})
    with chat_server(lambda request, before: refusal) as server:
        bench = Bench(tmp_path, server, api_key_env="CROSSWARD_TEST_KEY")
        found = bench.ask(questions(50))
        assert bench.judge.stopped is not None
        assert "HTTP 401" in bench.judge.stopped
        assert KEY not in bench.judge.stopped
        assert len(server.requests) <= 4
    assert all(isinstance(answer, NoAnswer) for answer in found)


def test_a_server_that_is_gone_is_given_up(tmp_path: Path):
    with chat_server(lambda request, before: Reply(status=503, body="down")) as server:
        bench = Bench(tmp_path, server, attempts=2)
        bench.ask(questions(60))
        assert bench.judge.stopped is not None
        assert f"{DEAD} questions in a row got no answer" in bench.judge.stopped
        assert len(server.requests) <= 2 * OPEN * 4  # slots


def test_a_budget_stops_and_the_next_run_goes_on(tmp_path: Path):
    with chat_server(fair) as server:
        bench = Bench(tmp_path, server, Budget(max_tokens=450))
        first = [answer for answer in bench.ask(questions(20)) if isinstance(answer, Verdict)]
        assert bench.judge.stopped == "the budget is spent"
        assert bench.judge.spending.prompt_tokens <= 450 + 4 * 100  # those on their way took more than was thought
        assert 1 <= len(first) == len(server.requests) < 20
        assert shares(Bench(tmp_path, server).ask(questions(20))) == expected(20)
        assert len(server.requests) == 20


def test_what_was_thought_too_much_is_given_back(tmp_path: Path):
    long = [Question(messages=({"role": "user", "content": f"{i}" * 4000},), name=f"q{i}") for i in range(9)]
    with chat_server(fair) as server:  # about 1,004 tokens are thought of each, 101 are said to be taken
        bench = Bench(tmp_path, server, Budget(max_tokens=2500), concurrency=1)
        assert all(isinstance(answer, Verdict) for answer in bench.ask(long))
    assert bench.judge.stopped is None


def test_a_deadline_lets_what_is_on_its_way_arrive(tmp_path: Path):
    slow: Answer = lambda request, before: replace(named(request), delay_s=1.5)  # noqa: E731
    with chat_server(slow) as server:
        bench = Bench(tmp_path, server)
        found = bench.ask(questions(20), deadline_s=1.0)
        assert bench.judge.stopped == "the deadline has passed"
        assert sum(isinstance(answer, Verdict) for answer in found) == len(server.requests) == 4
    assert len((tmp_path / "judgements.jsonl").read_text().splitlines()) == 4

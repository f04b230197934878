"""The judge against a real HTTP server that fails in every way: no rating is lost, invented, or paid for twice."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.chat_server import ChatServer, Reply, Request, chat_server, choices

from crossward.core.seeds import derive_seed
from crossward.engines.endpoint import Endpoint
from crossward.engines.mt_bench_judge import GONE_AFTER, Grading, MtBenchJudge, ToGrade
from crossward.store.keyed_lines import KeyedLines

GRADING = Grading(max_tokens=256, tries=3, seed=7)
KEY = "sk-secret-123"


@pytest.fixture(autouse=True)
def straight_to_the_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("CROSSWARD_TEST_KEY", KEY)


def to_grade(n: int, language: str = "es") -> list[ToGrade]:
    return [
        ToGrade(question_id=str(81 + k // 2), language=language, turn=k % 2 + 1, message=f"grade {k}") for k in range(n)
    ]


def said(text: str, **more: Any) -> Reply:
    reply = choices(text, **more)
    reply.body["usage"] = {"prompt_tokens": 100, "completion_tokens": 11}
    return reply


def rated(request: Request, before: int) -> Reply:
    """Message "grade 3" gets the rating 4,5."""
    return said(f"Bien, [1]. Rating: [[{int(request['messages'][0]['content'].split()[1]) % 9 + 1},5]]")


def endpoint_at(server: ChatServer, **changes: Any) -> Endpoint:
    judge = Endpoint(base_url=server.base_url, model="judge", concurrency=4, attempts=3, first_pause_s=0.01)
    return replace(judge, **changes)


def grade(server: ChatServer, path: Path, asked: list[ToGrade], grading: Grading = GRADING, **changes: Any) -> Any:
    with KeyedLines(path) as kept:
        return MtBenchJudge(endpoint_at(server, **changes), grading, kept=kept).grade(asked)


def test_each_answer_is_asked_for_once_greedily_with_a_seed_of_its_own(tmp_path: Path):
    seen: list[int] = []
    path = tmp_path / "ratings.jsonl"
    with chat_server(rated) as server, KeyedLines(path) as kept:
        judge = MtBenchJudge(endpoint_at(server, api_key_env="CROSSWARD_TEST_KEY"), GRADING, kept=kept)
        graded = judge.grade(to_grade(6), advance=seen.append)
    assert [item.value for item in graded] == [1.5, 2.5, 3.5, 4.5, 5.5, 6.5]
    assert all((item.reason, item.tokens, item.fresh) == (None, 111, True) for item in graded)
    assert sum(seen) == len(server.requests) == 6
    assert {request["messages"][0]["content"]: request["seed"] for request in server.requests} == {
        item.message: derive_seed(7, "es", item.question_id, item.turn, 0) % 2**31 for item in to_grade(6)
    }
    for request in server.requests:
        assert {"model": "judge", "temperature": 0.0, "max_tokens": 256}.items() <= request.items()
        assert [message["role"] for message in request["messages"]] == ["user"]
    assert set(server.authorizations) == {f"Bearer {KEY}"}
    assert KEY not in path.read_text()
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert {(row["question_id"], row["turn"], row["rating"]) for row in rows} == {
        (item.question_id, item.turn, found.value) for item, found in zip(to_grade(6), graded, strict=True)
    }


FAULTS = {
    "busy": Reply(status=429, body={"error": {"message": "slow down"}}, headers={"retry-after": "0"}),
    "down": Reply(status=500, body="<html>oops</html>"),
    "gone": Reply(drop=True),
    "torn": Reply(body='{"choices": [{"message": {"content": "[[9'),
    "no choices": Reply(body={"choices": []}),
    "a list": Reply(body=[1]),
    "no rating": said("Very good, 8 of 10."),
    "citation": said("As [1] says. Rating: 8"),
    "too high": said("Rating: [[15]]"),
    "empty": said(""),
    "none": choices(None, reason="content_filter"),
    "cut": said("The format is [[5]] and", reason="length"),
    "half a pair": Reply(body='{"choices": [{"message": {"content": "\\ud83d"}, "finish_reason": "stop"}]}'),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_asked_again_and_never_kept(tmp_path: Path, fault: str):
    asked: Counter[str] = Counter()

    def at_first(request: Request, before: int) -> Reply:
        message = request["messages"][0]["content"]
        asked[message] += 1
        return FAULTS[fault] if asked[message] == 1 else rated(request, before)

    path = tmp_path / "ratings.jsonl"
    with chat_server(at_first) as server:
        graded = grade(server, path, to_grade(4))
        assert [item.value for item in graded] == [1.5, 2.5, 3.5, 4.5]
        assert set(asked.values()) == {2}
        assert [item.value for item in grade(server, path, to_grade(4))] == [1.5, 2.5, 3.5, 4.5]
        assert len(server.requests) == 8


def test_without_a_rating_other_seeds_are_tried_then_it_is_null_and_the_next_run_asks_again(tmp_path: Path):
    path = tmp_path / "ratings.jsonl"

    def unsure(request: Request, before: int) -> Reply:
        return said("Rating: [[15]]") if request["messages"][0]["content"] == "grade 1" else rated(request, before)

    with chat_server(unsure) as server:
        graded = grade(server, path, to_grade(3))
        seeds = [request["seed"] for request in server.requests if request["messages"][0]["content"] == "grade 1"]
        assert seeds == [derive_seed(7, "es", "81", 2, draw) % 2**31 for draw in range(3)]
    assert [item.value for item in graded] == [1.5, None, 3.5]
    assert path.read_bytes().count(b"\n") == 2, "what is no rating is not kept"
    assert graded[1].reason == "asked 3 times: its rating '15' is outside 1 to 10"
    assert (graded[1].text, graded[1].tokens) == ("Rating: [[15]]", 333)
    with chat_server(rated) as server:
        again = grade(server, path, to_grade(3))
        assert [request["messages"][0]["content"] for request in server.requests] == ["grade 1"]
    assert [item.value for item in again] == [1.5, 2.5, 3.5]
    assert [item.fresh for item in again] == [False, True, False]
    assert [item.tokens for item in again] == [111, 111, 111]


def test_whatever_decides_a_rating_is_in_its_key(tmp_path: Path):
    path = tmp_path / "ratings.jsonl"
    with chat_server(rated) as server:
        (item,) = to_grade(1)
        grade(server, path, [item])
        for changed in (
            replace(item, message="grade 2"),
            replace(item, turn=2),
            replace(item, question_id="x"),
            replace(item, language="en"),
        ):
            grade(server, path, [changed])
        grade(server, path, [item], replace(GRADING, max_tokens=257))
        grade(server, path, [item], replace(GRADING, seed=8))
        grade(server, path, [item], model="other")
        assert len(server.requests) == 8
        grade(server, path, [item], replace(GRADING, tries=9), concurrency=1, timeout_s=5.0)
        assert len(server.requests) == 8


def test_one_that_always_fails_is_null_and_the_others_are_rated(tmp_path: Path):
    def failing(request: Request, before: int) -> Reply:
        match request["messages"][0]["content"]:
            case "grade 1":
                return Reply(status=503, body="overloaded")
            case "grade 2":
                return Reply(status=400, body={"error": "maximum context length is 4096 tokens"})
        return rated(request, before)

    with chat_server(failing) as server:
        graded = grade(server, tmp_path / "ratings.jsonl", to_grade(4))
    assert [item.value for item in graded] == [1.5, None, None, 4.5]
    assert graded[1].reason == "HTTP 503: overloaded"
    assert "maximum context length is 4096 tokens" in str(graded[2].reason)
    assert Counter(request["messages"][0]["content"] for request in server.requests)["grade 1"] == 3


def test_a_server_that_is_gone_stops_the_run_before_everything_was_tried(tmp_path: Path):
    path = tmp_path / "ratings.jsonl"
    with chat_server(lambda request, before: Reply(drop=True)) as server:
        with pytest.raises(
            ValueError, match=r"no usable answer to question '\d+', turn \d \(es\) in 3 requests"
        ) as stop:
            grade(server, path, to_grade(60), concurrency=2)
        assert "ratings are kept: run the same command again" in str(stop.value)
        assert 3 * GONE_AFTER <= len(server.requests) < 3 * 60
        with pytest.raises(ValueError, match="no usable answer to question '81', turn "):
            grade(server, path, to_grade(2))


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_server_that_refuses_everything_is_told(tmp_path: Path, status: int):
    with chat_server(lambda request, before: Reply(status=status, body=f"bad key {KEY}")) as server:
        with pytest.raises(ValueError, match=rf"refuses the request for question .* with HTTP {status}") as caught:
            grade(server, tmp_path / "ratings.jsonl", to_grade(4), api_key_env="CROSSWARD_TEST_KEY")
        assert KEY not in str(caught.value)


def test_a_kept_row_that_holds_no_rating_is_asked_again(tmp_path: Path):
    path = tmp_path / "ratings.jsonl"
    with chat_server(rated) as server:
        grade(server, path, to_grade(2))
        path.write_bytes(path.read_bytes().replace(b"[[2,5]]", b"[[25]]"))
        assert [item.value for item in grade(server, path, to_grade(2))] == [1.5, 2.5]
        assert len(server.requests) == 3


def test_a_server_that_counts_no_tokens(tmp_path: Path):
    with chat_server(lambda request, before: choices("[[8]]")) as server:
        (item,) = grade(server, tmp_path / "ratings.jsonl", to_grade(1))
    assert (item.value, item.tokens) == (8.0, None)

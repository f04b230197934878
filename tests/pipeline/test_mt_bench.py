"""MT-Bench end to end: answers by a model, ratings by a judge that fails, kills and resumes, nothing paid twice."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.chat_server import ChatServer, Reply, Request, chat_server, choices
from tests.support.families import make_family
from tests.support.mt_bench import IDS, arguments, judge, rating_of, shown_turn, write_mt_bench, write_rows

from crossward.core.mt_bench import Question
from crossward.core.records import FollowUp, Prompt, Response, SampledPrompt
from crossward.engines.endpoint import Endpoint
from crossward.engines.mt_bench_judge import Grading
from crossward.engines.protocols import Advance, ModelSpec, Sampling, no_progress
from crossward.pipeline.mt_bench import QuestionFiles, load_questions, mt_bench
from crossward.pipeline.mt_bench_answers import AskedPolicy, answer_questions
from crossward.pipeline.progress import Silent
from crossward.store.mt_bench_files import read_answers


@pytest.fixture(autouse=True)
def straight_to_the_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


class Listening(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


class Echo:
    """A sampler that answers with what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Prompt, Sampling]] = []

    def sample(
        self, prompts: Sequence[Prompt], sampling: Sampling, *, advance: Advance = no_progress
    ) -> list[SampledPrompt]:
        self.asked += [(prompt, sampling) for prompt in prompts]
        advance(len(prompts))
        return [
            SampledPrompt(
                prompt=prompt,
                responses=(Response(text=f"to {prompt.instruction}", finish_reason="length"),),
            )
            for prompt in prompts
        ]

    def close(self) -> None:
        """Nothing to close."""


def files_in(folder: Path, **changes: Any) -> QuestionFiles:
    files = QuestionFiles(
        questions=str(folder / "q" / "{language}.jsonl"),
        references=str(folder / "r" / "{language}.jsonl"),
        languages=("en", "es"),
    )
    return replace(files, **changes)


def graded(folder: Path, server: ChatServer, output: Path, **changes: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "files": files_in(folder),
        "answers": str(folder / "a" / "{language}.jsonl"),
        "policy": None,
        "judge": Endpoint(base_url=server.base_url, model="J", concurrency=4, attempts=4, first_pause_s=0.01),
        "grading": Grading(max_tokens=64, tries=3),
        "progress": Silent(),
    }
    return mt_bench(output, **(settings | changes))


def without_run(summary: dict[str, Any]) -> dict[str, Any]:
    """A summary without what only this run spent, as JSON gives it back."""
    return json.loads(json.dumps({key: value for key, value in summary.items() if key != "tokens_this_run"}))


def test_the_table_is_the_arithmetic_of_the_ratings(tmp_path: Path):
    folder = write_mt_bench(tmp_path)
    with chat_server(judge) as server:
        summary = graded(folder, server, tmp_path / "out")
    assert len(server.requests) == 16
    for language, found in summary["languages"].items():
        ratings = {(id, turn): rating_of(language, id, turn) for id in IDS for turn in (1, 2)}
        assert found["mean"] == pytest.approx(sum(ratings.values()) / 8)
        assert found["turns"][2]["mean"] == pytest.approx(sum(ratings[id, 2] for id in IDS) / 4)
        assert found["categories"]["math"]["mean"] == pytest.approx((ratings[111, 1] + ratings[111, 2]) / 2)
        assert found["questions"]["81"] == pytest.approx((ratings[81, 1] + ratings[81, 2]) / 2)
        assert (found["n_rated"], found["n_null"], found["tokens"]) == (8, 0, 8 * 42)
    assert summary["all"]["n_rated"] == 16
    assert (summary["tokens"], summary["tokens_this_run"]) == (16 * 42, 16 * 42)
    assert json.loads((tmp_path / "out" / "scores.json").read_text()) == json.loads(json.dumps(summary))
    rows = [json.loads(line) for line in (tmp_path / "out" / "ratings.jsonl").read_bytes().splitlines()]
    assert [(row["language"], row["question_id"], row["turn"]) for row in rows] == [
        (language, str(id), turn) for language in ("en", "es") for id in IDS for turn in (1, 2)
    ]
    assert all(row["rating"] == rating_of(row["language"], int(row["question_id"]), row["turn"]) for row in rows)


def test_the_judge_sees_references_and_for_turn_2_the_whole_conversation(tmp_path: Path):
    folder = write_mt_bench(tmp_path)
    with chat_server(judge) as server:
        graded(folder, server, tmp_path / "out")
    shown = {shown_turn(request): request["messages"][0]["content"] for request in server.requests}
    assert all(text in shown["es", 111, 2] for text in ("es Q111.1", "a111.1", "r111.1", "a111.2", "r111.2"))
    assert "r111.1" in shown["en", 111, 1]
    assert "a111.2" not in shown["en", 111, 1]
    assert "r111.2" not in shown["en", 111, 1]
    assert "right_answer" not in shown["en", 81, 2]
    assert "written in Spanish" in shown["es", 81, 1]


def faulty(seed: int) -> Any:
    """A judge that fails about every other request: each message a few times at most, in every way."""
    faults = [
        Reply(status=429, body={"error": "slow"}, headers={"retry-after": "0"}),
        Reply(status=500, body="oops"),
        Reply(drop=True),
        Reply(body='{"choices": [{"message": {"con'),
        choices("I rate it highly."),
        choices("[[15]]"),
    ]
    drawn, failed = random.Random(seed), Counter[str]()

    def answer(request: Request, before: int) -> Reply:
        message = request["messages"][0]["content"]
        if failed[message] < 2 and drawn.random() < 0.6:
            failed[message] += 1
            return drawn.choice(faults)
        return judge(request, before)

    return answer


def test_a_failing_judge_gives_the_same_table(tmp_path: Path):
    folder = write_mt_bench(tmp_path)
    with chat_server(judge) as server:
        expected = graded(folder, server, tmp_path / "calm")
    for seed in range(3):
        with chat_server(faulty(seed)) as server:
            found = graded(folder, server, tmp_path / f"out-{seed}")
            asked = len(server.requests)
            again = graded(folder, server, tmp_path / f"out-{seed}")
            assert len(server.requests) == asked
        assert asked > 16
        assert found["languages"]["es"]["mean"] == expected["languages"]["es"]["mean"]
        assert without_run(again) == without_run(found)
        assert [found[key] for key in ("all", "reasons")] == [expected[key] for key in ("all", "reasons")]


def test_nulls_are_told_counted_and_asked_again(tmp_path: Path):
    folder, progress = write_mt_bench(tmp_path), Listening()

    def strange(request: Request, before: int) -> Reply:
        return choices("[[15]]") if shown_turn(request) == ("es", 81, 2) else judge(request, before)

    with chat_server(strange) as server:
        summary = graded(folder, server, tmp_path / "out", progress=progress)
    found = summary["languages"]["es"]
    assert (found["n_rated"], found["n_null"], found["categories"]["writing"]["n_null"]) == (7, 1, 1)
    assert summary["reasons"] == {"asked 3 times: its rating '15' is outside 1 to 10": 1}
    assert progress.lines == ["1 of 16 answers have no rating: run the same command again to ask for them"]
    rows = [json.loads(line) for line in (tmp_path / "out" / "ratings.jsonl").read_bytes().splitlines()]
    assert [row["judgement"] for row in rows if row["rating"] is None] == ["[[15]]"]
    with chat_server(judge) as server:
        summary = graded(folder, server, tmp_path / "out")
        assert [shown_turn(request) for request in server.requests] == [("es", 81, 2)]
    assert summary["languages"]["es"]["n_null"] == 0


def test_killed_half_way_and_run_again_nothing_is_asked_twice_and_the_table_is_the_same(tmp_path: Path):
    folder = write_mt_bench(tmp_path)
    with chat_server(judge) as server:
        expected = graded(folder, server, tmp_path / "calm", grading=Grading(seed=42))
    journal = tmp_path / "out" / "ratings.journal.jsonl"
    with chat_server(lambda request, before: replace(judge(request, before), delay_s=0.05)) as server:
        more = ("--answers", folder / "a" / "{language}.jsonl", "--concurrency", 1, "--json")
        command = [sys.executable, "-m", "crossward", *arguments(folder, server.base_url, tmp_path / "out", *more)]
        kept: list[set[tuple[str, int, int]]] = []
        environment = os.environ | {"NO_PROXY": "127.0.0.1"}
        for goal in (3, 8):
            child = subprocess.Popen([str(part) for part in command], env=environment, stdout=subprocess.DEVNULL)
            deadline = time.monotonic() + 60
            while not journal.exists() or journal.read_bytes().count(b"\n") < goal:
                assert child.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.005)
            child.send_signal(signal.SIGKILL)
            child.wait()
            rows = [json.loads(line) for line in journal.read_bytes().splitlines()]
            kept.append({(row["language"], int(row["question_id"]), row["turn"]) for row in rows})
            asked = len(server.requests)
        done = subprocess.run([str(part) for part in command], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        last = {shown_turn(request) for request in server.requests[asked:]}
    assert 8 <= len(kept[1]) < 16
    assert kept[0] < kept[1]
    assert last | kept[1] == {(language, id, turn) for language in ("en", "es") for id in IDS for turn in (1, 2)}
    assert not last & kept[1]
    assert len(server.requests) <= 18  # each kill may lose the one request that was under way
    found = json.loads(done.stdout)
    assert without_run(found) == without_run(expected | {"model": found["model"]})
    assert (tmp_path / "out" / "ratings.jsonl").read_bytes() == (tmp_path / "calm" / "ratings.jsonl").read_bytes()


def test_a_damaged_line_of_the_journal_costs_one_question_and_is_told(tmp_path: Path):
    folder, progress = write_mt_bench(tmp_path), Listening()
    journal = tmp_path / "out" / "ratings.journal.jsonl"
    with chat_server(judge) as server:
        graded(folder, server, tmp_path / "out")
        lines = journal.read_bytes().splitlines(keepends=True)
        journal.write_bytes(b"".join([*lines[:4], lines[4][: len(lines[4]) // 2] + b"\n", *lines[5:]]))
        graded(folder, server, tmp_path / "out", progress=progress)
        assert len(server.requests) == 17
    assert progress.lines == [f"{journal}: 1 damaged lines passed over; their ratings are asked again"]


def test_turn_2_is_asked_with_the_models_own_answer_at_the_categorys_temperature():
    questions = [
        Question(id=str(id), language="es", category=category, turns=(f"Q{id}.1", f"Q{id}.2"))
        for id, category in ((1, "writing"), (2, "math"), (3, "humanities"), (4, "roleplay"))
    ]
    echo, seen = Echo(), []
    found = answer_questions(questions, echo, max_new_tokens=99, seed=5, advance=seen.append)
    assert found["es", "2"].turns == ("to Q2.1", "to Q2.2")
    assert found["es", "2"].cut == (True, True)
    assert sum(seen) == 8
    warmth = {prompt.id: sampling.temperature for prompt, sampling in echo.asked}
    assert warmth == {
        f"{id}, turn {turn}": {1: 0.7, 2: 0.0, 3: 0.1, 4: 0.7}[id] for id in (1, 2, 3, 4) for turn in (1, 2)
    }
    for prompt, sampling in echo.asked:
        assert (sampling.n, sampling.top_p, sampling.max_new_tokens, sampling.seed) == (1, 1.0, 99, 5)
        if isinstance(prompt, FollowUp):
            first = prompt.instruction.replace(".2", ".1")
            assert prompt.conversation == (first, f"to {first}", prompt.instruction)
        else:
            assert prompt.id.endswith("turn 1")


def test_a_policy_answers_is_kept_and_graded(tmp_path: Path):
    folder = write_mt_bench(tmp_path)
    spec = ModelSpec(path=str(make_family("chatml", tmp_path / "policy")), dtype="float32", device="cpu")
    policy = AskedPolicy(spec=spec, engine="transformers", max_new_tokens=12)
    with chat_server(judge) as server:
        first = graded(folder, server, tmp_path / "out", answers=None, policy=policy)
        asked = len(server.requests)
        answers = {name: (tmp_path / "out" / "answers" / f"{name}.jsonl").read_bytes() for name in ("en", "es")}
        again = graded(folder, server, tmp_path / "out", answers=None, policy=policy)
        given = graded(folder, server, tmp_path / "two", answers=str(tmp_path / "out" / "answers" / "{language}.jsonl"))
    assert asked == 16
    assert without_run(again) == without_run(first)
    assert first["model"] == spec.path
    assert given["languages"]["es"]["mean"] == first["languages"]["es"]["mean"]
    assert all((tmp_path / "out" / "answers" / f"{name}.jsonl").read_bytes() == text for name, text in answers.items())
    kept = read_answers(tmp_path / "out" / "answers" / "es.jsonl")
    shown = {shown_turn(request): request["messages"][0]["content"] for request in server.requests}
    assert kept["81"][0] in shown["es", 81, 1]
    assert kept["81"][1] in shown["es", 81, 2]
    with (
        chat_server(judge) as server,
        pytest.raises(ValueError, match=r"prompt '111, turn 1' \(en\) is too long for .*; lower max_new_tokens"),
    ):
        graded(folder, server, tmp_path / "out", answers=None, policy=replace(policy, max_new_tokens=1024))


def test_a_policy_behind_a_server_is_asked_for_nothing_twice(tmp_path: Path):
    folder = write_mt_bench(tmp_path)
    asked: list[list[str]] = []

    def both(request: Request, before: int) -> Reply:
        if request["model"] == "J":
            return judge(request, before)
        said = [message["content"] for message in request["messages"]]
        asked.append(said)
        if len(asked) == 11:
            return Reply(status=404, body="the model was taken down")
        return choices(f"answer to {said[-1]}")

    with chat_server(both) as server:
        served = Endpoint(base_url=server.base_url, model="P", attempts=2, first_pause_s=0.01, concurrency=1)
        policy = AskedPolicy(spec=None, engine="openai", endpoint=served)
        with pytest.raises(ValueError, match="HTTP 404: the model was taken down"):
            graded(folder, server, tmp_path / "out", answers=None, policy=policy)
        graded(folder, server, tmp_path / "out", answers=None, policy=policy)
    counts = Counter(json.dumps(said) for said in asked)
    assert len(counts) == 16
    assert Counter(counts.values()) == {1: 15, 2: 1}
    assert [said for said in asked if len(said) == 3 and said[1] != f"answer to {said[0]}"] == []


def test_references_come_from_the_file_then_from_the_question_then_not_at_all(tmp_path: Path):
    folder = write_mt_bench(tmp_path)
    rows = [json.loads(line) for line in (folder / "q" / "es.jsonl").read_bytes().splitlines()]
    write_rows(folder / "q" / "es.jsonl", [row | {"reference": ["own 1", "own 2"]} for row in rows])
    write_rows(folder / "r" / "es.jsonl", [{"question_id": 111, "choices": [{"turns": ["r1", "r2"]}]}])
    found = {question.id: question.references for question in load_questions(files_in(folder))["es"]}
    assert (found["111"], found["121"]) == (("r1", "r2"), ("own 1", "own 2"))
    with pytest.raises(ValueError, match=r"en: 2 questions of math, .* have no reference answer \(111, 121\): name"):
        load_questions(files_in(folder, references=None))
    with chat_server(judge) as server:
        files = files_in(folder, references=None, allow_missing_references=True)
        summary = graded(folder, server, tmp_path / "out", files=files)
    assert [summary["languages"][name]["n_without_reference"] for name in ("en", "es")] == [2, 0]


def test_answers_to_other_questions_are_told_and_missing_ones_named(tmp_path: Path):
    folder, progress = write_mt_bench(tmp_path), Listening()
    path = folder / "a" / "es.jsonl"
    whole = path.read_text()
    path.write_text(whole.replace('"question_id": 81,', '"question_id": 80,'))
    with chat_server(judge) as server:
        with pytest.raises(ValueError, match=r"es.jsonl: 1 of 4 questions have no answer \(81\): add them"):
            graded(folder, server, tmp_path / "out")
        path.write_text(whole + whole.splitlines()[0].replace("81", "80", 1) + "\n")
        graded(folder, server, tmp_path / "out", progress=progress)
    assert progress.lines == [f"{path}: 1 answers are to questions that are not asked: left out"]

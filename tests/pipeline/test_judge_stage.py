"""Judging within a run: verdicts of every policy, rates together, resume, other judges, and the English guard."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.chat_server import ChatServer, Reply, Request, chat_server
from tests.support.judge_server import fair, named
from tests.support.recipes import PROMPTS, config_of, make_recipe, report_text

from crossward.core.judging import model_shown_first
from crossward.pipeline.iterate import run
from crossward.pipeline.judge_stage import run_verdicts
from crossward.pipeline.progress import Silent
from crossward.pipeline.stage_files import read_sampled
from crossward.store import manifest
from crossward.store.model_outputs import read_model_outputs
from crossward.store.run_dir import RunDir
from crossward.store.verdict_file import read_verdicts

POLICIES = ("π_0", "π_1")


@pytest.fixture(autouse=True)
def straight_to_the_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


class Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def judged_recipe(folder: Path, server: ChatServer, **changes: Any) -> dict[str, Any]:
    recipe = make_recipe(folder, iterations=1)
    judge = {"base_url": server.base_url, "model": "judge", "attempts": 3}
    recipe["evaluate"] |= {"judge": judge, "baseline": "reference", "length_control": "none"} | changes
    return recipe


def go(recipe: dict[str, Any], *, redo: tuple[str, ...] = ()) -> tuple[RunDir, list[str]]:
    heard = Heard()
    return run(config_of(recipe), progress=heard, redo=redo), heard.lines


def test_every_policy_is_judged_against_the_references_own_answers(tmp_path: Path):
    with chat_server(fair) as server:
        recipe = judged_recipe(tmp_path, server)
        directory, _ = go(recipe)
        asked = len(server.requests)
        go(recipe)  # again: all is done
        assert len(server.requests) == asked
    found = json.loads(directory.evaluation.read_text())
    assert {(rate["model"], rate["language"]) for rate in found["rates"]} == {
        (policy, language) for policy in POLICIES for language in ("en", "es")
    }
    assert {mean["model"] for mean in found["averages"]} == set(POLICIES)
    assert {(apart["model"], apart["other"]) for apart in found["differences"]} == {("π_1", "π_0")}
    for t, policy in enumerate(POLICIES):
        for language in ("en", "es"):
            answers = {
                name: {group.prompt.id: group for group in read_sampled(here.stage("evaluate"), language)}
                for name, here in (("ours", directory.iteration(t)), ("base", directory.reference))
            }
            verdicts = read_verdicts(directory.iteration(t).stage("judge").verdicts_file(language))
            assert [v.id for v in verdicts] == ["p0", "p1"]
            for verdict in verdicts:
                ours, base = (answers[name][verdict.id].responses[0].text for name in ("ours", "base"))
                assert (verdict.model, verdict.baseline) == (policy, "reference")
                assert (verdict.model_length, verdict.baseline_length) == (len(ours), len(base))
    outputs = read_model_outputs(directory.iteration(1).stage("evaluate").outputs_file("es"))
    assert outputs.generator == "iteration-1"
    assert {o.id: len(o.output) for o in outputs.outputs} == {
        v.id: v.model_length for v in read_verdicts(directory.iteration(1).stage("judge").verdicts_file("es"))
    }
    annotations = directory.iteration(1).stage("judge").annotations / "π_1.es.json"
    assert {(v.id, v.model) for v in read_verdicts(annotations)} == {("p0", "π_1"), ("p1", "π_1")}
    report = report_text(directory)
    assert "## Win rates" in report
    assert "| model | en WR | es WR | average WR |" in report
    assert "first shown preferred" in report
    assert not directory.reference.stage("judge").path.exists()


def test_a_file_of_answers_is_the_baseline_of_the_reference_too(tmp_path: Path):
    for language, texts in PROMPTS.items():
        rows = [{"id": f"p{i}", "instruction": t, "output": "theirs", "generator": "gpt"} for i, t in enumerate(texts)]
        (tmp_path / f"base.{language}.json").write_text(json.dumps(rows[::-1], ensure_ascii=False))
    with chat_server(fair) as server:
        directory, _ = go(judged_recipe(tmp_path, server, baseline=str(tmp_path / "base.{language}.json")))
    found = json.loads(directory.evaluation.read_text())
    assert {rate["model"] for rate in found["rates"]} == {"reference", *POLICIES}
    assert {rate["baseline"] for rate in found["rates"]} == {"gpt"}


def test_a_judge_that_fails_half_way_is_asked_only_for_the_rest(tmp_path: Path):
    sick = [True]

    def failing(request: Request, before: int) -> Reply:
        return Reply(status=401, body={"error": "no"}) if sick[0] and before >= 3 else named(request)

    with chat_server(failing) as server:
        recipe = judged_recipe(tmp_path, server)
        recipe["evaluate"]["judge"]["concurrency"] = 1
        with pytest.raises(ValueError, match=r"stopped with 3 of 4 verdicts, which are kept: .* HTTP 401"):
            go(recipe)
        directory = RunDir(Path(recipe["run"]))
        assert manifest.read(directory.iteration(0).stage("judge")) is None
        assert directory.iteration(0).stage("evaluate").manifest.exists()
        sick[0] = False
        go(recipe)
        assert len(server.requests) == 4 + 5  # three kept, one refused; the fourth again and four of π_1


def test_nulls_of_a_finished_run_are_asked_again_and_stay_where_nobody_answers(tmp_path: Path):
    sick, gone = [True], [False]

    def partly(request: Request, before: int) -> Reply:
        if gone[0]:
            return Reply(status=401, body={"error": "no"})
        bad = sick[0] and "Nombra" in request["messages"][-1]["content"]
        return named(request, text="Neither", logprobs=False) if bad else named(request)

    with chat_server(partly) as server:
        recipe = judged_recipe(tmp_path, server)
        directory, _ = go(recipe)
        nulls = lambda: sum(v.preference is None for v in run_verdicts(directory))  # noqa: E731
        assert nulls() == 2  # one of each policy
        gone[0] = True
        _, lines = go(recipe)
        assert any("iteration-0/judge: they stay null: stopped" in line for line in lines)
        assert nulls() == 2
        sick[0], gone[0] = False, False
        asked = len(server.requests)
        go(recipe)
        assert nulls() == 0
        assert len(server.requests) - asked == 2
        go(recipe)
        assert len(server.requests) - asked == 2


def test_another_judge_is_refused_unless_judging_is_done_again_and_answers_stay(tmp_path: Path):
    with chat_server(fair) as server:
        recipe = judged_recipe(tmp_path, server)
        directory, _ = go(recipe)
        answers = {path: path.stat().st_mtime_ns for path in directory.root.rglob("evaluate/**/*.parquet")}
        recipe["evaluate"]["judge"]["order"] = "both"
        with pytest.raises(
            ValueError, match=r"evaluate\.judge\.order was 'seeded', now 'both'.*judge again with --redo"
        ):
            go(recipe)
        before = len(server.requests)
        go(recipe, redo=("iteration-0/judge", "iteration-1/judge"))
        assert len(server.requests) - before == 8  # the other order of each; the first order is in the journal
        recipe["evaluate"]["judge"]["concurrency"] = 2  # changes nothing that is said
        go(recipe)
        assert len(server.requests) - before == 8
        assert answers == {path: path.stat().st_mtime_ns for path in directory.root.rglob("evaluate/**/*.parquet")}
        go(recipe, redo=("iteration-1/evaluate",))  # the same answers again, so the same questions
        assert len(server.requests) - before == 8


def test_english_that_loses_before_the_judge_is_reported_loudly(tmp_path: Path):
    """A judge that prefers the model's answer in iteration 0 and the baseline's afterwards, in English alone."""
    prompts = {language: [f"{language} thing {i}." for i in range(24)] for language in ("en", "es")}
    rows = {language: [json.dumps({"id": f"p{i}", "instruction": t}) for i, t in enumerate(texts)]
            for language, texts in prompts.items()}  # fmt: skip
    seen: dict[str, int] = {}

    def turncoat(request: Request, before: int) -> Reply:
        text = request["messages"][-1]["content"]
        instruction = next(t for texts in prompts.values() for t in texts if f"\n{t}\n" in text)
        seen[instruction] = seen.get(instruction, 0) + 1
        wins = seen[instruction] == 1 or instruction.startswith("es")
        second = wins is not model_shown_first(instruction, 42)
        top = [
            {"token": "M", "logprob": -0.01 if second else -5.0},
            {"token": "m", "logprob": -5.0 if second else -0.01},
        ]
        return Reply(
            body={"choices": [{"message": {"content": "M"}, "logprobs": {"content": [{"top_logprobs": top}]}}]}
        )

    with chat_server(turncoat) as server:
        recipe = judged_recipe(tmp_path, server)
        for language, lines in rows.items():
            (tmp_path / "prompts" / f"{language}.jsonl").write_text("\n".join(lines) + "\n")
        recipe["prompts"]["limit"] = 4
        recipe["evaluate"]["prompts"]["limit"] = 24
        recipe["train"]["learning_rate"] = 0.05  # the answers must change
        directory, lines = go(recipe)
    said = [line for line in lines if "ENGLISH DROPPED" in line and "win rate" in line]
    assert len(said) == 1
    assert "ENGLISH DROPPED: win rate" in report_text(directory)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"baseline": None}, "judge and baseline .* go together"),
        ({"judge": {"base_url": "http://localhost:1/v1"}}, "name one judge: base_url and model of a server"),
        ({"prompts": None}, "a judge needs answers: name held-out prompts"),
        ({"difficulty": "d.csv"}, "difficulty and gamed belong to length_control published"),
        ({"baseline": "nowhere/{language}.json"}, "evaluate.baseline: nowhere/en.json does not exist"),
        (
            {"judge": {"base_url": "http://localhost:1/v1", "model": "m", "api_key_env": "CROSSWARD_NONE"}},
            "holds no key",
        ),
        ({"judge": {"base_url": "nowhere", "model": "m"}}, "the endpoint's address must look like"),
        (
            {"judge": {"base_url": "http://localhost:1/v1", "model": "m", "template": "no.txt"}},
            "template no.txt cannot",
        ),
    ],
)
def test_what_is_refused_before_anything_is_computed(tmp_path: Path, changes: dict[str, Any], sentence: str):
    with chat_server(fair) as server:
        recipe = judged_recipe(tmp_path, server)
    recipe["evaluate"] |= changes
    with pytest.raises(ValueError, match=sentence):
        go(recipe)
    assert not (tmp_path / "run" / "reference").exists()

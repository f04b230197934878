"""--quiet, --progress and --json of a run, wherever they are typed: one run, then told again in every way."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.command import call
from tests.support.recipes import make_recipe, write_recipe

from crossward import console


@pytest.fixture(autouse=True)
def _mode() -> Iterator[None]:
    yield
    console.choose("auto")


def test_a_run_in_every_mode(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    small: dict[str, Any] = {
        "shard_size": 6,
        "sample": {"engine": "transformers", "n": 4, "temperature": 1.0, "max_new_tokens": 96},
        "score": {"noise_sample": 1},
        "train": {"batch_size": 2, "micro_batch_size": 2, "max_steps": 1},
        "runtime": {"device": "cpu", "sample_rows": 24, "score_tokens": 4096},
    }
    recipe = write_recipe(tmp_path, make_recipe(tmp_path, iterations=1, **small))
    first = call(capsys, "--progress", "json", "run", recipe, "--json")
    assert first.code == 0, first.err
    events = [json.loads(line) for line in first.err.splitlines() if line.startswith("{")]
    plan = next(event["stages"] for event in events if event["event"] == "plan")
    assert [event["stage"] for event in events if event["event"] == "stage_end"] == plan
    sampling = [e for e in events if e["event"] == "language" and e["stage"] == "iteration-1/sample"]
    assert [(event["language"], event["responses"]) for event in sampling] == [("en", 24), ("es", 24)]
    assert {event["task"] for event in events if event["event"] == "end"} >= {
        *("responses", "measuring answers", "log-probabilities", "groups", "optimiser steps"),
        *("reading prompts: rows", "longest prompt of sample: prompts"),
    }
    groups = next(event for event in events if event["event"] == "end" and event["task"] == "groups")
    assert (groups["done"], groups["total"]) == (24, 24), "12 prompts are read twice"
    told = json.loads(first.out)
    assert told["run"] == str(tmp_path / "run")
    assert [(stage["stage"], stage["made"]) for stage in told["stages"]] == [(title, "now") for title in plan]
    assert all(stage["seconds"] >= 0 for stage in told["stages"])
    assert told["evaluation"] is None
    assert told["report"].startswith(str(tmp_path / "run" / "report"))

    quiet = call(capsys, "run", recipe, "--json", "-q")
    assert (quiet.code, quiet.err) == (0, "")
    assert {stage["made"] for stage in json.loads(quiet.out)["stages"]} == {"before"}

    monkeypatch.setenv("CROSSWARD_PROGRESS", "json")
    wrong = call(capsys, "run", recipe, "sample.m=4")
    assert wrong.code == 2
    error = json.loads(wrong.err.splitlines()[-1])
    assert error["event"] == "error"
    assert "sample.m" in error["text"]
    assert "unknown key" in call(capsys, "run", recipe, "sample.m=4", "--quiet").err
    assert call(capsys, "run", recipe, "--progress", "loud").code == 2


@pytest.mark.parametrize("arguments", [("--progress",), ("--progress", "--json"), ("--progress", "-q", "n=1")])
def test_a_progress_without_its_value_is_told(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]):
    called = call(capsys, "run", "recipes/demo.yaml", *arguments)
    assert called.code == 2
    assert "--progress: it needs a value: auto, bar, plain, json, none" in " ".join(called.err.split())

"""`crossward experiment` as a shell sees it: plan, part, JSON, exit codes, and recipes/experiment-demo.yaml."""

import json
import re
from pathlib import Path

import pytest
from tests.support.command import call
from tests.support.experiments import make_experiment, write_experiment

DEMO = Path(__file__).parent.parent / "recipes" / "experiment-demo.yaml"


def test_the_plan_runs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    cells = {"a": {}, "b": {"pair.choice": "random"}}
    path = write_experiment(tmp_path, make_experiment(tmp_path, seeds=[1, 2], cells=cells))
    done = call(capsys, "experiment", path, "--plan")
    assert done.code == 0
    assert "4 runs, 28 stages: at most 20 are different" in done.out
    assert "pair.choice random" in done.out
    told = json.loads(call(capsys, "experiment", path, "--plan", "--json", "--only", "b", "--seeds", "2").out)
    assert {key: told[key] for key in ("runs", "stages", "distinct", "done")} == {
        "runs": 1,
        "stages": 7,
        "distinct": 7,
        "done": 0,
    }
    assert told["cells"] == [
        {"cell": "b", "changes": {"pair.choice": "random"}, "seeds": {"2": {"stages": 7, "done": 0}}}
    ]
    assert not (tmp_path / "experiment").exists()


def test_a_part_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = write_experiment(tmp_path, make_experiment(tmp_path, cells={"a": {}}))
    done = call(capsys, "experiment", path, "--only", "b")
    assert (done.code, done.sentence) == (2, "crossward: --only b: the experiment has a")
    assert call(capsys, "experiment", path, "--seeds", "9").sentence.endswith("--seeds 9: the experiment has 1")


def test_tables_are_shown_and_a_failure_gives_its_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    tree = make_experiment(tmp_path, cells={"good": {}, "none": {"pair.min_margin": 1e9}}, tables=["cells"])
    path = write_experiment(tmp_path, tree)
    done = call(capsys, "experiment", path, "--only", "good")
    assert done.code == 0
    assert "length of answers (characters): the last policy of every cell" in done.out
    assert "missing, not finished: none, seed 1" in done.out
    done = call(capsys, "experiment", path, "--json")
    assert done.code == 2
    told = json.loads(done.out)
    assert [failure["run"] for failure in told["failures"]] == ["none, seed 1"]
    assert "holds no pairs to train on" in done.sentence
    assert {row["cell"] for row in told["tables"]["cells"]} == {"good"}
    assert told["missing"] == ["none, seed 1"]


def test_mistakes_are_told_before_anything_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = write_experiment(tmp_path, make_experiment(tmp_path, grid={"sample.nn": [1]}))
    done = call(capsys, "experiment", path)
    assert (done.code, done.sentence) == (2, "crossward: cell 'nn=1': unknown key 'sample.nn'; did you mean 'n'?")
    assert not (tmp_path / "experiment").exists()


def test_the_demo_is_a_plan_of_four_cells(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(DEMO.parents[1])
    told = json.loads(call(capsys, "experiment", DEMO, "--plan", "--json").out)
    assert (told["runs"], told["stages"], told["distinct"]) == (8, 56, 40)


def test_every_key_of_the_demo_is_commented():
    lines = DEMO.read_text(encoding="utf-8").splitlines()
    for line in lines:
        assert not re.match(r" *[\w.]+: *[^ #]", line) or "#" in line, line

"""What runs lack is told for all of them together, before the first begins and before worlds are made."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.command import call
from tests.support.experiments import checked, make_experiment, run_all, silent, write_experiment

from crossward.config import Config
from crossward.pipeline import assemble
from crossward.pipeline.experiment import WorldSource, run_experiment
from crossward.pipeline.experiment_requirements import LackingError, Lookout
from crossward.pipeline.given import NOTHING_GIVEN
from crossward.pipeline.progress import Progress, Silent

SERVER = {"base_url": "http://127.0.0.1:1/v1", "model": "m"}
CELLS: dict[str, dict[str, Any]] = {
    "sound": {},
    "classifier": {"reward": {"kind": "reward-model", "reward_model": {"path": "/nope/rm"}}},
    "classifier and pairs": {
        "reward": {"kind": "reward-model", "reward_model": {"path": "/nope/rm"}},
        "train.replay.path": "/nope.jsonl",
    },
    "judge": {"reward": {"kind": "judge", "judge": {**SERVER, "api_key_env": "NOPE_KEY"}}},
    "translator": {"reward.view": "translated", "translator": {"engine": "seq2seq", "model": "/nope/nllb"}},
    "held-out judge": {"evaluate": {"baseline": "reference", "judge": {**SERVER, "api_key_env": "NOPE_KEY_2"}}},
    "ceiling": {"reward.kind": "given"},
}
LACKING = {
    "/nope/rm": "cell 'classifier'; cell 'classifier and pairs': ",
    "/nope.jsonl": "cell 'classifier and pairs': ",
    "NOPE_KEY ": "cell 'judge': ",
    "/nope/nllb": "cell 'translator': ",
    "NOPE_KEY_2": "cell 'held-out judge': ",
    "nothing was given": "cell 'ceiling': ",
}


def require_told(lines: tuple[str, ...] | list[str]) -> None:
    """Each lack has one line, with the cells that have it."""
    assert len(lines) == len(LACKING)
    for text, cells in LACKING.items():
        (line,) = [line for line in lines if text in line]
        assert line.startswith(cells)


def test_everything_is_told_before_the_first_run(tmp_path: Path):
    tree = make_experiment(tmp_path, seeds=[1, 2], cells=CELLS)
    with pytest.raises(LackingError) as error:
        run_all(tree)
    require_told(error.value.lines)
    assert not (tmp_path / "experiment").exists()
    _, runs, _ = checked(tree)
    assert not run_all(tree, part=[run for run in runs if run.title == "sound, seed 1"]).failures
    with pytest.raises(LackingError):  # what is finished is no reason to pass the others
        run_all(tree)


def test_the_command_tells_a_line_each_and_so_does_the_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = write_experiment(tmp_path, make_experiment(tmp_path, seeds=[1, 2], cells=CELLS))
    for options in ((), ("--plan",), ("--plan", "--json")):
        done = call(capsys, "experiment", path, *options)
        assert done.code == 2
        require_told([line.removeprefix("crossward: ") for line in done.err.splitlines()])
    require_told(json.loads(done.out)["lacking"])
    assert not (tmp_path / "experiment").exists()
    assert call(capsys, "experiment", path, "--plan", "--only", "sound").code == 0


def test_one_seed_of_several_is_told_by_its_number(tmp_path: Path):
    folders = {"models.policy": str(tmp_path / "policy-{seed}")}
    tree = make_experiment(tmp_path, seeds=[1, 2, 3], cells={"a": folders, "b": {}, "c": {"pair.choice": "random"}})
    for seed in (1, 3):
        (tmp_path / f"policy-{seed}").symlink_to(tmp_path / "policy")
    with pytest.raises(LackingError, match="policy-2") as error:
        run_all(tree)
    (line,) = error.value.lines
    assert line.startswith("cell 'a', seed 2: ")


def a_world(made: list[int], tree: dict[str, Any]) -> WorldSource:
    """Its worlds are the two models of a test's recipe and its prompts."""

    def make(folder: Path, seed: int, progress: Progress) -> None:
        made.append(seed)
        folder.mkdir(parents=True)
        recipe = tree["recipe"]
        for name in ("policy", "reference"):
            (folder / name).symlink_to(recipe["models"][name])
        for split in ("prompts", "held-out"):
            (folder / split).symlink_to(Path(recipe["prompts"]["path"]).parent)

    return WorldSource(make=make, measure=lambda *_: {}, given=lambda: NOTHING_GIVEN)


def run_in_a_world(tree: dict[str, Any], made: list[int]) -> list[str]:
    """The runs that failed."""
    experiment, runs, directory = checked(tree | {"world": {"kind": "tiny", "rivals": True}})
    source = a_world(made, tree)
    more: dict[str, Any] = {"directory": directory, "jobs": 1, "progress": Silent(), "progress_of": silent}
    return [title for title, _ in run_experiment(experiment, runs, part=runs, world=source, **more).failures]


def test_what_is_not_in_a_world_is_told_before_it_is_made(tmp_path: Path):
    made: list[int] = []
    with pytest.raises(LackingError) as error:
        run_in_a_world(make_experiment(tmp_path, seeds=[1, 2], cells=CELLS), made)
    require_told(error.value.lines)
    assert not made


def test_what_a_world_lacks_is_told_before_the_first_run(tmp_path: Path):
    model = "{experiment}/worlds/{seed}/reward-model"
    cells = {"a": {}, "b": {"reward": {"kind": "reward-model", "reward_model": {"path": model}}}}
    tree, made = make_experiment(tmp_path, seeds=[1, 2], cells=cells), []
    with pytest.raises(LackingError, match="reward-model") as error:
        run_in_a_world(tree, made)
    assert made == [1, 2]
    assert [line.partition(":")[0] for line in error.value.lines] == ["cell 'b', seed 1", "cell 'b', seed 2"]
    assert not (tmp_path / "experiment" / "cells").exists()


def test_many_runs_of_the_same_models_are_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    grid = {"pair.min_margin": [k / 1e6 for k in range(10)], "reward.view": ["crosslingual", "multilingual"]}
    _, runs, _ = checked(make_experiment(tmp_path, seeds=list(range(10)), grid=grid))
    loaded: list[str] = []
    load = assemble.load_tokens
    monkeypatch.setattr(assemble, "load_tokens", lambda spec: loaded.append(spec.path) or load(spec))
    assert not Lookout(NOTHING_GIVEN).wholly(runs)
    assert len(runs) == 200
    assert len(loaded) == 2


def test_the_plan_does_not_ask_the_hub(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    changes = {"models.policy": "owner/model", "train.replay.path": "owner/pairs", "prompts.path": "owner/prompts"}
    cells = {"a": {**changes, "prompts.english": "owner/english"}, "b": {"train.replay.path": "nope.jsonl"}}
    path = write_experiment(tmp_path, make_experiment(tmp_path, cells=cells))
    asked: list[str] = []
    monkeypatch.setattr(assemble, "model_fingerprint", lambda spec: asked.append(spec.path) or spec.path)
    done = call(capsys, "experiment", path, "--plan")
    assert done.err.splitlines() == ["crossward: cell 'b': file nope.jsonl does not exist: check the path"]
    assert "owner/model" not in asked


def test_what_is_lacking_is_looked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    grid = {"reward.steering.place": ["before", "after"], "sample.max_new_tokens": [90, 91]}
    changes = {"models.policy": "/nope/policy"}
    _, runs, _ = checked(make_experiment(tmp_path, seeds=[1, 2], grid=grid, set=changes))
    asked: list[str] = []
    load = assemble.load_tokens
    monkeypatch.setattr(assemble, "load_tokens", lambda spec: asked.append(spec.path) or load(spec))
    (line,) = Lookout(NOTHING_GIVEN).wholly(runs)
    assert "/nope/policy does not exist" in line
    assert asked.count("/nope/policy") == 1


def test_a_fault_of_ours_stops_no_other_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(config: Config, *more: object) -> None:
        raise KeyError("ours")

    monkeypatch.setattr("crossward.pipeline.requirements.prompts_of_run", broken)
    outcome = run_all(make_experiment(tmp_path, cells={"a": {}}))
    assert [(title, failure.kind) for title, failure in outcome.failures] == [("a, seed 1", 1)]

"""Experiments on tiny random models: what is shared is made once, a failure is one cell's, a rerun changes nothing."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from tests.support.experiments import checked, make_experiment, results, run_all

from crossward.config import parse
from crossward.core.answer_measures import MEASURES
from crossward.pipeline.assemble import Engines
from crossward.pipeline.experiment import Outcome
from crossward.pipeline.experiment_plan import plan_of, stages_of
from crossward.store import manifest
from crossward.store.experiment_dir import ExperimentDir
from crossward.store.measures_file import read_measures
from crossward.store.run_dir import RunDir

GRID = {"reward.view": ["crosslingual", "multilingual"], "pair.min_margin": [k / 1e6 for k in range(10)]}


@dataclass(frozen=True, kw_only=True)
class Finished:
    tree: dict[str, Any]
    outcome: Outcome
    opened: Counter[str]
    directory: ExperimentDir
    files: dict[str, bytes] = field(default_factory=dict)


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    """Twenty cells that all sample alike; ten share each view."""
    tree = make_experiment(tmp_path_factory.mktemp("grid"), grid=GRID, baseline="view=crosslingual min_margin=0.0")
    opened: Counter[str] = Counter()
    sampler, trainer = Engines.sampler, Engines.trainer

    def counted_sampler(self: Engines, model: Any, stage: Any, **more: Any) -> Any:
        opened[stage] += 1
        return sampler(self, model, stage, **more)

    def counted_trainer(self: Engines, model: Any) -> Any:
        opened["train"] += 1
        return trainer(self, model)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engines, "sampler", counted_sampler)
        patch.setattr(Engines, "trainer", counted_trainer)
        outcome = run_all(tree)
        directory = checked(tree)[2]
        yield Finished(tree=tree, outcome=outcome, opened=opened, directory=directory, files=results(directory))


def test_twenty_cells_that_share_sampling_sample_once(grid: Finished):
    assert not grid.outcome.failures
    assert grid.opened["sample"] == 1
    # 10 rules that choose the same pairs make one training of each view; π_I and π_0 answer once, then each π_1.
    assert grid.opened["train"] == 2
    assert grid.opened["evaluate"] == 4
    kinds = Counter(path.name.partition("-")[0] for path in grid.directory.stages.iterdir() if path.is_dir())
    assert kinds == {"sample": 1, "score": 2, "pair": 20, "train": 2, "evaluate": 4}


def test_every_cell_is_an_ordinary_run_with_files_of_its_own(grid: Finished):
    for run in checked(grid.tree)[1]:
        folder = grid.directory.run(run.cell.name, run.seed)
        assert folder.provenance.exists()
        stage = folder.iteration(1).stage("train")
        done = manifest.read(stage)
        assert done is not None
        assert manifest.completed(stage, done.inputs, done.settings) == done
        assert stage.metrics.stat().st_nlink == 1, "a journal is written in place, so it is never a link"


def test_again_it_computes_nothing_and_says_the_same(grid: Finished):
    before = grid.opened.total()
    outcome = run_all(grid.tree)
    assert grid.opened.total() == before
    assert outcome.tables == grid.outcome.tables
    assert results(grid.directory) == grid.files


def test_the_plan_says_beforehand_what_is_distinct(grid: Finished, tmp_path: Path):
    _, runs, directory = checked(grid.tree)
    plan = plan_of(runs, directory)
    # by the recipes alone every pair stage is another one, and so is what follows from it
    assert plan.stages == 20 * 7
    assert plan.distinct == 2 + 1 + 2 + 3 * 20
    assert plan.done == plan.distinct
    assert plan.cells["view=crosslingual min_margin=0.0"] == {1: (7, 7)}
    fresh = plan_of(runs, ExperimentDir(tmp_path))
    assert (fresh.stages, fresh.distinct, fresh.done) == (plan.stages, plan.distinct, 0)


def test_values_are_those_of_the_answers_on_disk(grid: Finished):
    rows = list(csv.DictReader(io.StringIO(grid.files["values.csv"].decode())))
    (row,) = [
        row
        for row in rows
        if (row["cell"], row["policy"], row["language"]) == ("view=multilingual min_margin=0.0", "π_1", "es")
    ]
    stage = grid.directory.run("view=multilingual min_margin=0.0", 1).iteration(1).stage("evaluate")
    answers = read_measures(stage.measures_file("es"))
    assert float(row["value"]) == pytest.approx(fmean(MEASURES["n_chars"](answer) or 0.0 for answer in answers))
    table = json.loads(grid.files["differences.json"])
    assert len({row["cell"] for row in table["rows"]}) == 19, "the baseline is not compared with itself"
    assert {row["interval_over"] for row in table["rows"]} == {"prompts"}
    assert "† One seed" in grid.files["differences.md"].decode()


def test_a_cell_that_fails_is_told_and_missing_and_the_others_go_on(tmp_path: Path):
    tree = make_experiment(tmp_path, seeds=[1, 2], cells={"none": {"pair.min_margin": 1e9}, "some": {}})
    outcome = run_all(tree)
    assert [(title, failure.kind) for title, failure in outcome.failures] == [("none, seed 1", 2), ("none, seed 2", 2)]
    assert "holds no pairs to train on" in outcome.failures[0][1].sentence
    assert outcome.missing == ["none, seed 1", "none, seed 2"]
    text = results(checked(tree)[2])["cells.md"].decode()
    assert "Missing, not finished: none, seed 1; none, seed 2." in text
    assert "| some | π_1 | 2 |" in text
    assert "| none |" not in text


def test_a_part_is_run_alone_and_the_rest_joins_later(tmp_path: Path):
    tree = make_experiment(tmp_path, seeds=[1, 2], cells={"a": {}, "b": {"pair.choice": "random"}})
    _, runs, directory = checked(tree)
    outcome = run_all(tree, part=[run for run in runs if run.seed == 1 and run.cell.name == "a"])
    assert outcome.missing == ["a, seed 2", "b, seed 1", "b, seed 2"]
    assert b"\xe2\x80\xa0 One seed" in results(directory)["cells.md"]
    outcome = run_all(tree)
    assert not outcome.missing
    assert b"over seeds" in results(directory)["cells.md"]
    run_all(tree | {"seeds": [1, 2, 3]}, part=[])
    assert b"Missing, not finished: a, seed 3; b, seed 3." in results(directory)["cells.md"]


def test_a_finished_run_of_another_recipe_is_not_counted(tmp_path: Path):
    tree = make_experiment(tmp_path, cells={"a": {}})
    assert not run_all(tree).missing
    assert run_all(tree | {"set": {"sample.temperature": 0.5}}, part=[]).missing == ["a, seed 1"]
    outcome = run_all(tree | {"set": {"sample.temperature": 0.5}})
    assert outcome.failures[0][1].kind == 2
    assert "sample.temperature was 1.0, now 0.5" in outcome.failures[0][1].sentence


def test_an_ensemble_shares_the_scores_of_its_views(tmp_path: Path):
    views = {"view": "ensemble", "views": ["crosslingual", "multilingual"]}
    tree = make_experiment(tmp_path, cells={"together": {"reward": views}, "alone": {"reward.view": "crosslingual"}})
    _, runs, directory = checked(tree)
    planned = plan_of(runs, directory)
    assert not run_all(tree).failures
    kinds = Counter(path.name.partition("-")[0] for path in directory.stages.iterdir() if path.is_dir())
    assert kinds == {"sample": 1, "score": 2, "rate": 1, "pair": 2, "train": 2, "evaluate": 4}
    assert planned.distinct == sum(kinds.values())
    assert plan_of(runs, directory).done == planned.distinct


def test_a_rivals_stages_are_in_the_plan():
    tree = make_config_tree()
    found = stages_of(
        parse(tree | {"method": "lidr", "sample": {"n": 1, "temperature": 0}}, where="test"), RunDir(Path("r"))
    )
    assert [stage.title for stage, _ in found] == [
        *("iteration-1/sample", "iteration-1/translate", "iteration-1/translate-from-english"),
        *("iteration-1/pair", "iteration-1/train"),
    ]
    plain, penalised = (
        {stage.name: key for stage, key in stages_of(parse(tree | {"reward": reward}, where="test"), RunDir(Path("r")))}
        for reward in ({}, {"surprisal": {"weight": 1.0, "threshold": 4.0}})
    )
    assert {name for name in plain if plain[name] == penalised[name]} == {"sample"}
    rated = parse(tree | {"reward": {"kind": "given", "view": "translated"}}, where="test")
    assert [stage.name for stage, _ in stages_of(rated, RunDir(Path("r")))] == [
        *("sample", "translate", "rate", "pair", "train"),
    ]


def make_config_tree() -> dict[str, Any]:
    """A recipe without evaluation; nothing in it is opened."""
    return {
        "run": "r",
        "languages": ["en", "es"],
        "iterations": 1,
        "models": {"policy": "p", "reference": "q"},
        "prompts": {"path": "{language}.jsonl"},
    }


def test_dtype_keeps_stages_apart_though_their_manifests_do_not_name_it(tmp_path: Path):
    tree = make_experiment(tmp_path, grid={"models.dtype": ["float32", "bfloat16"]})
    assert not run_all(tree).failures
    kinds = Counter(path.name.partition("-")[0] for path in checked(tree)[2].stages.iterdir() if path.is_dir())
    assert kinds == {"sample": 2, "score": 2, "pair": 2, "train": 2, "evaluate": 6}

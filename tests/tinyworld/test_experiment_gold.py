"""An experiment on the tiny world: worlds made for their seeds, gold's numbers are those of judgement.py."""

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.experiments import checked, silent

from crossward.cli_experiment import Labelled
from crossward.config import load
from crossward.experiment_config import FEATURES, read_experiment
from crossward.pipeline.experiment import run_experiment
from crossward.pipeline.experiment_results import with_groups
from crossward.pipeline.policies import policies_of
from crossward.pipeline.progress import Silent
from crossward.store.shared_stages import SharedStages
from crossward.tinyworld import experiment_gold
from crossward.tinyworld.experiment_gold import measure_gold, world_source
from crossward.tinyworld.judgement import GROUPS, accuracies, judge, rank

DEMO = Path(__file__).parents[2] / "recipes" / "experiment-demo.yaml"


def test_the_demo_experiment_in_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(DEMO.parents[1])  # where its recipe is
    tree = read_experiment(DEMO).model_dump()
    given = {"name of the cell": {"reward.kind": "given", "pair.language_filter": "given"}}
    few = {"iterations": 1, "prompts.limit": 6, "evaluate.prompts.limit": 6, "evaluate.n": 3, "sample.n": 3}
    tree |= {"experiment": str(tmp_path / "e"), "seeds": [1], "grid": {}, "cells": given, "baseline": None}
    tree |= {"set": few | {"score.noise_sample": 0}, "figures": [], "measure": {"metric": ["gold", "gold_tidy"]}}
    experiment, (run,), directory = checked(tree)
    assert experiment.world is not None
    outcome = run_experiment(
        experiment,
        [run],
        part=[run],
        directory=directory,
        jobs=1,
        world=world_source(experiment.world),
        progress=Silent(),
        progress_of=silent,
    )
    assert not outcome.failures
    with_jobs = (run, world_source(experiment.world), Labelled)  # what goes to another process
    assert pickle.loads(pickle.dumps(with_jobs))[0] == run
    assert [table.name for table in outcome.tables][:2] == ["policies-gold", "policies-gold_tidy"]
    assert (directory.world(1) / "world.json").exists()

    folder = directory.run(run.cell.name, 1)
    metrics = ("gold", "gold_mean", "reward_accuracy", "reward_accuracy_multilingual", *(f"gold_{n}" for n in FEATURES))
    found = measure_gold(metrics, run.config, folder, Silent())
    policies = {"π_I" if n == "reference" else n: here for n, here in policies_of(folder, 1).items()}
    judged = {policy.name: policy for policy in judge(policies)}
    for group in GROUPS:
        for name in ("π_0", "π_1"):
            won = with_groups(found["gold"][name], run.config.languages)[group].estimate
            assert won == pytest.approx(100 * judged[name].win_rate[group].estimate)
        mean = with_groups(found["gold_mean"]["reference"], run.config.languages)[group].estimate
        assert mean == pytest.approx(judged["π_I"].gold[group].estimate)
        for feature in FEATURES:
            value = with_groups(found[f"gold_{feature}"]["π_1"], run.config.languages)[group].estimate
            assert value == pytest.approx(judged["π_1"].features[group][feature])
    assert "reference" not in found["gold"]

    shared = replace(folder, shared=SharedStages(root=tmp_path / "pool"))
    asked = ("reward_accuracy",)
    once = measure_gold(asked, run.config, shared, Silent())
    assert once == {"reward_accuracy": found["reward_accuracy"]}
    with monkeypatch.context() as patch:
        patch.setattr(experiment_gold, "rank", None)  # the other runs that start from the same π_0 rank nothing again
        assert measure_gold(asked, run.config, shared, Silent()) == once
    config = load(folder.config)
    exact = accuracies(rank(config, folder, Silent()))
    for metric, view in (("reward_accuracy", "crosslingual"), ("reward_accuracy_multilingual", "multilingual")):
        assert list(found[metric]) == ["π_0"]
        for language, value in found[metric]["π_0"].items():
            assert value.estimate == pytest.approx(exact[view][language].estimate)

"""The coverage map of core/tasks.py against the installed lm-evaluation-harness: every name exists and can be run.

Their data is on the hub: two of them are run on rows of our own in its form.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lm_eval.tasks
import pytest
import yaml
from tests.support.families import make_family

from crossward.core.language import NAMES
from crossward.core.tasks import BENCHMARKS, METRICS, Absent, TaskResult, alternatives, covered, covered_languages
from crossward.engines.lm_eval_tasks import Prompting, TaskFolder, _builtin, open_model
from crossward.engines.protocols import ModelSpec


def leaves(index: Any, name: str) -> list[Any]:
    """The tasks in a group of lm-eval's index."""
    entry = index[name]
    if entry.kind.name == "TASK":
        return [entry]
    parts = entry.tags if entry.kind.name == "TAG" else entry.cfg["task"]
    names = [part if isinstance(part, str) else part.get("task") or part["group"] for part in parts]
    return [leaf for part in names for leaf in leaves(index, part)]


def test_the_map_is_that_of_the_installed_lm_eval():
    index = _builtin().task_index
    planned = [
        plan
        for language in covered_languages()
        for name in BENCHMARKS
        if not isinstance(found := covered(name, language), Absent)
        for plan in found
    ]
    for plan in planned:
        assert plan.task in index, plan
        assert index[plan.task].kind.name == "TASK"
        assert tuple(metric["metric"] for metric in index[plan.task].cfg["metric_list"]) == METRICS[plan.measure]
    # Nothing of okapi is left out.
    tags = ("arc_multilingual", "hellaswag_multilingual", "m_mmlu", "truthfulqa_multilingual")
    assert {name for tag in tags for name in index[tag].tags} <= {plan.task for plan in planned}


def test_the_alternatives_are_tasks_that_can_be_run():
    folder = TaskFolder()
    index = _builtin().task_index
    for language in NAMES:
        names = alternatives(language)
        folder.require(names)
        assert len(set(names)) == len(names)
        for name in names:
            assert {leaf.cfg["output_type"] for leaf in leaves(index, name)} == {"multiple_choice"}, name


OKAPI = Path(lm_eval.tasks.__file__).parent / "okapi"


def local(folder: Path, template: str, row: Callable[[int], dict[str, Any]], split: str) -> Path:
    """A task of okapi on data of our own in the form of the hub's: {folder}/mine.yaml."""
    data = folder / "mine.jsonl"
    data.write_text("".join(json.dumps(row(i)) + "\n" for i in range(6)), encoding="utf-8")
    config = {
        "include": str(OKAPI / template),
        "task": "mine",
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {split: str(data)}},
        "training_split": None,
        "validation_split": None if split == "test" else split,
        "test_split": split if split == "test" else None,
    }
    (folder / "mine.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return folder


def score(folder: Path, tmp_path: Path) -> TaskResult:
    spec = ModelSpec(path=str(make_family("chatml", tmp_path / "model", seed=1)), dtype="float32", device="cpu")
    return TaskFolder(folder).run("mine", open_model(spec, batch_size=8), Prompting())


def test_okapi_arc_keeps_the_ids_of_questions(tmp_path: Path):
    def row(i: int) -> dict[str, Any]:
        options = {f"option_{letter}": f"the thing {letter * (k + 1)}" for k, letter in enumerate("abcd")}
        return {
            "id": f"Mercury_{i}",
            "instruction": f"What is in {i}?",
            "answer": "ABCD"[i % 4],
            "option_e": None,
        } | options

    result = score(local(tmp_path, "arc_multilingual/_arc_yaml", row, "test"), tmp_path)
    assert result.questions == tuple(f"Mercury_{i}" for i in range(6))
    assert set(result.scores) == set(METRICS["arc"])
    assert sum(result.items["acc"]) / 6 == pytest.approx(result.scores["acc"].value)


def test_okapi_truthfulqa_mc2_is_a_share_of_probability_and_has_no_ids(tmp_path: Path):
    def row(i: int) -> dict[str, Any]:
        choices = [f"a{i}", "an apple", "the thing"]
        targets = {f"mc{k}_targets_choices": choices for k in (1, 2)}
        return {
            "question": f"What is in {i}?",
            "mc1_targets_labels": [1, 0, 0],
            "mc2_targets_labels": [1, 1, 0],
        } | targets

    result = score(local(tmp_path, "truthfulqa_multilingual/_truthfulqa_mc2_yaml", row, "val"), tmp_path)
    assert 0 < result.scores["acc"].value < 1
    assert result.scores["acc"].value * 6 % 1 > 1e-6, "not a count of right answers"
    assert result.questions == ()

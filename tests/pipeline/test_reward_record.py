"""Accuracies that were measured apart come into a run, beside those that it has."""

from pathlib import Path
from typing import Any

import pytest

from crossward.core.rewards import RewardAccuracy
from crossward.pipeline.reward_record import open_record, record
from crossward.store.reward_accuracy_file import read_reward_accuracy, write_reward_accuracy
from crossward.store.run_dir import RunDir


def measured(estimate: float, n: int = 40) -> dict[str, Any]:
    return {"accuracy": {"n_pairs": n, "interval": {"estimate": estimate, "low": 0.5, "high": 0.9}}}


def test_what_is_measured_again_replaces_and_what_is_not_stays(tmp_path: Path):
    directory = RunDir(tmp_path)
    record(directory, 2, {"es": {"views": {"crosslingual": measured(0.6)}}}, by="pairs.jsonl")
    assert record(directory, 2, {"es": {"views": {"crosslingual": measured(0.7)}}}, by="pairs.jsonl") == 1
    languages = {"es": {"views": {"multilingual": measured(0.65), "crosslingual": {"accuracy": None}}}}
    assert record(directory, 1, languages, by="pairs.jsonl") == 1, "a truth that ranks nothing gives no accuracy"
    assert record(directory, 2, {"es": {"views": {"crosslingual": measured(0.8)}}}, by="other.jsonl") == 1
    found = read_reward_accuracy(directory.reward_accuracy)
    assert [(row.iteration, row.view, row.by, row.accuracy) for row in found] == [
        (1, "multilingual", "pairs.jsonl", 0.65),
        (2, "crosslingual", "other.jsonl", 0.8),
        (2, "crosslingual", "pairs.jsonl", 0.7),
    ]


def test_a_run_or_an_iteration_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match="is not a run directory"):
        open_record(tmp_path, 1)
    (tmp_path / "config.yaml").write_text("run: x", encoding="utf-8")
    (tmp_path / "iteration-1").mkdir()
    assert open_record(tmp_path, 1).root == tmp_path
    with pytest.raises(ValueError, match="has no iteration 2: expected one of 1"):
        open_record(tmp_path, 2)


def test_a_file_of_something_else_is_refused(tmp_path: Path):
    path = tmp_path / "reward-accuracy.json"
    row = RewardAccuracy(
        iteration=1, view="crosslingual", language="es", by="gold", accuracy=0.7, low=0.6, high=0.8, n_pairs=9
    )
    write_reward_accuracy(path, [row])
    assert read_reward_accuracy(path) == [row]
    for text in ("{}", "[1]", '[{"iteration": 1}]', "not json", '[{"iteration": 1, "view": "sideways"}]'):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match="holds no reward accuracies"):
            read_reward_accuracy(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="holds no reward accuracies"):
        read_reward_accuracy(path)

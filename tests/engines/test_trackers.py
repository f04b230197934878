"""Trackers with their real libraries: what is logged is read back from their own files, a continued run included."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from crossward.engines import trackers
from crossward.engines.trackers import Kind, TrackedRun, open_tracker, require_tracker

CONFIG = {"languages": ["en", "es"], "train": {"beta": 0.1}}


def run_of(folder: Path, **changes: object) -> TrackedRun:
    return TrackedRun(**{"project": "p", "name": "n", "id": "abc123", "folder": folder, "config": CONFIG} | changes)


def log_twice(kind: Kind, folder: Path) -> None:
    """A run of two portions, and the same run continued with a third."""
    for places, logged in (((1, 2), 0), ((3,), 2)):
        tracker = open_tracker(kind, run_of(folder, logged=logged))
        for at in places:
            tracker.log({"train/loss": at / 4}, axis="train/step", at=at)
        tracker.flush()
        tracker.close()


def test_tensorboard_continues_in_its_folder(tmp_path: Path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log_twice("tensorboard", tmp_path)
    found = accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in found.Scalars("train/loss")] == [(1, 0.25), (2, 0.5), (3, 0.75)]
    (text, *_) = [event.tensor_proto.string_val[0].decode() for event in found.Tensors("config/text_summary")]
    assert '"beta": 0.1' in text


@pytest.mark.skipif(not trackers.importlib.util.find_spec("wandb"), reason="wandb is not installed")
def test_wandb_offline_writes_runs_of_one_id(tmp_path: Path):
    """In a process of its own: it leaves hooks behind. experiments/trackers.py reads its records back."""
    code = f"from tests.engines.test_trackers import *; log_twice('wandb', Path({str(tmp_path)!r}))"
    path = os.pathsep.join(map(os.path.abspath, filter(None, sys.path)))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "", "results alone go there"
    records = sorted(tmp_path.glob("wandb/offline-run-*/run-abc123.wandb"))
    assert 1 <= len(records) <= 2, "two that begin in the same second share a folder"
    assert b"train/loss" in b"".join(path.read_bytes() for path in records)


@pytest.mark.parametrize("kind", ["trackio", "tensorboard", "wandb"])
def test_a_library_that_is_not_there_is_named_with_its_extra(kind: Kind, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=rf"pip install 'crossward\[{kind}\]'"):
        require_tracker(kind)

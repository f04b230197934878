"""Who is at work beside a checkpoint, and which of its states are whole."""

import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from crossward.engines.training_folder import WHOLE, TrainingFolder


def state(folder: TrainingFolder, step: int, *, processes: int) -> Path:
    """A state as the library's Trainer leaves it, without its weights."""
    path = folder.path / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "trainer_state.json").write_text("{}")
    for name in ["rng_state.pth"] if processes == 1 else [f"rng_state_{k}.pth" for k in range(processes)]:
        (path / name).write_bytes(b"")
    return path


def test_one_driver_at_a_time(tmp_path: Path):
    with (
        TrainingFolder(tmp_path / "out").held(),
        pytest.raises(ValueError, match=r"another process trains into .*out: wait until it ends"),
        TrainingFolder(tmp_path / "out").held(),
    ):
        pass
    assert not list(tmp_path.iterdir()), "what holds no state does not stay"


def test_pairs_go_and_states_stay(tmp_path: Path):
    folder = TrainingFolder(tmp_path / "out")
    with folder.held():
        folder.pairs.write_bytes(b"pairs")
        state(folder, 3, processes=1)
    assert sorted(path.name for path in folder.path.iterdir()) == ["checkpoint-3", "lock"]


def test_a_state_of_several_processes_is_whole_when_it_is_marked(tmp_path: Path):
    folder = TrainingFolder(tmp_path / "out")
    assert folder.last_state("none", 2) is None
    state(folder, 2, processes=2)
    assert folder.states() == []
    folder.mark_whole(2, "none", 2)
    state(folder, 10, processes=2)
    assert folder.last_state("none", 2) == str(folder.path / "checkpoint-2")
    assert folder.last_state("none", 1) == str(folder.path / "checkpoint-2"), "whole weights fit any number"
    folder.mark_whole(10, "none", 2)
    assert [path.name for path in folder.states()] == ["checkpoint-10"], "the older state goes when the new is whole"
    assert [path.name for path in folder.path.glob("checkpoint-*")] == ["checkpoint-10"]


@pytest.mark.parametrize("part", ["pytorch_model_fsdp_0", "global_step4"])
def test_shared_out_weights_of_one_process_are_whole_when_they_are_marked(tmp_path: Path, part: str):
    folder = TrainingFolder(tmp_path / "out")
    path = state(folder, 4, processes=1)
    assert folder.states() == [path]
    (path / part).mkdir()
    assert folder.states() == []
    folder.mark_whole(4, "fsdp2", 1)
    assert folder.last_state("fsdp2", 1) == str(path)


def test_what_is_not_whole_goes_before_a_launch(tmp_path: Path):
    folder = TrainingFolder(tmp_path / "out")
    state(folder, 2, processes=2)
    folder.mark_whole(2, "fsdp2", 2)
    state(folder, 4, processes=2)
    folder.failure.write_text("{}")
    folder.clear_for_launch()
    assert sorted(path.name for path in folder.path.iterdir()) == ["checkpoint-2"]


@pytest.mark.parametrize(
    ("kept", "now", "told"),
    [
        (("fsdp2", 2), ("none", 1), "FSDP2 in 2 processes, which whole weights in 1 process cannot"),
        (("deepspeed", 2), ("deepspeed", 4), "DeepSpeed in 2 processes, which DeepSpeed in 4 processes cannot"),
    ],
)
def test_a_state_of_another_kind_is_not_continued(tmp_path: Path, kept, now, told):
    folder = TrainingFolder(tmp_path / "out")
    state(folder, 2, processes=2)
    folder.mark_whole(2, *kept)
    with pytest.raises(ValueError, match=f"{told} continue: launch it as before, or delete .*out.work"):
        folder.last_state(*now)


def test_half_a_mark_is_none(tmp_path: Path):
    folder = TrainingFolder(tmp_path / "out")
    path = state(folder, 2, processes=2)
    (path / WHOLE).write_text(json.dumps({"sharding": "none"})[:-3])
    assert folder.states() == []


def test_orphans_are_waited_for(tmp_path: Path):
    folder = TrainingFolder(tmp_path / "out")
    folder.path.mkdir()
    ready = multiprocessing.Event()
    child = os.fork()
    if child == 0:
        with folder.at_work():
            ready.set()
            signal.pause()
    ready.wait(10)
    with pytest.raises(ValueError, match=r"processes of an earlier start still train into .*out"):
        folder.wait_for_orphans(0.2)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    folder.wait_for_orphans(5.0)

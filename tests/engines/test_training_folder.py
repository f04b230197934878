"""Who is at work beside a checkpoint, and which of its states are whole."""

import errno
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.support.damage import DAMAGES

from crossward.engines.state_files import WHOLE, Sharding, Whole, names_in, read_whole, sums_of
from crossward.engines.training_folder import TrainingFolder


def state(folder: TrainingFolder, step: int) -> Path:
    """A state as the library's Trainer leaves it, in small; a part of FSDP2's lies in a folder."""
    path = folder.state(step)
    (path / "optimizer_0").mkdir(parents=True)
    (path / "trainer_state.json").write_text("{}")
    (path / "rng_state_0.pth").write_bytes(b"")
    (path / "optimizer_0" / "__0_0.distcp").write_bytes(b"moments" * step)
    return path


def mark(folder: TrainingFolder, step: int, sharding: Sharding = "none", processes: int = 2) -> None:
    files = sums_of(folder.state(step), names_in(folder.state(step)))
    folder.mark_whole(step, Whole(sharding=sharding, processes=processes, files=files))


def cleared(folder: TrainingFolder) -> list[str]:
    """What is told before a start."""
    told: list[str] = []
    folder.clear_for_start(told.append)
    return told


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
        state(folder, 3)
    assert sorted(path.name for path in folder.path.iterdir()) == ["checkpoint-3", "lock"]


def test_a_state_is_whole_when_it_is_marked(tmp_path: Path):
    folder = TrainingFolder(tmp_path / "out")
    assert folder.last_state("none", 2) is None
    state(folder, 2)
    assert folder.states() == []
    mark(folder, 2)
    state(folder, 10)
    assert folder.last_state("none", 2) == str(folder.state(2))
    assert folder.last_state("none", 1) == str(folder.state(2)), "whole weights fit any number"
    mark(folder, 10)
    assert folder.states() == [folder.state(10)], "the older state goes when the new is whole"
    assert list(folder.path.glob("checkpoint-*")) == [folder.state(10)]
    said = json.loads((folder.state(10) / WHOLE).read_text())
    assert list(said["files"]) == ["optimizer_0/__0_0.distcp", "trainer_state.json", "rng_state_0.pth"]
    assert said["files"]["rng_state_0.pth"] == {"size_bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()}
    assert cleared(folder) == []
    assert folder.states() == [folder.state(10)]


def test_what_is_not_whole_goes_before_a_start(tmp_path: Path):
    folder = TrainingFolder(tmp_path / "out")
    state(folder, 2)
    mark(folder, 2, "fsdp2")
    state(folder, 4)
    (state(folder, 5) / WHOLE).write_text('{"sharding": "none", "processes": 1}')
    (folder.path / "checkpoint-6").write_text("a file")
    (folder.path / "checkpoint-x").mkdir()
    folder.failure.write_text("{}")
    told = cleared(folder)
    steps = [line.split(";")[0].removeprefix("a state of the training at step ") for line in told]
    mark_of = {step: folder.state(step) / WHOLE for step in (4, 5, 6)}
    unfinished = "(saving was cut, or an earlier version wrote it)"
    assert steps == [
        f"6 is not finished: there is no {mark_of[6]} {unfinished}",
        f"5 is damaged: {mark_of[5]} is an earlier version's and has no sums of the files",
        f"4 is not finished: there is no {mark_of[4]} {unfinished}",
    ]
    assert {line.split(";")[1] for line in told} == {" going on from step 2"}
    assert sorted(path.name for path in folder.path.iterdir()) == ["checkpoint-2", "checkpoint-x"]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["trainer_state.json", "optimizer_0/__0_0.distcp", WHOLE])
def test_a_damaged_state_is_told_and_an_earlier_one_taken(tmp_path: Path, name: str, damage: str):
    folder = TrainingFolder(tmp_path / "out")
    state(folder, 4)
    mark(folder, 4)
    shutil.copytree(folder.state(4), folder.state(2))
    DAMAGES[damage](folder.state(4) / name)
    (told,) = cleared(folder)
    assert str(folder.state(4) / name) in told
    assert told.endswith("; going on from step 2")
    assert folder.last_state("none", 1) == str(folder.state(2))
    assert not folder.state(4).exists()
    DAMAGES[damage](folder.state(2) / name)
    assert cleared(folder)[0].endswith("; going on from the beginning")
    assert folder.last_state("none", 1) is None


@pytest.mark.parametrize(
    "change",
    [
        {"sharding": "fsdp"},
        {"processes": True},
        {"processes": 0},
        {"files": ["trainer_state.json"]},
        {"files": {"../trainer_state.json": {"size_bytes": 2, "sha256": "0" * 64}}},
        {"files": {"trainer_state.json": {"size_bytes": 2, "sha256": "0"}}},
        {"more": 1},
    ],
)
def test_what_whole_json_says_is_read_strictly(tmp_path: Path, change: dict[str, Any]):
    """Its checksum does not help what no version of ours writes."""
    files = {"trainer_state.json": {"size_bytes": 2, "sha256": hashlib.sha256(b"{}").hexdigest()}}
    said = {"sharding": "none", "processes": 1, "files": files}
    file = tmp_path / WHOLE

    def write(content: dict[str, Any]) -> None:
        plain = json.dumps(content, sort_keys=True, separators=(",", ":"))
        file.write_text(json.dumps(content | {"checksum": hashlib.sha256(plain.encode()).hexdigest()}))

    write(said)
    assert read_whole(file).files["trainer_state.json"].size_bytes == 2
    write(said | change)
    with pytest.raises(ValueError, match=rf"{file} (does not say which files|names a file without its size)"):
        read_whole(file)


def test_a_state_that_the_disk_does_not_give_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = TrainingFolder(tmp_path / "out")
    state(folder, 2)
    mark(folder, 2)

    def broken(handle: Any, digest: str) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(hashlib, "file_digest", broken)
    with pytest.raises(ValueError, match=r"checkpoint-2 cannot be read \(Input/output error\): run again, or delete "):
        cleared(folder)
    assert folder.states() == [folder.state(2)]


@pytest.mark.parametrize(
    ("kept", "now", "told"),
    [
        (("fsdp2", 2), ("none", 1), "FSDP2 in 2 processes, which whole weights in 1 process cannot"),
        (("deepspeed", 2), ("deepspeed", 4), "DeepSpeed in 2 processes, which DeepSpeed in 4 processes cannot"),
    ],
)
def test_a_state_of_another_kind_is_not_continued(tmp_path: Path, kept, now, told):
    folder = TrainingFolder(tmp_path / "out")
    state(folder, 2)
    mark(folder, 2, *kept)
    with pytest.raises(ValueError, match=f"{told} continue: launch it as before, or delete .*out.work"):
        folder.last_state(*now)


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

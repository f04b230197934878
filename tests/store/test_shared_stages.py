"""The pool of stages: links in and out, damage, what is in the key, and one process at a time."""

import errno
import multiprocessing
import os
from pathlib import Path

import pytest

from crossward.store import manifest, shared_stages
from crossward.store.run_dir import RunDir, StageDir
from crossward.store.shared_stages import SharedStages, held

INPUTS, SETTINGS = {"policy": "abc"}, {"n": 4}


def made(root: Path, *, name: str = "train", text: str = "weights") -> tuple[StageDir, manifest.StageManifest]:
    """A finished stage with one listed file, and a journal that is not listed."""
    stage = RunDir(root).iteration(1).stage(name)  # type: ignore[arg-type]
    manifest.begin(stage, INPUTS, SETTINGS)
    (stage.path / "checkpoint").mkdir()
    (stage.checkpoint / "model.safetensors").write_text(text)
    stage.metrics.write_text('{"step": 1}\n')
    files = [stage.checkpoint / "model.safetensors"]
    return stage, manifest.finish(stage, INPUTS, SETTINGS, counts={"languages": {}}, files=files, seconds=1.0)


def begun(root: Path) -> StageDir:
    stage = RunDir(root).iteration(1).stage("train")
    manifest.begin(stage, INPUTS, SETTINGS)
    return stage


def test_what_one_run_publishes_another_takes_as_links(tmp_path: Path):
    shared = SharedStages(root=tmp_path / "stages")
    first, finished = made(tmp_path / "a")
    with shared.reserved(first, INPUTS, SETTINGS) as pooled:
        assert pooled.take() is None
        assert first.manifest.exists(), "a miss leaves the run's own files"
        pooled.publish(finished)
    second = begun(tmp_path / "b")
    (second.path / "half-made").write_text("of a run that was killed")
    with shared.reserved(second, INPUTS, SETTINGS) as pooled:
        assert pooled.take() == finished
    assert manifest.completed(second, INPUTS, SETTINGS) == finished
    assert not (second.path / "half-made").exists()
    weights = [stage.checkpoint / "model.safetensors" for stage in (first, second)]
    assert weights[0].stat().st_ino == weights[1].stat().st_ino
    assert [stage.metrics.stat().st_nlink for stage in (first, second)] == [1, 1], "a journal is written in place"
    assert second.metrics.read_text() == first.metrics.read_text()


def test_doing_a_taken_stage_again_changes_no_other_run(tmp_path: Path):
    shared = SharedStages(root=tmp_path / "stages")
    first, finished = made(tmp_path / "a")
    second = begun(tmp_path / "b")
    with shared.reserved(first, INPUTS, SETTINGS) as pooled:
        pooled.publish(finished)
    with shared.reserved(second, INPUTS, SETTINGS) as pooled:
        pooled.take()
    manifest.redo(second)
    made(tmp_path / "b", text="other weights")
    assert manifest.completed(first, INPUTS, SETTINGS) == finished


def test_a_damaged_stage_leaves_the_pool(tmp_path: Path):
    shared = SharedStages(root=tmp_path / "stages")
    stage, finished = made(tmp_path / "a")
    with shared.reserved(stage, INPUTS, SETTINGS) as pooled:
        pooled.publish(finished)
        os.replace(stage.metrics, pooled.place / "checkpoint" / "model.safetensors")
        other = begun(tmp_path / "b")
    with shared.reserved(other, INPUTS, SETTINGS) as pooled:
        assert pooled.is_there
        assert pooled.take() is None
        assert not pooled.is_there


def test_what_is_in_the_key(tmp_path: Path):
    def place(stage: StageDir, unrecorded: dict | None = None, inputs: dict | None = None) -> str:
        shared = SharedStages(root=tmp_path, unrecorded=unrecorded or {})
        with shared.reserved(stage, inputs or INPUTS, SETTINGS) as pooled:
            return pooled.place.name

    here = RunDir(tmp_path / "run").iteration(1)
    base = place(here.stage("score"))
    assert base.startswith("score-")
    assert base == place(RunDir(tmp_path / "other-run").iteration(1).stage("score"))
    assert base == place(here.stage("score-crosslingual")), "alone or in an ensemble, a score is a score"
    others = [
        place(RunDir(tmp_path / "run").iteration(2).stage("score")),
        place(here.stage("score"), {"score": {"dtype": "bfloat16"}}),
        place(here.stage("score"), inputs={"policy": "xyz"}),
        place(here.stage("sample")),
    ]
    assert len({base, *others}) == 5
    assert base == place(here.stage("score"), {"sample": {"dtype": "bfloat16"}})


def test_without_hard_links_files_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def across_devices(source: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(shared_stages.os, "link", across_devices)
    shared = SharedStages(root=tmp_path / "stages")
    first, finished = made(tmp_path / "a")
    second = begun(tmp_path / "b")
    with shared.reserved(first, INPUTS, SETTINGS) as pooled:
        pooled.publish(finished)
    with shared.reserved(second, INPUTS, SETTINGS) as pooled:
        assert pooled.take() == finished
    assert (second.checkpoint / "model.safetensors").read_text() == "weights"


def _note_alone(lock: Path, log: Path) -> None:
    with held(lock):
        before = log.read_text() if log.exists() else ""
        assert before.count("in") == before.count("out"), "somebody else is inside"
        log.write_text(f"{before}in ")
        log.write_text(f"{log.read_text()}out ")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_lock_is_one_process_at_a_time(tmp_path: Path):
    context = multiprocessing.get_context("fork")
    arguments = (tmp_path / "locks" / ".a.lock", tmp_path / "log")
    children = [context.Process(target=_note_alone, args=arguments) for _ in range(8)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 8
    assert (tmp_path / "log").read_text() == "in out " * 8

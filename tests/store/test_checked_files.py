"""Files that were hashed before are not read again, unless anything about them changed."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from crossward.store import checked_files, manifest
from crossward.store.checked_files import CheckedFiles, file_sha256
from crossward.store.run_dir import StageDir


def old_record(stage: StageDir) -> None:
    """Let the record be from the time when its files had settled, as an hour would."""
    written = time.time() + 3600
    os.utime(stage.checked, (written, written))


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StageDir:
    monkeypatch.setattr(checked_files, "SMALL_BYTES", 0)
    found = StageDir(tmp_path / "sample")
    (found.path / "es").mkdir(parents=True)
    found.shard("es", 0).write_bytes(b"first")
    found.shard("es", 1).write_bytes(b"second")
    return found


def hashed(stage: StageDir) -> tuple[list[str], int]:
    checked = CheckedFiles(stage)
    hashes = [checked.sha256(path) for _, _, path in stage.shards("es")]
    checked.write()
    return hashes, checked.read_bytes


def test_a_second_look_reads_nothing(stage: StageDir):
    expected = [file_sha256(path) for _, _, path in stage.shards()]
    assert hashed(stage) == (expected, 11)
    old_record(stage)
    assert hashed(stage) == (expected, 0)
    stage.checked.unlink()
    assert hashed(stage) == (expected, 11)


def test_a_file_that_was_just_written_is_read_again(stage: StageDir):
    hashed(stage)
    assert hashed(stage)[1] == 11  # the record is no two seconds younger than the files


def test_other_bytes_of_the_same_size_are_seen_whatever_their_time(stage: StageDir):
    path = stage.shard("es", 0)
    before = path.stat()
    hashed(stage)
    old_record(stage)
    path.write_bytes(b"FIRST")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    hashes, n_read = hashed(stage)
    assert (hashes[0], n_read) == (file_sha256(path), 5)


@pytest.mark.parametrize("content", ["", "[]", '{"es/part-00000.parquet": 1}', '{"a": [1, 2]}', "[" * 100_000])
def test_a_record_that_is_none_is_passed_over(stage: StageDir, content: str):
    stage.checked.write_text(content)
    assert hashed(stage)[1] == 11


def test_of_a_finished_stage_weights_alone_are_read_when_the_run_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(checked_files, "SMALL_BYTES", 0)
    stage = StageDir(tmp_path / "train")
    manifest.begin(stage, {}, {})
    stage.checkpoint.mkdir()
    weights = stage.checkpoint / "model.safetensors"
    weights.write_bytes(b"weights")
    stage.metrics.write_bytes(b"{}")
    done = manifest.finish(stage, {}, {}, counts={}, files=[weights, stage.metrics], seconds=0.0)
    old_record(stage)
    read: list[Path] = []

    def noted(path: Path, advance: Any) -> str:
        read.append(path)
        return file_sha256(path, advance)

    with monkeypatch.context() as watched:
        watched.setattr(checked_files, "file_sha256", None)
        watched.setattr(manifest, "file_sha256", noted)
        assert manifest.completed(stage, {}, {}) == done
    assert read == [weights]
    weights.write_bytes(b"WEIGHTS")
    with pytest.raises(ValueError, match=r"model\.safetensors is missing or damaged"):
        manifest.completed(stage, {}, {})


def test_small_stages_keep_no_record(tmp_path: Path):
    stage = StageDir(tmp_path / "sample")
    (stage.path / "es").mkdir(parents=True)
    stage.shard("es", 0).write_bytes(b"first")
    hashed(stage)
    assert not stage.checked.exists()

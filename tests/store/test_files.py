"""Atomic writes: the old file or the new one, never something between."""

import errno
import os
from pathlib import Path

import pytest

from crossward.store.files import atomic_file, is_temporary, temporary_of, write_bytes, write_text


def write_half(path: Path, interruption: BaseException) -> None:
    with atomic_file(path) as handle:
        handle.write(b"half")
        raise interruption


def test_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")
    with pytest.raises(KeyboardInterrupt):
        write_half(path, KeyboardInterrupt())
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]


def test_interrupted_first_write_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError):
        write_half(tmp_path / "deep" / "a.bin", RuntimeError())
    assert list((tmp_path / "deep").iterdir()) == []


def test_target_is_untouched_until_the_block_ends(tmp_path):
    path = tmp_path / "a.bin"
    with atomic_file(path) as handle:
        handle.write(b"new")
        handle.flush()
        assert not path.exists()
    assert path.read_bytes() == b"new"


def test_killed_process_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")
    child = os.fork()
    if child == 0:
        with atomic_file(path) as handle:
            handle.write(b"half")
            handle.flush()
            os._exit(9)
    os.waitpid(child, 0)
    assert path.read_bytes() == b"old"
    assert is_temporary(temporary_of(path))
    assert temporary_of(path).read_bytes() == b"half"
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert not temporary_of(path).exists()


def test_full_disk_passes_through_and_cleans_up(tmp_path, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "a.bin"
    write_bytes(path, b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_bytes(path, b"new")
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]


def test_a_link_keeps_its_target_and_a_folder_is_refused(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old")
    link.symlink_to(real)
    write_text(link, "ñandú")
    assert link.is_symlink()
    assert real.read_bytes() == "ñandú".encode()
    with pytest.raises(ValueError, match="is a folder"):
        write_bytes(tmp_path, b"x")


def test_a_device_is_written_straight():
    write_bytes(Path(os.devnull), b"x")
    assert not os.path.isfile(os.devnull)

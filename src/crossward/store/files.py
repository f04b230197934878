"""One way to write a file: whole or not at all.

Bytes go to a hidden temporary beside the target, are forced to the disk, and take the target's name in one step. A
process killed in between leaves the old file (or none) and a temporary that the next write overwrites. Knows nothing
of what the bytes mean.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PREFIX, SUFFIX = ".", ".tmp"


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A binary handle whose contents become `path` when the block ends well, and vanish when it raises.

    A device or pipe (/dev/stdout) is written straight: it cannot be replaced. A full disk's OSError passes through.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder: expected the name of a file to write")
    if path.exists() and not path.is_file():
        with path.open("wb") as stream:
            yield stream
        return
    target = path.resolve()  # a link keeps pointing where it did
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_of(target)
    try:
        with temporary.open("wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = error.filename or str(target)  # a write that fails names no file by itself
        raise
    sync_file(target.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Make `path` hold exactly `content`, atomically."""
    with atomic_file(path) as handle:
        handle.write(content)


def write_text(path: Path, text: str) -> None:
    """Make `path` hold exactly `text` in UTF-8, atomically."""
    write_bytes(path, text.encode("utf-8"))


def temporary_of(path: Path) -> Path:
    """The one temporary that a write of `path` uses, so that a stale one is overwritten and never accumulates."""
    return path.with_name(f"{PREFIX}{path.name}{SUFFIX}")


def is_temporary(path: Path) -> bool:
    """Whether a file is what an interrupted write left behind."""
    return path.name.startswith(PREFIX) and path.name.endswith(SUFFIX)


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync_file(path: Path) -> None:
    """Make a file's bytes survive a power cut; of a folder, the names in it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        os.close(descriptor)

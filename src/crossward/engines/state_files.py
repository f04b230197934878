"""The files of a state that a training keeps, and whole.json, which says that all of them are there and what they hold.

whole.json is written last, when the files are on the disk. A state is gone on from only where each file has the size
and the sha256 that it names. Knows no training; loads no heavy library.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

Sharding = Literal["none", "fsdp2", "deepspeed"]
WHOLE = "whole.json"
_NEW = f".{WHOLE}.tmp"
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSum:
    """What a file was when it was forced to the disk."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """Who wrote a state, and its files by their names within it."""

    sharding: Sharding
    processes: int
    files: dict[str, FileSum]


def names_in(state: Path) -> list[str]:
    """The files of a state, the largest first: several processes take them in turns."""
    found = [path for path in state.rglob("*") if path.is_file() and path.name not in (WHOLE, _NEW)]
    sized = sorted((-path.stat().st_size, path.relative_to(state).as_posix()) for path in found)
    return [name for _, name in sized]


def sums_of(state: Path, names: Iterable[str]) -> dict[str, FileSum]:
    """Size and sha256 of files of a state.

    A core hashes about 1.5 GB a second. A model that is trained whole keeps 12 bytes a parameter (float32 weights, two
    moments of AdamW): 8 s for each billion parameters, once in the ten minutes between two states, divided by the
    processes as far as the files go round; and once in a start that goes on, by one process. An adapter's is nothing.
    """
    found: dict[str, FileSum] = {}
    for name in names:
        with (state / name).open("rb") as handle:
            sha256 = hashlib.file_digest(handle, "sha256").hexdigest()
            found[name] = FileSum(size_bytes=handle.tell(), sha256=sha256)
    return found


def force_all(folder: Path) -> None:
    """Make a folder's files, and their names, survive a power cut."""
    for path in (*folder.rglob("*"), folder):
        force(path)


def force(path: Path) -> None:
    """The same of one file, or of the names in one folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        os.close(descriptor)


def write_whole(state: Path, whole: Whole) -> None:
    """Say that a state is whole. All its files are on the disk already, or this is not true after a power cut."""
    content = asdict(whole)
    new = state / _NEW
    new.write_text(json.dumps(content | {"checksum": _checksum(content)}, indent=1) + "\n", encoding="utf-8")
    force(new)
    new.replace(state / WHOLE)
    force(state)
    force(state.parent)


def read_whole(file: Path) -> Whole:
    """What `write_whole` wrote. Raises ValueError, which names the file, for anything else."""
    try:
        content = json.loads(file.read_bytes())
        if not isinstance(content, dict):
            raise ValueError
        checksum = content.pop("checksum", None)
        known = _checksum(content)
    except (ValueError, RecursionError):
        raise ValueError(f"{file} is no JSON object, or was cut") from None
    if checksum is None and content.keys() == {"sharding", "processes"}:
        raise ValueError(f"{file} is an earlier version's and has no sums of the files")
    if checksum != known:
        raise ValueError(f"the checksum in {file} is not that of what it says")
    match content:
        case {"sharding": "none" | "fsdp2" | "deepspeed" as sharding, "processes": n, "files": dict() as files} if (
            _is_count(n) and n > 0 and len(content) == 3
        ):
            return Whole(sharding=sharding, processes=n, files={name: _sum(file, name, files[name]) for name in files})
        case _:
            raise ValueError(f"{file} does not say which files there are, and who wrote them")


def fault_of(state: Path) -> str | None:
    """Why a state cannot be gone on from, in words that follow it; None where all is as it was written.

    Raises ValueError where the disk does not give a file: it may give it another time.
    """
    try:
        whole = read_whole(state / WHOLE)
        # Sizes first: most damage is seen without reading anything.
        for name, kept in whole.files.items():
            if not (state / name).is_file():
                return f"is damaged: {state / name} is not there"
            if (size := (state / name).stat().st_size) != kept.size_bytes:
                return f"is damaged: {state / name} has {size} bytes, and had {kept.size_bytes}"
        for name, found in sums_of(state, whole.files).items():
            if found != whole.files[name]:
                return f"is damaged: {state / name} holds other bytes than were written (its sha256 is another)"
    except (FileNotFoundError, NotADirectoryError):
        return f"is not finished: there is no {state / WHOLE} (saving was cut, or an earlier version wrote it)"
    except IsADirectoryError:
        return f"is damaged: {state / WHOLE} is a folder"
    except OSError as error:
        raise ValueError(
            f"{error.filename or state} cannot be read ({error.strerror}): run again, or delete {state} to go on "
            "without it"
        ) from error
    except ValueError as error:
        return f"is damaged: {error}"
    return None


def drop(state: Path) -> None:
    """Remove a state; first what says that it is whole, as a kill may come in between."""
    mark = state / WHOLE
    if not state.is_dir() or state.is_symlink():
        state.unlink()
        return
    if mark.is_dir():
        shutil.rmtree(mark)
    else:
        mark.unlink(missing_ok=True)
    shutil.rmtree(state)


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


def _sum(file: Path, name: str, value: Any) -> FileSum:
    """One entry of `files`. A name that leads out of the state is none of ours."""
    path = PurePosixPath(name)
    inside = str(path) == name != "." and not path.is_absolute() and ".." not in path.parts and name.isprintable()
    match value:
        case {"size_bytes": size, "sha256": str() as sha256} if (
            inside and len(value) == 2 and _is_count(size) and _SHA256.fullmatch(sha256)
        ):
            return FileSum(size_bytes=size, sha256=sha256)
        case _:
            raise ValueError(f"{file} names a file without its size and sha256, or one that is not in the state")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0

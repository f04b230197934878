"""The hashes of a stage's files, without reading those again that are as they were when they were hashed.

A file counts as unchanged where its size and both its times are those seen before, and it had been left alone for two
seconds when that was written down (a clock may be too coarse to tell two writes apart). Without the record every file
is read; small stages have none.
"""

import hashlib
import json
import os
from collections.abc import Callable, Container
from pathlib import Path

from crossward.store.files import write_text
from crossward.store.run_dir import StageDir

CountBytes = Callable[[int], None]
SETTLED_NS = 2_000_000_000
SMALL_BYTES = 2**26  # of a stage: read in a moment


class CheckedFiles:
    """The files of one stage. `read_bytes` counts what had to be read."""

    def __init__(self, stage_dir: StageDir) -> None:
        self._stage_dir = stage_dir
        self._known, self._written_ns = _read(stage_dir.checked)
        self._found: dict[str, list[int | str]] = {}
        self.read_bytes = 0

    def sha256(self, path: Path, advance: CountBytes | None = None) -> str:
        """Hex sha256 of a file of the stage; `advance` counts its bytes, read or not."""
        name, found = self._stage_dir.relative(path), path.stat()
        seen: list[int | str] = [found.st_size, found.st_mtime_ns, found.st_ctime_ns]
        known = self._known.get(name)
        if known is not None and known[:3] == seen and max(found.st_mtime_ns, found.st_ctime_ns) <= self._settled:
            if advance is not None:
                advance(found.st_size)
            return str(known[3])
        self.read_bytes += found.st_size
        self._found[name] = [*seen, file_sha256(path, advance)]
        return str(self._found[name][3])

    def write(self) -> None:
        """Write down what was hashed now, beside what was known."""
        if self.read_bytes > SMALL_BYTES or (self._known and self._found):
            write_text(self._stage_dir.checked, json.dumps(self._known | self._found, separators=(",", ":")))

    @property
    def _settled(self) -> int:
        return self._written_ns - SETTLED_NS


def refuse_others(stage_dir: StageDir, listed: Container[str]) -> None:
    """Raise ValueError for a shard that the manifest does not list: whoever reads the stage would take it for one."""
    for path in (*(path for _, _, path in stage_dir.shards()), *stage_dir.language_files()):
        if stage_dir.relative(path) not in listed:
            raise ValueError(f"file {path} is none that {stage_dir.title} made: move it away and run again")


def file_sha256(path: Path, advance: CountBytes | None = None) -> str:
    """Hex sha256 of a file's bytes; `advance` counts them as they are read."""
    with path.open("rb") as handle:
        if advance is None:
            return hashlib.file_digest(handle, "sha256").hexdigest()
        found = hashlib.sha256()
        while block := handle.read(1 << 22):
            found.update(block)
            advance(len(block))
        return found.hexdigest()


def _read(path: Path) -> tuple[dict[str, list[int | str]], int]:
    """The record and when it was written; nothing where there is none, or what is there is none."""
    try:
        with path.open("rb") as handle:
            known, written_ns = json.load(handle), os.fstat(handle.fileno()).st_mtime_ns
    except (OSError, ValueError, RecursionError):
        return {}, 0
    whole = isinstance(known, dict) and all(isinstance(item, list) and len(item) == 4 for item in known.values())
    return (known, written_ns) if whole else ({}, 0)

"""What a long command has finished, kept beside its output until all of it is: `<output>.partial`.

The first line says what the content is made from, each line after it is a row of the output to be. The same command
again goes on behind the last whole window of rows (what was computed together stays together, down to the rounding);
a torn or damaged line ends what counts. Another origin begins anew, once its first rows are there. Knows no models.
"""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from crossward.store.files import atomic_file
from crossward.store.json_lines import Row, encode_row, loose_json

SUFFIX = ".partial"


class Journal:
    """The rows of one output: `done` of `total` are there, in windows of `window`; `changed` names other origins' keys.

    `origin` is all that decides the content. Raises ValueError where another process writes the same output.
    """

    def __init__(self, output: Path, origin: Mapping[str, Any], *, window: int, total: int) -> None:
        if output.is_dir():
            raise ValueError(f"{output} is a folder: expected the name of a file to write")
        self._output = output
        self._header = json.dumps({"origin": dict(origin)}, sort_keys=True, allow_nan=False).encode() + b"\n"
        # A device or a pipe has no place beside it: what goes there is not kept.
        self.path = output.with_name(output.name + SUFFIX) if output.is_file() or not output.exists() else None
        self._handle = tempfile.TemporaryFile() if self.path is None else _locked(self.path)  # noqa: SIM115
        self.done, self._end, self.changed = _sound(self._handle, self._header, window, total)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Keep what is there; a journal that holds nothing goes."""
        if self.path is not None and not self._handle.closed and os.fstat(self._handle.fileno()).st_size == 0:
            self.path.unlink(missing_ok=True)
        self._handle.close()

    def rows(self) -> Iterator[Row]:
        """The rows that are there."""
        self._handle.seek(len(self._header))
        for _ in range(self.done):
            yield json.loads(self._handle.readline())

    def append(self, rows: Iterable[Row]) -> None:
        """Add a window of rows. Raises ValueError that names the prompt whose row would hold NaN or inf."""
        lines = [
            encode_row(row, where=f"{self._output}, line {number}")
            for number, row in enumerate(rows, start=self.done + 1)
        ]
        self._begin()
        self._handle.write(b"".join(lines))
        self._handle.flush()
        os.fsync(self._handle.fileno())
        self.done += len(lines)
        self._end = self._handle.tell()

    def publish(self) -> None:
        """Make the output of the rows, in one step, and remove the journal."""
        self._begin()
        self._handle.seek(len(self._header))
        with atomic_file(self._output) as output:
            shutil.copyfileobj(self._handle, output, 1 << 20)
        if self.path is not None:
            self.path.unlink(missing_ok=True)
        self._handle.close()

    def _begin(self) -> None:
        """Stand behind the last row that counts; what is there of another origin or behind a tear goes now."""
        if not self._end:
            self._handle.truncate(0)
            self._handle.seek(0)
            self._handle.write(self._header)
            self._end = len(self._header)
        self._handle.truncate(self._end)
        self._handle.seek(self._end)


def _sound(handle: BinaryIO, header: bytes, window: int, total: int) -> tuple[int, int, list[str]]:
    """How many rows count, the byte behind them (0: not even the header), and the keys in which the origins differ."""
    handle.seek(0)
    found = handle.readline()
    if found != header:
        return 0, 0, _changed(found, header)
    done, end = 0, len(header)
    ends = [end]
    for line in handle:
        if done == total or not line.endswith(b"\n") or not _is_row(line):
            break
        done, end = done + 1, end + len(line)
        ends.append(end)
    kept = done if done == total else done // window * window
    return kept, ends[kept], []


def _is_row(line: bytes) -> bool:
    try:
        return isinstance(loose_json(line), dict)
    except ValueError:
        return False


def _changed(found: bytes, wanted: bytes) -> list[str]:
    if not found.endswith(b"\n"):  # nothing, or a torn first line
        return []
    new = json.loads(wanted)["origin"]
    try:
        old = loose_json(found)["origin"]
        return sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    except (ValueError, KeyError, TypeError, AttributeError):
        return sorted(new)


def _locked(path: Path) -> BinaryIO:
    """The file, made if missing, for this process alone; the kernel's lock goes with the process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        raise ValueError(
            f"{path} is being written by another process: wait until it ends, or choose another --output"
        ) from None
    return handle

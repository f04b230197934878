"""Rows kept one by one under a key, in a file that is only ever appended to: what was paid for is not lost.

A row is on its way to the disk when `put` returns, so that a killed process loses none (a power cut may). A last line
that was torn is cut off and overwritten; a damaged line elsewhere is passed over and counted: each carries a checksum
(those of earlier versions have none). One process at a time has the file open. In memory are only keys and places.
Knows nothing of what the rows say.
"""

import fcntl
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from crossward.store.json_lines import Row, encode_row, loose_json

KEY = "key"
CHECKSUM = "checksum"


class KeyedLines:
    """A journal of JSON lines; of two rows under one key the later counts. Made with its folder where it is missing.

    Raises ValueError where somebody has it open already.
    """

    def __init__(self, path: Path) -> None:
        if path.exists() and not path.is_file():
            raise ValueError(f"{path} is not a file: expected the name of a journal to append to")
        self.path = path
        self.damaged = 0  # lines passed over: no JSON object with a key, or not what was written
        self.torn = False  # the last line was half written, and is cut off
        self._places: dict[str, int] = {}
        self._end = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._handle = path.open("a+b", buffering=0)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._handle.close()
            raise ValueError(
                f"{path} is in use already: wait until that process ends, or choose another output"
            ) from None
        self._index()

    def __enter__(self) -> "KeyedLines":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        """The keys, each once, in the order in which they first came."""
        return iter(tuple(self._places))

    @property
    def told(self) -> str | None:
        """What is not as it was written, in words; None where all is."""
        lost = [f"{self.damaged} damaged lines are passed over"] if self.damaged else []
        lost += ["a torn last line is cut off"] if self.torn else []
        return f"{self.path}: {' and '.join(lost)}: what they held is asked for again" if lost else None

    def get(self, key: str) -> Row | None:
        """The row kept under a key, without the key itself; None where there is none."""
        if key not in self._places:
            return None
        with self.path.open("rb") as lines:
            lines.seek(self._places[key])
            found = opened(lines.readline())
        if found is None or found.pop(KEY) != key:
            raise ValueError(f"{self.path} was changed while it was in use: run again")
        return found

    def put(self, key: str, row: Row) -> None:
        """Append a row. A full disk's OSError passes through, and leaves no part of the row."""
        assert KEY not in row
        line = sealed({KEY: key} | row, where=f"{self.path}, key {key!r}")
        try:
            written = 0
            while written < len(line):
                written += self._handle.write(line[written:])
        except OSError as error:
            self._handle.truncate(self._end)
            error.filename = error.filename or str(self.path)
            raise
        self._places[key] = self._end
        self._end += len(line)

    def close(self) -> None:
        """The file stays for the next time."""
        self._handle.close()

    def _index(self) -> None:
        """Find every key's place; cut off a torn last line, end a whole one that lacks only its newline."""
        with self.path.open("rb") as lines:
            for line in lines:
                row = opened(line)
                if row is None and not line.endswith(b"\n"):
                    self.torn = True
                    break
                if row is not None:
                    self._places[row[KEY]] = self._end
                elif line.strip():
                    self.damaged += 1
                self._end += len(line)
                if not line.endswith(b"\n"):
                    self._handle.write(b"\n")
                    self._end += 1
                    break  # else the newline just written would be read as a line
        self._handle.truncate(self._end)


def sealed(row: Row, *, where: str) -> bytes:
    """A row as a line with a checksum. ValueError as of `encode_row`."""
    return encode_row(row | {CHECKSUM: _checksum(row)}, where=where)


def opened(line: bytes) -> Row | None:
    """A line's row without its checksum; None where it is no JSON object with a key, or not what was written."""
    try:
        row = loose_json(line)
    except ValueError:
        return None
    if not isinstance(row, dict) or not isinstance(row.get(KEY), str):
        return None
    checksum = row.pop(CHECKSUM, None)
    return row if checksum is None or checksum == _checksum(row) else None


def _checksum(row: Row) -> str:
    """Of what is read back: a bit that flips on the disk would else be read as another verdict."""
    return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()[:16]

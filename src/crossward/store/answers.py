"""What a server has answered, kept prompt by prompt until the file that it belongs to is written.

Answers are paid for, come in any order, and a server may go at any time: each is appended as it comes, beside the
output to be, and asking for the same thing again finds it here. A torn or damaged line ends what counts. Whoever holds
the output's lock may open it; once the output is written it is deleted. Knows nothing of servers.
"""

import json
from pathlib import Path
from typing import BinaryIO

from crossward.core.records import SampledPrompt
from crossward.store import edges
from crossward.store.json_lines import encode_row, loose_json

SUFFIX = ".answers"


def answers_file(output: Path) -> Path | None:
    """Where the answers for an output are kept; None beside a device or a pipe."""
    return output.with_name(output.name + SUFFIX) if output.is_file() or not output.exists() else None


class Answers:
    """protocols.Kept in one file, which is made when the first answer comes. In memory are only keys and places."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: dict[str, int] = {}
        self._end = 0
        self._handle: BinaryIO | None = None
        if path.exists():
            with path.open("rb") as lines:
                for line in lines:
                    key = _key(line)
                    if key is None:
                        break
                    self._places[key] = self._end
                    self._end += len(line)

    def get(self, key: str) -> SampledPrompt | None:
        """What was kept under a key."""
        if key not in self._places:
            return None
        handle = self._opened()
        handle.seek(self._places[key])
        return edges.group_of(json.loads(handle.readline()), str(self._path), twin_needed=False)

    def put(self, key: str, group: SampledPrompt) -> None:
        """Keep an answer. A killed process loses none; a power cut may."""
        line = encode_row({"key": key} | edges.group_row(group), where=f"{self._path}, prompt {group.prompt.id!r}")
        handle = self._opened()
        handle.seek(self._end)
        handle.write(line)
        handle.flush()
        self._places[key] = self._end
        self._end += len(line)

    def close(self) -> None:
        """The file stays for the next time."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def _opened(self) -> BinaryIO:
        if self._handle is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.touch()
            self._handle = self._path.open("r+b")
            self._handle.truncate(self._end)
        return self._handle


def _key(line: bytes) -> str | None:
    """The key of a whole line."""
    try:
        row = loose_json(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    key = row.get("key") if isinstance(row, dict) else None
    return key if isinstance(key, str) else None

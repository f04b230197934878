"""What a server has answered, kept prompt by prompt until the file that it belongs to is written.

Answers are paid for, come in any order, and a server may go at any time: each is appended as it comes, beside the
output to be, and asking for the same thing again finds it here. A torn or damaged line ends what counts. Whoever holds
the output's lock may open it; once the output is written it is deleted. Knows nothing of servers.
"""

from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from crossward.core.records import SampledPrompt
from crossward.store import edges
from crossward.store.keyed_lines import KEY, opened, sealed

SUFFIX = ".answers"


def answers_file(output: Path) -> Path | None:
    """Where the answers for an output are kept; None beside a device or a pipe."""
    return output.with_name(output.name + SUFFIX) if output.is_file() or not output.exists() else None


class Answers:
    """protocols.Kept in one file, which is made when the first answer comes. In memory are only keys and places."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.torn = False  # a line is torn or damaged: what stands behind it does not count
        self._places: dict[str, int] = {}
        self._end = 0
        self._handle: BinaryIO | None = None
        if path.exists():
            with path.open("rb") as lines:
                for line in lines:
                    key = _key(line)
                    if key is None:
                        self.torn = True
                        break
                    self._places[key] = self._end
                    self._end += len(line)

    def get(self, key: str) -> SampledPrompt | None:
        """What was kept under a key."""
        if key not in self._places:
            return None
        handle = self._opened()
        handle.seek(self._places[key])
        row = opened(handle.readline())
        if row is None:
            raise ValueError(f"{self._path} was changed while it was in use: run again")
        return edges.group_of(row, str(self._path), twin_needed=False)

    def put(self, key: str, group: SampledPrompt) -> None:
        """Keep an answer. A killed process loses none; a power cut may."""
        line = sealed({KEY: key} | edges.group_row(group), where=f"{self._path}, prompt {group.prompt.id!r}")
        handle = self._opened()
        handle.seek(self._end)
        try:
            handle.write(line)
            handle.flush()
        except OSError as error:
            with suppress(OSError):  # what it still holds would be refused again
                self.close()
            error.filename = error.filename or str(self._path)
            raise
        self._places[key] = self._end
        self._end += len(line)

    def close(self) -> None:
        """The file stays for the next time."""
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.close()

    def _opened(self) -> BinaryIO:
        if self._handle is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.touch()
            self._handle = self._path.open("r+b")
            self._handle.truncate(self._end)
        return self._handle


def _key(line: bytes) -> str | None:
    """The key of a whole line."""
    row = opened(line) if line.endswith(b"\n") else None
    return None if row is None else row[KEY]

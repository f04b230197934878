"""JSON Lines, read strictly and one line at a time: every mistake is a ValueError that names the file and the line.

Lines end at a newline byte and nowhere else (U+2028 stays inside its text). A UTF-8 byte-order mark is tolerated; NaN,
infinities, lone surrogates and invalid UTF-8 are not. Knows no record.
"""

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import orjson

from crossward.core.plain_text import shown
from crossward.store.files import atomic_file

Row = dict[str, Any]
_BOM = b"\xef\xbb\xbf"
_DEEPEST = 64  # brackets within brackets: what is nested deeper cannot be shown, hashed or written again


class JsonLines:
    """A file's rows, one in memory at a time, as often as asked. What can be read only once (a pipe) is copied first.

    Raises ValueError where the file is missing or a folder, while iterating for what is wrong inside.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle = _opened(path)
        self.size = self._handle.seek(0, os.SEEK_END)  # bytes
        self.advance: Callable[[int], None] = lambda n: None  # told of every n bytes that were read

    def __enter__(self) -> "JsonLines":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._handle.close()

    def sha256(self) -> str:
        """Hex sha256 of the file's bytes."""
        self._handle.seek(0)
        digest = hashlib.sha256()
        while block := self._handle.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()

    def __iter__(self) -> Iterator[tuple[int, int, Row]]:
        """Line number, the byte at which the line begins, and its row; blank lines are passed over."""
        self._handle.seek(0)
        offset = found = 0
        for number, line in enumerate(self._handle, start=1):
            begin, offset = offset, offset + len(line)
            row = self._row(number, line)
            if row is not None:
                found += 1
                yield number, begin, row
        if not found:
            raise ValueError(f"file {self.path} is empty: expected at least one row")

    def at(self, number: int, offset: int) -> Row:
        """The row of one line again. Raises ValueError where the file is no longer what it was."""
        if self._handle.tell() != offset:
            self._handle.seek(offset)
        row = self._row(number, self._handle.readline())
        if row is None:
            raise ValueError(f"{self.path}, line {number} changed while the file was read: run again")
        return row

    def _row(self, number: int, line: bytes) -> Row | None:
        """The row of a line, None of a blank one."""
        self.advance(len(line))
        line = line.removeprefix(_BOM) if number == 1 else line
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            row = None
        # orjson is quick; the slow parser has the words for what is wrong, and whole numbers of more than 64 bits.
        if type(row) is not dict or float in map(type, row.values()):
            text = _text(self.path, number, line.removesuffix(b"\n"))
            if not text.strip():
                return None
            row = parse_json(text, where=f"{self.path}, line {number}")
        if not isinstance(row, dict):
            raise ValueError(f"{self.path}, line {number}: expected a JSON object, got {type(row).__name__}")
        return row


def read_json_lines(path: Path) -> Iterator[tuple[int, Row]]:
    """Every row with its line number, as a stream; blank lines are passed over."""
    with JsonLines(path) as rows:
        for number, _, row in rows:
            yield number, row


def read_file(path: Path) -> bytes:
    """A file's bytes without the byte-order mark. Raises ValueError where it is missing, a folder, or empty."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"file {path} does not exist: check the path") from None
    except IsADirectoryError:
        raise ValueError(f"{path} is a folder: expected a file") from None
    content = content.removeprefix(_BOM)
    if not content.strip():
        raise ValueError(f"file {path} is empty: expected at least one row")
    return content


def decode(path: Path, content: bytes) -> list[str]:
    """The lines of a UTF-8 text, each without its newline. Raises ValueError that names the line that is not UTF-8."""
    return [_text(path, number, line) for number, line in enumerate(content.split(b"\n"), start=1)]


def write_json_lines(path: Path, rows: Iterable[Row]) -> None:
    """One object a line, UTF-8 as it is, atomically. Raises ValueError naming the line that would hold NaN or inf."""
    with atomic_file(path) as handle:
        for number, row in enumerate(rows, start=1):
            handle.write(encode_row(row, where=f"{path}, line {number}"))


def encode_row(row: Row, *, where: str) -> bytes:
    """A row as a line. Raises ValueError that names id and language where it would hold NaN or inf."""
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"
    except ValueError:
        raise ValueError(
            f"{where} (id {shown(row.get('id'))}, language {shown(row.get('language'))}) would hold "
            f"{_not_finite(row)}: JSON has no such number, so look at how that prompt was scored"
        ) from None


def parse_json(text: str, *, where: str) -> Any:
    """Strict JSON: no NaN, no infinities, no lone surrogates, no nesting without end."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
        _require_shallow(value)
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}" if "\n" in text else f"column {error.colno}"
        raise ValueError(f"{where}: broken JSON at {place} ({error.msg})") from None
    except UnicodeEncodeError:
        raise ValueError(
            f"{where}: the text holds half of a surrogate pair, which is no character: repair it"
        ) from None
    except RecursionError:
        raise ValueError(f"{where}: broken JSON (nested too deeply)") from None
    except ValueError as error:
        digits = "a whole number of more than 4,300 digits" if "integer string conversion" in str(error) else error
        raise ValueError(f"{where}: {digits}") from None
    return value


def loose_json(content: bytes | str) -> Any:
    """JSON of our own files as it comes, where damage has an answer of its own: a ValueError without place.

    What is nested too deeply is damage too, and so is half of a surrogate pair.
    """
    text = content if isinstance(content, str) else content.decode("utf-8")
    try:
        value = json.loads(text)
        _require_shallow(value)
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def _require_shallow(value: Any) -> None:
    level = [value]
    for _ in range(_DEEPEST):
        inside = (item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list))
        level = [item for items in inside for item in items if isinstance(item, dict | list)]
        if not level:
            return
    raise RecursionError


def _opened(path: Path) -> IO[bytes]:
    """A handle that can be set back."""
    try:
        handle = path.open("rb")
    except FileNotFoundError:
        raise ValueError(f"file {path} does not exist: check the path") from None
    except IsADirectoryError:
        raise ValueError(f"{path} is a folder: expected a file") from None
    if handle.seekable():
        return handle
    with handle:
        copy = tempfile.TemporaryFile()  # noqa: SIM115 (goes when it is closed)
        shutil.copyfileobj(handle, copy)
    return copy


def _text(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}, line {number}: byte {error.start + 1} of the line is not valid UTF-8: save the file as UTF-8"
        ) from None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number: expected finite numbers only")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{shown(text)[1:-1]} is too large for a number: expected finite numbers only")
    return value


def _not_finite(row: Row) -> str:
    return next(f"{field} = {value}" for field, value in _floats(row) if not math.isfinite(value))


def _floats(row: Row) -> Iterator[tuple[str, float]]:
    for field, value in row.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, float):
                yield field, item

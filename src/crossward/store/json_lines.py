"""JSON Lines, read strictly: every mistake is a ValueError that names the file and the line.

Lines end at a newline byte and nowhere else (U+2028 stays inside its text). A UTF-8 byte-order mark is tolerated; NaN,
infinities, lone surrogates and invalid UTF-8 are not. Knows no record.
"""

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from crossward.store.files import atomic_file

Row = dict[str, Any]
_BOM = b"\xef\xbb\xbf"


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
    lines: list[str] = []
    for number, line in enumerate(content.split(b"\n"), start=1):
        try:
            lines.append(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path}, line {number}: byte {error.start + 1} of the line is not valid UTF-8: save the file as UTF-8"
            ) from None
    return lines


def read_json_lines(path: Path) -> list[tuple[int, Row]]:
    """Every row with its line number; blank lines are passed over."""
    rows: list[tuple[int, Row]] = []
    for number, line in enumerate(decode(path, read_file(path)), start=1):
        if line.strip():
            row = parse_json(line, where=f"{path}, line {number}")
            if not isinstance(row, dict):
                raise ValueError(f"{path}, line {number}: expected a JSON object, got {type(row).__name__}")
            rows.append((number, row))
    return rows


def write_json_lines(path: Path, rows: Iterable[Row]) -> None:
    """One object a line, UTF-8 as it is, atomically. Raises ValueError naming the line that would hold NaN or inf."""
    with atomic_file(path) as handle:
        for number, row in enumerate(rows, start=1):
            try:
                line = json.dumps(row, ensure_ascii=False, allow_nan=False)
            except ValueError:
                raise ValueError(
                    f"{path}, line {number} (id {row.get('id')!r}, language {row.get('language')!r}) would hold "
                    f"{_not_finite(row)}: JSON has no such number, so look at how that prompt was scored"
                ) from None
            handle.write(line.encode("utf-8") + b"\n")


def parse_json(text: str, *, where: str) -> Any:
    """Strict JSON: no NaN, no infinities, no lone surrogates."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
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
        raise ValueError(f"{where}: {error}") from None
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number: expected finite numbers only")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large for a number: expected finite numbers only")
    return value


def _not_finite(row: Row) -> str:
    return next(f"{field} = {value}" for field, value in _floats(row) if not math.isfinite(value))


def _floats(row: Row) -> Iterator[tuple[str, float]]:
    for field, value in row.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, float):
                yield field, item

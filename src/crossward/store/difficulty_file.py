"""Instruction difficulties and gamed rows for the published win rate, from alpaca_eval's two CSV files or their like.

Difficulties: a column `id` or `index`, matched as text with the verdicts' ids, and `instruction_difficulty`. Gamed
rows: `preference` (0 to 1), `std_delta_len` (length difference over its standard deviation),
`instruction_difficulty`.
"""

import csv
import io
import math
from pathlib import Path

from crossward.core.published_winrates import GamedRow, PublishedData
from crossward.store.json_lines import read_file

_IDS = ("id", "index")


def read_published(difficulty: Path, gamed: Path) -> PublishedData:
    """Both files. Raises ValueError naming file and line of what is missing, no number, or there twice."""
    found: dict[str, float] = {}
    for where, row in _rows(difficulty, "instruction_difficulty"):
        key = next((name for name in _IDS if name in row), None)
        if key is None:
            raise ValueError(f"{where}: expected a column 'id' or 'index', got {', '.join(row)}")
        id = (row[key] or "").strip()
        if id in found:
            raise ValueError(f"{where}: id {id!r} is there twice: keep one difficulty for each instruction")
        found[id] = _number(row, "instruction_difficulty", where)
    rows = [
        GamedRow(
            preference=_share(row, where),
            length_difference=_number(row, "std_delta_len", where),
            difficulty=_number(row, "instruction_difficulty", where),
        )
        for where, row in _rows(gamed, "preference", "std_delta_len", "instruction_difficulty")
    ]
    return PublishedData(difficulty=found, gamed=rows)


def _rows(path: Path, *columns: str) -> list[tuple[str, dict[str, str]]]:
    try:
        text = read_file(path).decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not valid UTF-8: save the file as UTF-8") from None
    reader = csv.DictReader(io.StringIO(text))
    if missing := [name for name in columns if name not in (reader.fieldnames or ())]:
        raise ValueError(
            f"{path}: there is no column {missing[0]!r}, the file has: {', '.join(reader.fieldnames or ())}"
        )
    rows = [(f"{path}, line {reader.line_num}", row) for row in reader]
    if not rows:
        raise ValueError(f"{path} holds no rows below its header")
    return rows


def _number(row: dict[str, str], column: str, where: str) -> float:
    try:
        value = float(row[column])
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{where}: column {column!r} must be a finite number, got {row[column]!r}")
    return value


def _share(row: dict[str, str], where: str) -> float:
    value = _number(row, "preference", where)
    if not 0 <= value <= 1:
        raise ValueError(f"{where}: column 'preference' must be 0 to 1, got {value}")
    return value

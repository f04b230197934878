"""Instruction difficulties and gamed rows for the published win rate, from alpaca_eval's two CSV files or their like.

Difficulties: a column `id` or `index`, matched as text with the verdicts' ids, and `instruction_difficulty`. Gamed
rows: `preference` (0 to 1), `std_delta_len` (length difference over its standard deviation),
`instruction_difficulty`.
"""

import math
from pathlib import Path

from crossward.core.plain_text import listed, shown
from crossward.core.published_winrates import GamedRow, PublishedData
from crossward.store.rows import csv_rows

_IDS = ("id", "index")


def read_published(difficulty: Path, gamed: Path) -> PublishedData:
    """Both files. Raises ValueError naming file and line of what is missing, no number, or there twice."""
    found: dict[str, float] = {}
    for where, row in _rows(difficulty, "instruction_difficulty"):
        key = next((name for name in _IDS if name in row), None)
        if key is None:
            raise ValueError(f"{where}: expected a column 'id' or 'index', got {listed(row)}")
        id = (row[key] or "").strip()
        if id in found:
            raise ValueError(f"{where}: id {shown(id)} is there twice: keep one difficulty for each instruction")
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
    rows = csv_rows(path)
    if not rows:
        raise ValueError(f"{path} holds no rows below its header")
    if missing := [name for name in columns if name not in rows[0][1]]:
        raise ValueError(f"{path}: there is no column {missing[0]!r}, the file has: {listed(rows[0][1])}")
    return [(f"{path}, {place}", row) for place, row in rows]


def _number(row: dict[str, str], column: str, where: str) -> float:
    try:
        value = float(row[column])
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{where}: column {column!r} must be a finite number, got {shown(row[column])}")
    return value


def _share(row: dict[str, str], where: str) -> float:
    value = _number(row, "preference", where)
    if not 0 <= value <= 1:
        raise ValueError(f"{where}: column 'preference' must be 0 to 1, got {value}")
    return value

"""Rows as a CSV file for people and spreadsheets: UTF-8, RFC 4180, written as a stream and atomically.

What stands in a cell is what stood in the value, unless formulas are to be disarmed. Knows no record.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from crossward.store.files import atomic_file

# What a spreadsheet takes for the beginning of a formula (OWASP: CSV injection).
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
GUARD = "'"
_BOM = "\ufeff"


def write_csv(
    path: Path,
    columns: Sequence[str],
    rows: Iterable[Mapping[str, str | float | int | None]],
    *,
    bom: bool = False,
    guard_formulas: bool = False,
) -> int:
    """Write rows below a header; returns how many cells of text begin like a formula.

    None is an empty cell; floats are written so that they come back exactly. `bom`: with a byte-order mark, by which
    Excel knows UTF-8. `guard_formulas`: an apostrophe before such cells, which a reader has to take off again.
    """
    formulas = 0
    with atomic_file(path) as handle:
        text = io.TextIOWrapper(handle, encoding="utf-8", newline="", write_through=True)
        try:
            text.write(_BOM if bom else "")
            writer = csv.writer(text, lineterminator="\r\n")
            writer.writerow(columns)
            for row in rows:
                cells: list[str | float | int | None] = [row[column] for column in columns]
                for index, cell in enumerate(cells):
                    if isinstance(cell, str) and cell.startswith(FORMULA_STARTS):
                        formulas += 1
                        cells[index] = GUARD + cell if guard_formulas else cell
                writer.writerow(cells)
        finally:
            text.detach()  # the handle is closed by its owner
    return formulas

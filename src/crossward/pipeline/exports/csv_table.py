"""CSV: one row a pair, for spreadsheets and other programs."""

from pathlib import Path

from crossward.core.exported import ExportedPair
from crossward.pipeline.exports.pairs_source import PairSource
from crossward.pipeline.exports.rows import Row, Written, all_pairs, facts, shown_path
from crossward.store.csv_file import write_csv

FILE = "pairs.csv"


def write_csv_table(folder: Path, source: PairSource, *, output: Path, bom: bool, guard_formulas: bool) -> Written:
    """pairs.csv; says how many cells a spreadsheet would take for formulas."""
    known = source.known
    columns = list(_row(_EMPTY, known))
    rows = (_row(pair, known) for pair in all_pairs(source))
    formulas = write_csv(folder / FILE, columns, rows, bom=bom, guard_formulas=guard_formulas)
    path = shown_path(output, FILE)
    return Written(
        commands=(f"pandas.read_csv({path!r}, dtype={{'id': str}}, keep_default_na=False)",),
        notes=(_told(formulas, guarded=guard_formulas),) if formulas else (),
    )


def _row(pair: ExportedPair, known: frozenset[str]) -> Row:
    row = facts(pair, known)
    texts = {"instruction": pair.instruction, "chosen": pair.chosen, "rejected": pair.rejected}
    head = {name: row.pop(name) for name in ("id", "language", "iteration") if name in row}
    return head | texts | row


def _told(formulas: int, *, guarded: bool) -> str:
    if guarded:
        return f"{formulas} cells begin like a formula: an apostrophe stands before each, take it off when reading"
    return (
        f"{formulas} cells begin with = + - @, a tab or a carriage return, which a spreadsheet takes for a formula: "
        "they are as they were, so that a program reads back what was written; before opening the file in a "
        "spreadsheet export with --guard-formulas"
    )


_EMPTY = ExportedPair(id="", language="", instruction="", english_instruction="", chosen="", rejected="")

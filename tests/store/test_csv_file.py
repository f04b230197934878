"""CSV: every text and number comes back; formulas are counted, and disarmed where asked."""

import csv
import sys
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from crossward.store.csv_file import write_csv

TEXTS = st.lists(st.tuples(st.text(), st.text()), max_size=5)
CELLS = ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "plain", "'=1", ""]


def read(path: Path, encoding: str = "utf-8") -> list[list[str]]:
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding=encoding, newline="") as file:
        return list(csv.reader(file))


@settings(max_examples=40)
@given(rows=TEXTS)
def test_every_text_comes_back(rows: list[tuple[str, str]], tmp_path_factory):
    path = tmp_path_factory.mktemp("csv") / "it.csv"
    write_csv(path, ["a", "b"], [{"a": a, "b": b} for a, b in rows])
    assert read(path) == [["a", "b"], *([a, b] for a, b in rows)]


@settings(max_examples=40)
@given(number=st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_come_back_exactly_and_are_no_formulas(number: float, tmp_path_factory):
    path = tmp_path_factory.mktemp("csv") / "it.csv"
    assert write_csv(path, ["a", "b"], [{"a": number, "b": None}], guard_formulas=True) == 0
    assert float(read(path)[1][0]) == number
    assert read(path)[1][1] == ""


def test_formulas_are_counted_and_disarmed_where_asked(tmp_path: Path):
    rows = [{"a": cell} for cell in CELLS]
    assert write_csv(tmp_path / "as-it-is.csv", ["a"], rows) == 6
    assert [row[0] if row else "" for row in read(tmp_path / "as-it-is.csv")[1:]] == CELLS
    assert write_csv(tmp_path / "guarded.csv", ["a"], rows, guard_formulas=True) == 6
    guarded = [row[0] if row else "" for row in read(tmp_path / "guarded.csv")[1:]]
    assert guarded == [f"'{cell}" for cell in CELLS[:6]] + CELLS[6:]


def test_a_mark_for_excel(tmp_path: Path):
    write_csv(tmp_path / "it.csv", ["a"], [{"a": "é"}], bom=True)
    assert (tmp_path / "it.csv").read_bytes() == b"\xef\xbb\xbfa\r\n\xc3\xa9\r\n"
    assert read(tmp_path / "it.csv", "utf-8-sig") == [["a"], ["é"]]

"""JSON Lines, strictly: what is no finite number, no character or no whole line is named, and nothing is lost."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossward.store.json_lines import read_json_lines, write_json_lines


def test_lines_end_at_newlines_and_nowhere_else(tmp_path: Path):
    rows = [{"text": "a\u2028b\x85c\rd"}, {"text": "é\n"}]
    write_json_lines(tmp_path / "x.jsonl", rows)
    assert (tmp_path / "x.jsonl").read_bytes().count(b"\n") == 2
    assert list(read_json_lines(tmp_path / "x.jsonl")) == [(1, rows[0]), (2, rows[1])]


def test_blank_lines_are_passed_over_and_counted(tmp_path: Path):
    (tmp_path / "x.jsonl").write_text('\ufeff{"a": 1}\n\n{"a": 2}')
    assert list(read_json_lines(tmp_path / "x.jsonl")) == [(1, {"a": 1}), (3, {"a": 2})]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (b'{"a": NaN}', "NaN is not a number"),
        (b'{"a": -Infinity}', "-Infinity is not a number"),
        (b'{"a": 1e999}', "1e999 is too large"),
        (b'{"a": "\\ud800"}', "half of a surrogate pair"),
        (b'{"a": "\xff"}', "byte 8 of the line is not valid UTF-8"),
        (b'{"a": 1', "broken JSON at column 8"),
        (b"[" * 100_000, "nested too deeply"),
        (b"5", "expected a JSON object, got int"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: bytes, sentence: str):
    (tmp_path / "x.jsonl").write_bytes(b'{"a": 0}\n' + line + b"\n")
    with pytest.raises(ValueError, match=f"x.jsonl, line 2: .*{sentence}"):
        list(read_json_lines(tmp_path / "x.jsonl"))


def test_a_number_that_json_lacks_stops_the_writing_and_leaves_the_old_file(tmp_path: Path):
    write_json_lines(tmp_path / "x.jsonl", [{"a": 1}])
    rows = [{"id": "1"}, {"id": "7", "language": "es", "log_ratio": [0.0, float("nan")]}]
    with pytest.raises(ValueError, match=r"line 2 \(id '7', language 'es'\) would hold log_ratio = nan"):
        write_json_lines(tmp_path / "x.jsonl", rows)
    assert list(read_json_lines(tmp_path / "x.jsonl")) == [(1, {"a": 1})]
    assert [path.name for path in tmp_path.iterdir()] == ["x.jsonl"]


def test_files_that_hold_nothing(tmp_path: Path):
    with pytest.raises(ValueError, match="does not exist: check the path"):
        list(read_json_lines(tmp_path / "none.jsonl"))
    with pytest.raises(ValueError, match="is a folder: expected a file"):
        list(read_json_lines(tmp_path))


def test_rows_come_one_at_a_time(tmp_path: Path):
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n{"a": 2}\nnot JSON\n')
    rows = read_json_lines(tmp_path / "x.jsonl")
    assert (next(rows), next(rows)) == ((1, {"a": 1}), (2, {"a": 2}))
    with pytest.raises(ValueError, match="line 3: broken JSON"):
        next(rows)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf", " \u00a0\n\t\n".encode()])
def test_a_file_of_blank_lines_is_empty(tmp_path: Path, content: bytes):
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match="is empty: expected at least one row"):
        list(read_json_lines(tmp_path / "x.jsonl"))


@pytest.mark.parametrize("value", [2**63, 2**64, -(2**63) - 1, 10**40])
def test_whole_numbers_of_any_size_are_kept(tmp_path: Path, value: int):
    (tmp_path / "x.jsonl").write_text(f'{{"id": {value}}}\n')
    ((_, row),) = read_json_lines(tmp_path / "x.jsonl")
    assert row == {"id": value}
    assert type(row["id"]) is int


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1)
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(st.characters(exclude_categories=["Cs"])),
            lambda inner: st.lists(inner, max_size=4),
            max_leaves=10,
        ),
    )
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_what_is_read_is_what_json_says(row: dict):
    line = json.dumps(row)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.jsonl"
        path.write_text(line + "\n", encoding="utf-8")
        ((_, found),) = read_json_lines(path)
    assert json.dumps(found) == line

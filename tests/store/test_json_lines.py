"""JSON Lines, strictly: what is no finite number, no character or no whole line is named, and nothing is lost."""

from pathlib import Path

import pytest

from crossward.store.json_lines import read_json_lines, write_json_lines


def test_lines_end_at_newlines_and_nowhere_else(tmp_path: Path):
    rows = [{"text": "a\u2028b\x85c\rd"}, {"text": "é\n"}]
    write_json_lines(tmp_path / "x.jsonl", rows)
    assert (tmp_path / "x.jsonl").read_bytes().count(b"\n") == 2
    assert read_json_lines(tmp_path / "x.jsonl") == [(1, rows[0]), (2, rows[1])]


def test_blank_lines_are_passed_over_and_counted(tmp_path: Path):
    (tmp_path / "x.jsonl").write_text('\ufeff{"a": 1}\n\n{"a": 2}')
    assert read_json_lines(tmp_path / "x.jsonl") == [(1, {"a": 1}), (3, {"a": 2})]


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
        read_json_lines(tmp_path / "x.jsonl")


def test_a_number_that_json_lacks_stops_the_writing_and_leaves_the_old_file(tmp_path: Path):
    write_json_lines(tmp_path / "x.jsonl", [{"a": 1}])
    rows = [{"id": "1"}, {"id": "7", "language": "es", "log_ratio": [0.0, float("nan")]}]
    with pytest.raises(ValueError, match=r"line 2 \(id '7', language 'es'\) would hold log_ratio = nan"):
        write_json_lines(tmp_path / "x.jsonl", rows)
    assert read_json_lines(tmp_path / "x.jsonl") == [(1, {"a": 1})]
    assert [path.name for path in tmp_path.iterdir()] == ["x.jsonl"]


def test_files_that_hold_nothing(tmp_path: Path):
    with pytest.raises(ValueError, match="does not exist: check the path"):
        read_json_lines(tmp_path / "none.jsonl")
    with pytest.raises(ValueError, match="is a folder: expected a file"):
        read_json_lines(tmp_path)

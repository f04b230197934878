"""A journal by key: whole lines count wherever they stand, torn ends are cut off, a killed process loses nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossward.store.keyed_lines import KeyedLines

ROW = {"text": "é\u2028\n", "rating": 8.5, "none": None, "tokens": [3, 4]}


def kept(path: Path, *keys: str) -> None:
    with KeyedLines(path) as lines:
        for key in keys:
            lines.put(key, ROW | {"name": key})


def test_what_one_process_keeps_another_finds(tmp_path: Path):
    path = tmp_path / "deep" / "ratings.jsonl"
    kept(path, "b", "a")
    with KeyedLines(path) as lines:
        assert (list(lines), len(lines), "a" in lines, "c" in lines) == (["b", "a"], 2, True, False)
        assert lines.get("c") is None
        lines.put("c", {})
        assert [lines.get(key) for key in "abc"] == [ROW | {"name": "a"}, ROW | {"name": "b"}, {}]
    with KeyedLines(path) as lines:
        assert (lines.get("c"), lines.damaged) == ({}, 0)


def test_of_two_rows_under_one_key_the_later_counts(tmp_path: Path):
    path = tmp_path / "ratings.jsonl"
    for number in (1, 2):
        with KeyedLines(path) as lines:
            lines.put("a", {"number": number})
            assert lines.get("a") == {"number": number}
    assert path.read_bytes().count(b"\n") == 2
    with KeyedLines(path) as lines:
        assert (list(lines), lines.get("a")) == (["a"], {"number": 2})


@pytest.mark.parametrize("torn", [b"{", b'{"key": "c", "text": "\xc3', b'{"key": "c"', b"null", b'{"id": 1}', b"   "])
def test_a_torn_end_is_cut_off(tmp_path: Path, torn: bytes):
    path = tmp_path / "ratings.jsonl"
    kept(path, "a", "b")
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    with KeyedLines(path) as lines:
        assert (list(lines), lines.damaged) == (["a", "b"], 0)
        assert path.read_bytes() == whole
        lines.put("c", ROW)
    with KeyedLines(path) as lines:
        assert (list(lines), lines.get("c")) == (["a", "b", "c"], ROW)


def test_a_last_row_that_lacks_only_its_newline_counts(tmp_path: Path):
    path = tmp_path / "ratings.jsonl"
    kept(path, "a", "b")
    whole = path.read_bytes()
    path.write_bytes(whole.removesuffix(b"\n"))
    with KeyedLines(path) as lines:
        assert lines.get("b") == ROW | {"name": "b"}
        lines.put("c", ROW)
    assert path.read_bytes().startswith(whole)
    with KeyedLines(path) as lines:
        assert list(lines) == ["a", "b", "c"]


@pytest.mark.parametrize("damage", [b'{"key": "x", "te\n', b"[1]\n", b'{"key": 7}\n', b"\xff\n", b"[" * 9999 + b"\n"])
def test_a_damaged_line_in_the_middle_is_passed_over_and_counted(tmp_path: Path, damage: bytes):
    path = tmp_path / "ratings.jsonl"
    kept(path, "a")
    before = path.read_bytes()
    path.unlink()
    kept(path, "b")
    path.write_bytes(before + damage + b"\n" + path.read_bytes())
    with KeyedLines(path) as lines:
        assert (list(lines), lines.damaged) == (["a", "b"], 1)
        assert lines.get("b") == ROW | {"name": "b"}


def test_a_flipped_bit_is_never_read_as_another_row(tmp_path: Path):
    path = tmp_path / "ratings.jsonl"
    kept(path, "a", "b")
    whole = path.read_bytes()
    with KeyedLines(path) as lines:
        rows = {key: lines.get(key) for key in lines}
        assert (lines.told, sorted(rows)) == (None, ["a", "b"])
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with KeyedLines(path) as lines:
            for key in lines:
                found = lines.get(key)
                assert found is not None
                assert rows[key].items() <= found.items(), "more only where the checksum's own name was hit"
            assert len(lines) == 2 or "is asked for again" in (lines.told or "")


def test_lines_of_earlier_versions_have_no_checksum(tmp_path: Path):
    path = tmp_path / "ratings.jsonl"
    path.write_text('{"key": "a", "n": 1}\n')
    with KeyedLines(path) as lines:
        assert (lines.get("a"), lines.told) == ({"n": 1}, None)


def test_only_one_may_have_it_open(tmp_path: Path):
    path = tmp_path / "ratings.jsonl"
    kept(path, "a")
    with KeyedLines(path), pytest.raises(ValueError, match="in use already"):
        KeyedLines(path)
    KeyedLines(path).close()
    with pytest.raises(ValueError, match="not a file"):
        KeyedLines(tmp_path)


def test_a_journal_that_changes_under_its_reader_is_refused(tmp_path: Path):
    path = tmp_path / "ratings.jsonl"
    kept(path, "a")
    with KeyedLines(path) as lines:
        path.write_bytes(path.read_bytes().replace(b'"a"', b'"z"'))
        with pytest.raises(ValueError, match="changed while it was in use"):
            lines.get("a")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_leaves_no_half_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "ratings.jsonl"
    with KeyedLines(path) as lines:
        lines.put("a", ROW)
        whole, own = path.read_bytes(), lines._handle
        with open("/dev/full", "ab", buffering=0) as full:
            own.write(b'{"key": "b", "te')  # what the disk still took

            class Filling:
                write = staticmethod(full.write)
                truncate = staticmethod(own.truncate)

            monkeypatch.setattr(lines, "_handle", Filling)
            with pytest.raises(OSError, match="No space left") as caught:
                lines.put("b", ROW)
        assert caught.value.filename == str(path)
        monkeypatch.setattr(lines, "_handle", own)
        assert path.read_bytes() == whole
        assert lines.get("b") is None
        lines.put("c", ROW)
        assert lines.get("c") == ROW


@given(
    keys=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=3), max_size=6),
    cut=st.integers(0, 200),
)
def test_any_cut_leaves_the_whole_rows_before_it(tmp_path_factory: pytest.TempPathFactory, keys: list[str], cut: int):
    path = tmp_path_factory.mktemp("journal") / "rows.jsonl"
    ends, latest = [0], []
    with KeyedLines(path) as lines:
        for number, key in enumerate(keys):
            lines.put(key, {"number": number})
            ends.append(path.stat().st_size)
            latest.append((key, {"number": number}))
    cut = min(cut, path.stat().st_size)
    os.truncate(path, cut)
    whole = sum(end - 1 <= cut for end in ends[1:])  # a row lacking its newline alone is whole
    with KeyedLines(path) as lines:
        assert {key: lines.get(key) for key in lines} == dict(latest[:whole])


def test_a_killed_process_loses_no_row_that_was_put(tmp_path: Path):
    path = tmp_path / "ratings.jsonl"
    code = (
        "import sys, pathlib\n"
        "from crossward.store.keyed_lines import KeyedLines\n"
        "lines, number = KeyedLines(pathlib.Path(sys.argv[1])), 0\n"
        "while True:\n"
        "    lines.put(f'row {number}', {'text': 'é' * 500})\n"
        "    print(number, flush=True)\n"
        "    number += 1\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for _ in range(50):
        child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    told = 49 + len(child.stdout.readlines())
    assert child.wait() == -signal.SIGKILL
    child.stdout.close()
    with KeyedLines(path) as lines:
        assert lines.damaged == 0
        assert len(lines) in (told + 1, told + 2)
        assert all(lines.get(key) == {"text": "é" * 500} for key in lines)

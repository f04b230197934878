"""The journal of a long command: what was finished counts, by whole windows, and nothing else does."""

from pathlib import Path

import pytest

from crossward.store.journal import Journal

ORIGIN = {"seed": 1, "model": "abc"}


def opened(output: Path, *, window: int = 2, total: int = 7, **changes: object) -> Journal:
    return Journal(output, ORIGIN | changes, window=window, total=total)


def row(i: int) -> dict:
    return {"id": str(i), "text": "é\u2028"}


def some(output: Path, n: int, **changes: object) -> Path:
    """A journal that was cut after n rows."""
    with opened(output, **changes) as journal:
        for i in range(journal.done, n):
            journal.append([row(i)])
        assert journal.path is not None
        return journal.path


def test_it_ends_as_the_output_and_is_gone(tmp_path: Path):
    output = tmp_path / "deep" / "out.jsonl"
    with opened(output) as journal:
        journal.append([row(0), row(1)])
        assert not output.exists()
        journal.append([row(2)])
        journal.publish()
    assert output.read_text(encoding="utf-8") == "".join(f'{{"id": "{i}", "text": "é\u2028"}}\n' for i in range(3))
    assert list(output.parent.iterdir()) == [output]


@pytest.mark.parametrize(("n", "kept"), [(0, 0), (1, 0), (2, 2), (5, 4), (7, 7)])
def test_whole_windows_count_and_so_does_the_last_short_one(tmp_path: Path, n: int, kept: int):
    some(tmp_path / "out", n)
    with opened(tmp_path / "out") as journal:
        assert (journal.done, journal.changed) == (kept, [])
        assert list(journal.rows()) == [row(i) for i in range(kept)]
        journal.append([row(i) for i in range(kept, 7)])
        journal.publish()
    assert len((tmp_path / "out").read_bytes().split(b"\n")) == 8


@pytest.mark.parametrize("cut", range(1, 70))
def test_a_torn_end_is_dropped(tmp_path: Path, cut: int):
    partial = some(tmp_path / "out", 4)
    content = partial.read_bytes()
    partial.write_bytes(content[:-cut])
    last_two = sum(len(line) + 1 for line in content.splitlines()[-2:])
    with opened(tmp_path / "out") as journal:
        assert journal.done == (2 if cut <= last_two else 0)
        journal.append([row(i) for i in range(journal.done, 4)])
    assert partial.read_bytes() == content


def test_a_damaged_line_ends_what_counts(tmp_path: Path):
    partial = some(tmp_path / "out", 6)
    lines = partial.read_bytes().split(b"\n")
    lines[4] = b"\0" * len(lines[4])
    partial.write_bytes(b"\n".join(lines))
    with opened(tmp_path / "out") as journal:
        assert list(journal.rows()) == [row(0), row(1)]


def test_another_origin_begins_anew_once_it_has_rows(tmp_path: Path):
    partial = some(tmp_path / "out", 4)
    before = partial.read_bytes()
    with opened(tmp_path / "out", seed=2, size=3) as journal:
        assert (journal.done, journal.changed) == (0, ["seed", "size"])
    assert partial.read_bytes() == before
    with opened(tmp_path / "out", seed=2, size=3) as journal:
        journal.append([row(9)])
        journal.publish()
    assert (tmp_path / "out").read_text(encoding="utf-8").startswith('{"id": "9"')


def test_what_is_no_journal_begins_anew(tmp_path: Path):
    (tmp_path / "out.partial").write_bytes(b"something\n")
    with opened(tmp_path / "out") as journal:
        assert (journal.done, journal.changed) == (0, ["model", "seed"])


def test_an_empty_journal_leaves_nothing(tmp_path: Path):
    with opened(tmp_path / "out"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_old_output_stays_until_the_new_one_is_whole(tmp_path: Path):
    (tmp_path / "out").write_text("old")
    some(tmp_path / "out", 3)
    assert (tmp_path / "out").read_text() == "old"


def test_two_processes_cannot_write_one_output(tmp_path: Path):
    with opened(tmp_path / "out"), pytest.raises(ValueError, match=r"out\.partial is being written by another process"):
        opened(tmp_path / "out")


def test_numbers_that_json_lacks_are_named_and_nothing_is_lost(tmp_path: Path):
    partial = some(tmp_path / "out", 2)
    before = partial.read_bytes()
    with opened(tmp_path / "out") as journal, pytest.raises(ValueError, match=r"out, line 3 \(id '7'.*log_ratio = nan"):
        journal.append([{"id": "7", "log_ratio": float("nan")}])
    assert partial.read_bytes() == before


def test_a_folder_is_refused_at_once(tmp_path: Path):
    with pytest.raises(ValueError, match="is a folder: expected the name of a file to write"):
        opened(tmp_path)


def test_a_device_keeps_nothing(tmp_path: Path):
    with opened(Path("/dev/null")) as journal:
        assert journal.path is None
        journal.append([row(0)])
        assert list(journal.rows()) == [row(0)]
        journal.publish()

"""An export's folder: whole or not at all, and nothing of anybody else's is lost."""

import json
import os
from pathlib import Path

import pytest

from crossward.store.export_folder import MARKER, export_folder


def write(target: Path, *names: str, overwrite: bool = False) -> None:
    with export_folder(target, overwrite=overwrite) as folder:
        for name in names:
            (folder.path / name).parent.mkdir(parents=True, exist_ok=True)
            (folder.path / name).write_text(f"new {name}")
        folder.facts["format"] = "trl"


def held(target: Path) -> list[str]:
    return sorted(path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file())


def test_the_marker_lists_the_files(tmp_path: Path):
    write(tmp_path / "out", "a.txt", "data/es/b.txt")
    facts = json.loads((tmp_path / "out" / MARKER).read_text())
    assert facts == {"made_by": "crossward export", "format": "trl", "files": ["a.txt", "data/es/b.txt"]}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failure_leaves_what_was_there(tmp_path: Path):
    write(tmp_path / "out", "a.txt")

    def fail() -> None:
        with export_folder(tmp_path / "out", overwrite=False) as folder:
            (folder.path / "a.txt").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (tmp_path / "out" / "a.txt").read_text() == "new a.txt"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_killed_export_left_is_no_hindrance(tmp_path: Path):
    (tmp_path / ".out.export.tmp").mkdir()
    (tmp_path / ".out.export.tmp" / "half.txt").write_text("half")
    write(tmp_path / "out", "a.txt")
    assert held(tmp_path) == ["out/a.txt", "out/export.json"]


def test_an_export_killed_while_it_moves_can_be_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path / "out", "old.txt")
    replace = os.replace

    def killed(source: Path, target: Path) -> None:
        if Path(target).name == "b.txt":
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out", "a.txt", "b.txt")
    monkeypatch.undo()
    assert json.loads((tmp_path / "out" / MARKER).read_text())["unfinished"] is True
    write(tmp_path / "out", "c.txt")
    assert held(tmp_path) == ["out/c.txt", "out/export.json"]


def test_stale_files_go_and_foreign_ones_stay(tmp_path: Path):
    write(tmp_path / "out", "data/es/old.txt", "kept.txt")
    (tmp_path / "out" / "mine.txt").write_text("mine")
    write(tmp_path / "out", "kept.txt")
    assert held(tmp_path / "out") == ["export.json", "kept.txt", "mine.txt"]
    assert not (tmp_path / "out" / "data").exists()


@pytest.mark.parametrize("listed", ["../mine.txt", "/etc/hosts", 7, "missing.txt"])
def test_an_edited_marker_removes_nothing_outside(listed: object, tmp_path: Path):
    write(tmp_path / "out", "a.txt")
    (tmp_path / "mine.txt").write_text("mine")
    marker = tmp_path / "out" / MARKER
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"files": [listed]}))
    write(tmp_path / "out", "b.txt")
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "marker", ["{", "[]", '{"made_by": "someone", "files": []}', '{"made_by": "crossward export"}']
)
def test_a_folder_with_another_marker_is_someone_elses(marker: str, tmp_path: Path):
    (tmp_path / MARKER).write_text(marker)
    with pytest.raises(ValueError, match=r"holds files that no export made \(such as 'export.json'\)"):
        write(tmp_path, "a.txt")
    write(tmp_path, "a.txt", overwrite=True)
    assert held(tmp_path) == ["a.txt", "export.json"]


def test_an_empty_folder_is_free_and_a_file_is_not(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty", "a.txt")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="is a file: expected a folder"):
        write(tmp_path / "file", "a.txt", overwrite=True)

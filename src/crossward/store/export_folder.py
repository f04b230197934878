"""The folder of an export: made beside its place, moved in when whole, with export.json that says what it is.

A folder that no export made is not written into unless asked, and no file is removed that an export did not write.
Knows no format.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crossward.store.files import write_text
from crossward.store.json_lines import loose_json

MARKER = "export.json"
_MADE_BY = "crossward export"


@dataclass(slots=True, kw_only=True)
class ExportFolder:
    """Where to write (`path`), and what to say of it in export.json (`facts`, plain values)."""

    path: Path
    facts: dict[str, Any] = field(default_factory=dict)

    def files(self) -> list[Path]:
        """What was written so far, in order."""
        return sorted(path for path in self.path.rglob("*") if path.is_file())


@contextmanager
def export_folder(target: Path, *, overwrite: bool) -> Iterator[ExportFolder]:
    """A folder to write into, whose files become `target`'s when the block ends well.

    Raises ValueError where `target` is a file, or holds files of someone else and `overwrite` was not said. Files that
    an earlier export left and this one does not write are removed.
    """
    before = require_ours(target, overwrite=overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = target.parent / f".{target.name}.export.tmp"
    shutil.rmtree(staging, ignore_errors=True)  # what a killed export left
    staging.mkdir()
    try:
        folder = ExportFolder(path=staging)
        yield folder
        names = [path.relative_to(staging).as_posix() for path in folder.files()]
        _mark(staging, {"made_by": _MADE_BY, **folder.facts, "files": names})
        target.mkdir(exist_ok=True)
        # Whose the files are stands there before the first is moved: an export that is killed here can be made again.
        _mark(target, {"made_by": _MADE_BY, "unfinished": True, "files": sorted({*before, *names})})
        for name in before - set(names):
            _remove(target, name)
        for name in (*names, MARKER):  # the marker last: with it the export is whole
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(staging / name, target / name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _mark(folder: Path, facts: dict[str, Any]) -> None:
    write_text(folder / MARKER, json.dumps(facts, ensure_ascii=False, indent=1) + "\n")


def require_ours(target: Path, *, overwrite: bool) -> set[str]:
    """The files that an earlier export wrote there. Raises ValueError where the place is not free for one."""
    if not target.exists():
        return set()
    if not target.is_dir():
        raise ValueError(f"{target} is a file: expected a folder to write the export to, name another --output")
    files = _listed(target)
    if files is not None:
        return files
    held = next(target.iterdir(), None)
    if held is not None and not overwrite:
        raise ValueError(
            f"{target} holds files that no export made (such as {held.name!r}): choose another --output, or add "
            "--overwrite to write among them (nothing of theirs is removed, files of the same name are replaced)"
        )
    return set()


def _listed(target: Path) -> set[str] | None:
    """What the marker lists; None where there is no marker of ours."""
    try:
        facts = loose_json((target / MARKER).read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(facts, dict) or facts.get("made_by") != _MADE_BY or not isinstance(facts.get("files"), list):
        return None
    return {name for name in facts["files"] if isinstance(name, str) and _inside(name)}


def _inside(name: str) -> bool:
    """Whether a listed name stays inside the folder: the marker may have been edited."""
    parts = Path(name).parts
    return bool(parts) and not Path(name).is_absolute() and ".." not in parts


def _remove(target: Path, name: str) -> None:
    path = target / name
    path.unlink(missing_ok=True)
    for parent in path.parents:
        if parent == target or any(parent.iterdir()):
            return
        parent.rmdir()

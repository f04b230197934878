"""The runs under a folder, those of experiments too: found without following a loop, told from their manifests."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from crossward.pipeline.run_state import RunFound, is_run, run_found
from crossward.store.run_dir import RunDir

DEPTH = 6  # folders below the one that is asked about: an experiment's cells are four below its parent
FOLDERS = 20_000  # looked into at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A run in a list; `changed` in seconds since 1970, `size` in bytes."""

    found: RunFound
    changed: float
    size: int
    report: Path | None

    def row(self) -> dict[str, Any]:
        """As JSON."""
        found = self.found
        return {
            "run": str(found.root),
            "state": found.state,
            "at": found.at,
            "stages_done": found.n_done,
            "stages": len(found.stages),
            "problem": found.problem,
            "languages": list(found.languages),
            "iterations": found.config.get("iterations"),
            "changed": datetime.fromtimestamp(self.changed, UTC).isoformat(timespec="seconds"),
            "bytes": self.size,
            "report": None if self.report is None else str(self.report),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The runs that were found, the latest change first, and the folders that could not be read."""

    runs: tuple[Listed, ...]
    unreadable: tuple[str, ...]
    cut: bool  # whether there were more folders than are looked into


def list_runs(root: Path, *, depth: int = DEPTH, folders: int = FOLDERS) -> Listing:
    """Every run at or below a folder. Raises ValueError where there is no such folder."""
    if not root.is_dir():
        raise ValueError(f"{root} is not a folder: name one that holds runs, such as runs")
    walk = _Walk(folders)
    runs = [_listed(folder) for folder in walk.runs_in(root, depth)]
    runs.sort(key=lambda listed: (-listed.changed, str(listed.found.root)))
    return Listing(runs=tuple(runs), unreadable=tuple(walk.unreadable), cut=walk.left <= 0)


class _Walk:
    """A walk that enters every folder once, whatever links lead to it."""

    def __init__(self, folders: int) -> None:
        self.left = folders
        self.unreadable: list[str] = []
        self._entered: set[tuple[int, int]] = set()

    def runs_in(self, folder: Path, depth: int) -> Iterator[Path]:
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in self._entered or self.left <= 0:
                return
            self._entered.add((status.st_dev, status.st_ino))
            self.left -= 1
            with os.scandir(folder) as entries:
                inside = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
            if (folder / "config.yaml").is_file() and is_run(folder):
                yield folder
                return
        except OSError as error:
            self.unreadable.append(f"{folder}: {error.strerror}")
            return
        if depth > 0:
            for name in inside:
                yield from self.runs_in(folder / name, depth - 1)


def _listed(folder: Path) -> Listed:
    directory = RunDir(folder)
    changed, size = usage(folder)
    report = next((path for path in (directory.report, directory.markdown) if path.is_file()), None)
    return Listed(found=run_found(folder), changed=changed, size=size, report=report)


def usage(folder: Path) -> tuple[float, int]:
    """When anything in a folder changed last, and the bytes of its files; links are not followed."""
    changed, size, waiting = 0.0, 0, [folder]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
                    elif entry.name != ".lock":
                        status = entry.stat(follow_symlinks=False)
                        changed, size = max(changed, status.st_mtime), size + status.st_size
        except OSError:  # unreadable, or gone since: what can be counted is
            continue
    return changed, size

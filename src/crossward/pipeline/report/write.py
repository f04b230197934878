"""Writes the report of a run: report.html to look at, report.md to read anywhere."""

import os
from collections.abc import Sequence
from pathlib import Path

from crossward.config import Config
from crossward.pipeline.concerns import Look, concerns_of, look_at
from crossward.pipeline.report.compare import comparison_of, names_of
from crossward.pipeline.report.markdown import markdown
from crossward.pipeline.report.page import page
from crossward.pipeline.report.sections import report_of
from crossward.pipeline.run_state import open_run
from crossward.store.files import write_text
from crossward.store.run_dir import RunDir


def write_report(directory: RunDir, config: Config, output: Path | None = None) -> Look:
    """Write both files of a run, finished or not; returns the concerns that they tell of."""
    look = look_at(directory, config)
    report = report_of(directory, config, look)
    write_text(output or directory.report, page(report))
    write_text(directory.markdown, markdown(report))
    return look


def report_again(run: Path, output: Path | None = None) -> tuple[Path, Look]:
    """Write the report of an existing run, its page to `output` if named; returns the page's path and its concerns.

    ValueError where the folder is no run.
    """
    directory, config = open_run(run)
    look = write_report(directory, config, output)
    return output or directory.report, look


def compare(runs: Sequence[Path], output: Path | None = None) -> Path:
    """One page on several runs side by side; returns its path: comparison.html in the folder that holds them all."""
    opened = [open_run(run) for run in runs]
    names = names_of([directory for directory, _ in opened])
    described = {
        name: (directory, config, concerns_of(directory, config))
        for name, (directory, config) in zip(names, opened, strict=True)
    }
    if output is None and len({directory.root.resolve().parts[:2] for directory, _ in opened}) > 1:
        raise ValueError("the runs have no folder in common but the root: name the page's file with --output FILE")
    together = Path(os.path.commonpath([directory.root.absolute() for directory, _ in opened]))
    path = output or (together / "comparison.html")
    write_text(path, page(comparison_of(described)))
    return path

"""Writes the report of a run: report.html to look at, report.md to read anywhere."""

from pathlib import Path

from crossward.config import Config, parse
from crossward.pipeline import provenance
from crossward.pipeline.report.markdown import markdown
from crossward.pipeline.report.page import page
from crossward.pipeline.report.sections import report_of
from crossward.store.files import write_text
from crossward.store.run_dir import RunDir


def write_report(directory: RunDir, config: Config) -> None:
    """Write both files of a run, finished or not."""
    report = report_of(directory, config, [])
    write_text(directory.report, page(report))
    write_text(directory.markdown, markdown(report))


def open_run(run: Path) -> tuple[RunDir, Config]:
    """An existing run and its recipe. ValueError where the folder is no run."""
    directory = RunDir(run)
    if not directory.config.exists():
        raise ValueError(f"{run} is not a run directory: it has no config.yaml")
    return directory, parse(provenance.read_config(directory), where=str(directory.config))


def report_again(run: Path) -> Path:
    """Write the report of an existing run; returns its path. ValueError where the folder is no run."""
    directory, config = open_run(run)
    write_report(directory, config)
    return directory.report

"""An experiment from top to bottom: worlds, every cell with every seed, measures, tables and figures.

Each cell and seed is an ordinary run (iterate.py) in a folder of its own; what they have in common they make once
(store/shared_stages.py). Running it again continues: what is there stays, what is missing is made. What a world is and
what it knows of answers comes as functions.
"""

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from crossward.engines.models import settle
from crossward.experiment_cells import CellRun
from crossward.experiment_config import Experiment
from crossward.pipeline import iterate, provenance
from crossward.pipeline.experiment_figures import Described, figures_of
from crossward.pipeline.experiment_measures import ByPolicy, OfWorld, measure_run, measured_key, read_measured
from crossward.pipeline.experiment_plan import unrecorded
from crossward.pipeline.experiment_requirements import LackingError, Lookout
from crossward.pipeline.experiment_results import Result, results_of
from crossward.pipeline.experiment_tables import Made, as_csv, tables_of
from crossward.pipeline.given import NOTHING_GIVEN, Given
from crossward.pipeline.progress import SILENT, Progress
from crossward.pipeline.streams import counted
from crossward.pipeline.workers import Failure, do_all
from crossward.store.experiment_dir import ExperimentDir
from crossward.store.files import write_bytes, write_text
from crossward.store.shared_stages import SharedStages, held

ProgressOf = Callable[[str], Progress]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldSource:
    """Where worlds come from.

    `make(folder, seed, progress)` makes one or keeps it, `measure` knows its answers, `given` gives the engines that it
    brings along for recipes that ask for them.
    """

    make: Callable[[Path, int, Progress], None]
    measure: OfWorld
    given: Callable[[], Given]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an experiment left: its tables, the names of its figures, what failed, which cells and seeds are missing."""

    tables: list[Made]
    figures: list[str]
    failures: list[tuple[str, Failure]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class _World:
    """A piece of work: the world of a seed."""

    seed: int
    directory: ExperimentDir
    source: WorldSource
    threads: int | None
    progress_of: ProgressOf

    @property
    def title(self) -> str:
        return f"world, seed {self.seed}"

    def do(self) -> None:
        settle(threads=self.threads)  # threads that share a core wait for one another
        with held(self.directory.world_lock(self.seed)):
            self.source.make(self.directory.world(self.seed), self.seed, self.progress_of(self.title))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """A piece of work: one cell with one seed, run and measured."""

    seed: int
    run: CellRun
    directory: ExperimentDir
    metrics: tuple[str, ...]
    source: WorldSource | None
    threads: int | None
    progress_of: ProgressOf

    @property
    def title(self) -> str:
        return self.run.title

    def do(self) -> None:
        config, progress = self.run.config, self.progress_of(self.title)
        if config.runtime.threads is None:
            config = config.model_copy(update={"runtime": config.runtime.model_copy(update={"threads": self.threads})})
        shared = SharedStages(root=self.directory.stages, unrecorded=unrecorded(config))
        given = NOTHING_GIVEN if self.source is None else self.source.given()
        run = iterate.run(config, progress=progress, shared=shared, given=given)
        path = self.directory.measured(self.run.cell.name, self.run.seed)
        measure_run(path, self.metrics, config, run, None if self.source is None else self.source.measure, progress)


_Piece = _World | _Run


def run_experiment(
    experiment: Experiment,
    runs: Sequence[CellRun],
    *,
    part: Sequence[CellRun],
    directory: ExperimentDir,
    jobs: int,
    world: WorldSource | None,
    progress: Progress,
    progress_of: ProgressOf,
) -> Outcome:
    """Run `part` of the runs, then make tables and figures of all that are finished.

    `progress` tells how far the whole is, `progress_of(title)` how far one run is (it is called where that runs, so
    with several jobs it is pickled, as are the other functions). Raises LackingError before the first run where any
    lacks what it needs; before the worlds are made where that can be known without them.
    """
    directory.require_folder()
    lookout = _lookout(world)
    if lines := _lacking(lookout, experiment, part, directory, worlds=world is None):
        raise LackingError(lines)
    write_text(
        directory.config, yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    )
    failures: list[tuple[str, Failure]] = []

    def do(title: str, pieces: Sequence[_Piece]) -> set[int]:
        """Do them all; the seeds of those that failed."""
        return _told_all(title, pieces, jobs, progress, failures)

    threads = max(1, _cores() // jobs) if jobs > 1 else None
    worlds = [
        _World(seed=seed, directory=directory, source=world, threads=threads, progress_of=progress_of)
        for seed in dict.fromkeys(run.seed for run in part)
        if world is not None
    ]
    worldless = do("world", worlds)
    begun = [run for run in part if run.seed not in worldless]
    if worlds and (lines := _lacking(lookout, experiment, begun, directory, worlds=True)):
        raise LackingError(lines)
    pieces = [
        _Run(
            seed=run.seed,
            run=run,
            directory=directory,
            metrics=experiment.measure.metrics,
            source=world,
            threads=threads,
            progress_of=progress_of,
        )
        for run in begun
    ]
    do("run", pieces)
    return write_results(experiment, runs, directory, failures, progress=progress)


def lacking(
    experiment: Experiment, part: Sequence[CellRun], directory: ExperimentDir, world: WorldSource | None
) -> list[str]:
    """What runs lack, a line each, as far as it shows without their worlds and without asking the hub."""
    open_runs = _unfinished(experiment, part, directory)
    return _lookout(world).beforehand(open_runs, directory.worlds, ask_hub=False)


def _lookout(world: WorldSource | None) -> Lookout:
    return Lookout(NOTHING_GIVEN if world is None else world.given())


def _lacking(
    lookout: Lookout, experiment: Experiment, part: Sequence[CellRun], directory: ExperimentDir, *, worlds: bool
) -> list[str]:
    """What runs lack, a line each; `worlds`: whether all that these are to hold is there."""
    open_runs = _unfinished(experiment, part, directory)
    return lookout.wholly(open_runs) if worlds else lookout.beforehand(open_runs, directory.worlds)


def _unfinished(experiment: Experiment, part: Sequence[CellRun], directory: ExperimentDir) -> list[CellRun]:
    """Runs that are finished need nothing."""
    return [run for run in part if _measured(run, experiment.measure.metrics, directory) is None]


def write_results(
    experiment: Experiment,
    runs: Sequence[CellRun],
    directory: ExperimentDir,
    failures: list[tuple[str, Failure]],
    *,
    progress: Progress = SILENT,
) -> Outcome:
    """Tables, figures and all numbers of the runs that are finished, in results/; the same runs give the same bytes."""
    metrics = experiment.measure.metrics
    with progress.task("results: runs", len(runs)) as advance:
        found = {run.title: _measured(run, metrics, directory) for run in counted(runs, advance)}
    there = [(run, measured) for run in runs if (measured := found[run.title]) is not None]
    missing = [title for title, measured in found.items() if measured is None]
    told = f"Missing, not finished: {'; '.join(missing)}." if missing else ""
    results = results_of(there, metrics=metrics, baseline=experiment.baseline)
    rows = [result.row() for result in results]
    _write(directory, "results.json", json.dumps({"results": rows, "missing": missing}, ensure_ascii=False, indent=1))
    _write(directory, "values.csv", as_csv(_values(results)))
    tables = tables_of(experiment.all_tables, results, metrics=metrics, baseline=experiment.baseline, missing=told)
    for table in tables:
        for ending, text in (("md", table.markdown()), ("csv", table.csv()), ("json", table.json())):
            _write(directory, f"{table.name}.{ending}", text)
    cells = list({run.cell.name: run.cell for run in runs}.values())
    figures = figures_of(experiment.figures, results, cells=cells, metrics=metrics, missing=told)
    with progress.task("figures", len(figures)) as advance:
        for figure in counted(figures, advance):
            _draw(directory, figure)
    return Outcome(tables=tables, figures=[figure.name for figure in figures], failures=failures, missing=missing)


def _measured(run: CellRun, metrics: Sequence[str], directory: ExperimentDir) -> dict[str, ByPolicy] | None:
    """What was measured of a run; None where it is not finished, or was made by another recipe."""
    folder = directory.run(run.cell.name, run.seed)
    if not folder.config.exists():
        return None
    try:
        provenance.require_same_config(folder, run.config)
    except ValueError:
        return None
    key = measured_key(metrics, run.config, folder)
    return None if key is None else read_measured(directory.measured(run.cell.name, run.seed), key)


def _values(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Every value of every seed."""
    return [
        {
            "metric": result.metric,
            "cell": result.cell,
            "seed": seed,
            "policy": result.policy,
            "language": result.language,
            "value": value,
        }
        for result in results
        if result.kind == "value"
        for seed, value in result.value.by_seed.items()
    ]


def _draw(directory: ExperimentDir, figure: Described) -> None:
    from crossward.engines.figures import draw

    for ending, content in draw(figure.drawing).items():
        write_bytes(directory.results / f"figure-{figure.name}.{ending}", content)
    _write(directory, f"figure-{figure.name}.md", figure.caption)


def _write(directory: ExperimentDir, name: str, text: str) -> None:
    write_text(directory.results / name, text if text.endswith("\n") or not text else f"{text}\n")


def _told_all(
    title: str, pieces: Sequence[_Piece], jobs: int, progress: Progress, failures: list[tuple[str, Failure]]
) -> set[int]:
    """Do all pieces, say how each ended and collect the failures; returns the seeds of the pieces that failed."""
    failed: set[int] = set()
    started, n = time.monotonic(), 0

    def ended(piece: _Piece, failure: Failure | None) -> None:
        nonlocal n
        n += 1
        how = "done" if failure is None else f"FAILED: {failure.sentence}"
        progress.say(f"{title} {n} of {len(pieces)}, {piece.title}: {how} ({time.monotonic() - started:.0f} s)")
        if failure is not None:
            failures.append((piece.title, failure))
            failed.add(piece.seed)
        advance(1)

    with progress.task(f"{title}s", len(pieces)) as advance:
        do_all(pieces, _do, jobs=jobs, ended=ended)
    return failed


def _do(piece: _Piece) -> None:
    piece.do()


def _cores() -> int:
    """The cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not of this operating system
        return os.cpu_count() or 1

"""The verb `crossward experiment`: reads the file, hands the pipeline what a world is, shows plan, tables, failures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from crossward import console
from crossward.cli_options import Json

File = Annotated[
    Path, typer.Argument(help="A YAML file, for instance recipes/experiment-demo.yaml.", show_default=False)
]


def experiment(
    file: File,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time, each in a process of its own.")] = 1,
    plan: Annotated[bool, typer.Option("--plan", help="Say what there is to do, and do nothing.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="Run this cell alone; may be given many times.")] = None,
    seeds: Annotated[list[int] | None, typer.Option(help="Run this seed alone; may be given many times.")] = None,
    json: Json = False,
) -> None:
    """Run one recipe in many variants with several seeds; tables and figures at the end.

    What the variants have in common is made once. Run again, it continues.

    Example: crossward experiment recipes/experiment-demo.yaml --plan
    """
    from crossward.experiment_cells import cell_runs
    from crossward.experiment_config import read_experiment
    from crossward.store.experiment_dir import ExperimentDir

    asked = read_experiment(file)
    directory = ExperimentDir(Path(asked.experiment))
    runs = cell_runs(asked, root=directory.root)
    chosen = _chosen(runs, only or (), seeds or ())
    if asked.figures:
        from crossward.engines.figures import require_matplotlib

        require_matplotlib()
    from crossward.pipeline.experiment import lacking, run_experiment
    from crossward.pipeline.experiment_requirements import LackingError

    world = None
    if asked.world is not None:
        from crossward.tinyworld.experiment_gold import world_source

        world = world_source(asked.world)
    if plan:
        lines = lacking(asked, chosen, directory, world)
        _show_plan(chosen, directory, lines, json=json)
        return _refuse(lines) if lines else None
    try:
        outcome = run_experiment(
            asked,
            runs,
            part=chosen,
            directory=directory,
            jobs=jobs,
            world=world,
            progress=console.Terminal(bars=jobs == 1),
            progress_of=Labelled(console.chosen()) if jobs > 1 else _told,
        )
    except LackingError as error:
        return _refuse(error.lines)
    _show(outcome, directory, json=json)
    if outcome.failures:
        raise typer.Exit(min(failure.kind for _, failure in outcome.failures))
    return None


def _refuse(lines: Sequence[str]) -> NoReturn:
    """Say what is lacking, a line each; the exit code of what the user can mend."""
    for line in lines:
        console.tell(line)
    raise typer.Exit(2)


@dataclass(frozen=True, slots=True)
class Labelled:
    """Makes the progress of one of several runs at a time: its lines, with its name before them; no bars.

    Pickled into the process that runs it, with what was chosen for this one.
    """

    mode: console.Mode

    def __call__(self, title: str) -> console.Progress:
        console.choose("plain" if self.mode in ("auto", "bar") else self.mode)
        return console.labelled(title)


def _told(title: str) -> console.Progress:
    """Progress of the one run that there is at a time."""
    terminal = console.Terminal()
    terminal.say(f"— {title} —")
    return terminal


def _chosen(runs: Sequence[Any], only: Sequence[str], seeds: Sequence[int]) -> list[Any]:
    """The runs of the cells and seeds that are named; all where none is."""
    cells, known = [list(dict.fromkeys(key(run) for run in runs)) for key in (_cell_of, _seed_of)]
    for option, named, there in (("--only", only, cells), ("--seeds", seeds, known)):
        if strange := [name for name in named if name not in there]:
            raise ValueError(f"{option} {strange[0]}: the experiment has {', '.join(map(str, there))}")
    return [run for run in runs if (not only or _cell_of(run) in only) and (not seeds or _seed_of(run) in seeds)]


def _cell_of(run: Any) -> str:
    return run.cell.name


def _seed_of(run: Any) -> int:
    return run.seed


def _show_plan(runs: Sequence[Any], directory: Any, lacking: Sequence[str], *, json: bool) -> None:
    from crossward.pipeline.experiment_plan import plan_of

    plan = plan_of(runs, directory)
    counts = {
        "runs": len(runs),
        "stages": plan.stages,
        "distinct": plan.distinct,
        "shared": plan.stages - plan.distinct,
        "done": plan.done,
    }
    changes = {_cell_of(run): dict(run.cell.changes) for run in runs}
    if json:
        cells = [
            {
                "cell": cell,
                "changes": changes[cell],
                "seeds": {str(seed): {"stages": n, "done": done} for seed, (n, done) in by_seed.items()},
            }
            for cell, by_seed in plan.cells.items()
        ]
        return console.show_json({**counts, "cells": cells, "lacking": list(lacking)})
    rows = [
        [
            cell,
            ", ".join(f"{key} {value}" for key, value in changes[cell].items()) or "the recipe itself",
            len(by_seed),
            sum(done == n for n, done in by_seed.values()),
            sum(n for n, _ in by_seed.values()),
            sum(done for _, done in by_seed.values()),
        ]
        for cell, by_seed in plan.cells.items()
    ]
    console.show_table(str(directory.root), ["cell", "changes", "seeds", "finished", "stages", "there"], rows)
    console.line(
        f"{counts['runs']} runs, {counts['stages']} stages: at most {counts['distinct']} are different and are made "
        f"once, {counts['shared']} are shared; {counts['done']} of the different ones are there",
    )
    return None


def _show(outcome: Any, directory: Any, *, json: bool) -> None:
    """The tables, what is missing, what failed, and where everything is."""
    failures = [
        {"run": title, "kind": failure.kind, "sentence": failure.sentence} for title, failure in outcome.failures
    ]
    if json:
        console.show_json(
            {
                "results": str(directory.results),
                "tables": {table.name: table.plain() for table in outcome.tables},
                "figures": outcome.figures,
                "missing": outcome.missing,
                "failures": failures,
            }
        )
    else:
        for table in outcome.tables:
            rows = [[cell.replace(" [", "\n[") for cell in row] for row in table.texts()]
            console.show_table(table.title, table.header, rows)
        if outcome.missing:
            console.line(f"missing, not finished: {'; '.join(outcome.missing)}")
        console.line(f"tables and figures: {directory.results}")
    for title, failure in outcome.failures:
        if failure.kind == 1 and failure.traceback:
            console.note(failure.traceback)
        console.tell(f"{title}: {failure.sentence}")

"""The cells of an experiment: a grid and named cells become checked recipes, one for every cell and seed.

All mistakes are told at once, before anything runs. Knows no folders but by name.
"""

import difflib
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from crossward.config import Config, parse
from crossward.experiment_config import (
    AVERAGE,
    JUDGE_METRICS,
    NON_ENGLISH,
    WORLD_METRICS,
    Experiment,
    Figure,
    Table,
    flat,
)
from crossward.yaml_keys import put, read_yaml

_OWN_KEYS = ("run", "seed")  # of a recipe, which the experiment sets itself
_RIVALS = ("reward-model", "preferences.jsonl")  # of a world, where it is asked for them
_MOST_CELLS = 10_000
_LONGEST = 850  # characters of all mistakes together
_NAME_BYTES = 255  # of a folder, as file systems count


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One variant of the recipe: its name, which is a folder's too, and the keys (dotted) that it changes."""

    name: str
    changes: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRun:
    """One cell with one seed: an ordinary run's recipe."""

    cell: Cell
    seed: int
    config: Config

    @property
    def title(self) -> str:
        return f"{self.cell.name}, seed {self.seed}"


def cell_runs(experiment: Experiment, *, root: Path) -> list[CellRun]:
    """Every cell with every seed, seeds within cells, each a checked recipe. ValueError names every mistake found."""
    cells = _cells(experiment)
    recipe = experiment.recipe
    if isinstance(recipe, str):
        recipe = read_yaml(Path(recipe), "recipe", example="recipes/demo.yaml")
    runs: list[CellRun] = []
    mistakes: dict[str, list[str]] = {}
    for cell in cells:
        for seed in experiment.seeds:
            try:
                tree = _resolved(recipe, cell, seed, experiment, root)
                runs.append(CellRun(cell=cell, seed=seed, config=parse(tree, where="")))
            except ValueError as error:
                named = mistakes.setdefault(str(error).removeprefix(": "), [])
                if cell.name not in named:
                    named.append(cell.name)
    if mistakes:
        told = [f"{_told(named, len(cells))}: {text}" for text, named in mistakes.items()]
        shown = [text for place, text in enumerate(told) if sum(map(len, told[: place + 1])) <= _LONGEST] or told[:1]
        more = [f"and {len(told) - len(shown)} more mistakes"] if len(told) > len(shown) else []
        raise ValueError("; ".join([*shown, *more]))
    _require_different(runs)
    _require_rivals_made(experiment, runs, root)
    _require_measurable(experiment, runs)
    _require_shown(experiment, cells, runs)
    return runs


def short_keys(keys: Iterable[str]) -> dict[str, str]:
    """What each key is called in a name: its last part, or the whole of it where another one ends alike.

    >>> short_keys(["sample.n", "sample.temperature", "evaluate.temperature"])
    {'sample.n': 'n', 'sample.temperature': 'sample.temperature', 'evaluate.temperature': 'evaluate.temperature'}
    """
    last = {key: key.rpartition(".")[2] for key in keys}
    often = Counter(last.values())
    return {key: name if often[name] == 1 else key for key, name in last.items()}


def _cells(experiment: Experiment) -> list[Cell]:
    cells = _grid_cells(experiment.grid)
    cells += [Cell(name=name, changes=flat(changes)) for name, changes in experiment.cells.items()]
    if not cells:
        raise ValueError("the experiment has no cells: give a grid (keys with lists of values), or cells by name")
    names = [cell.name for cell in cells]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two cells would be called {name!r}: leave one out, or name them under `cells`")
        _require_folder_name(name)
    if experiment.baseline is not None and experiment.baseline not in names:
        near = difflib.get_close_matches(experiment.baseline, names, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"cells are {', '.join(names)}"
        raise ValueError(f"baseline {experiment.baseline!r} is no cell; {hint}")
    return cells


def _grid_cells(tree: Mapping[str, Any]) -> list[Cell]:
    """Every combination of a grid's values; a value that is a section changes the keys that it names, no others."""
    grid = flat(tree)
    if not grid:
        return []
    axes = [[flat({key: value}) for value in values] for key, values in grid.items()]
    if (n_cells := math.prod(map(len, axes))) > _MOST_CELLS:
        raise ValueError(
            f"the grid makes {n_cells} cells, of which at most {_MOST_CELLS} are run: leave some values out"
        )
    short = short_keys(dict.fromkeys(key for axis in axes for changes in axis for key in changes))
    cells: list[Cell] = []
    for combination in itertools.product(*axes):
        changes: dict[str, Any] = {}
        for part in combination:
            if twice := next((key for key in part if key in changes), None):
                raise ValueError(f"grid: {twice} is given by two of its keys, dotted and nested: leave one out")
            changes |= part
        name = " ".join(f"{short[key]}={_in_a_name(value)}" for key, value in changes.items())
        cells.append(Cell(name=name, changes=changes))
    return cells


def _require_folder_name(name: str) -> None:
    """Raise ValueError where a run could not be written to a folder of that name (store/run_dir.py refuses it too)."""
    if not re.fullmatch(r"(?!\.)(?!.*\.\.)[^/\\\0\n]+", name):
        raise ValueError(
            f"a cell cannot be called {name!r}: it names a folder, which has no / \\ or .. and no dot in front; "
            "name it otherwise under `cells`"
        )
    if (size := len(name.encode())) > _NAME_BYTES:
        raise ValueError(
            f"a cell cannot be called {name[:40] + '…'!r}: it names a folder, with {_NAME_BYTES} bytes at most, "
            f"got {size}; give it a shorter name under `cells`"
        )


def _in_a_name(value: Any) -> str:
    """A value as a part of a folder's name."""
    text = value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True).split("\n...")[0]
    return re.sub(r"[/\\\s]+", "-", text.strip())


def _resolved(recipe: Mapping[str, Any], cell: Cell, seed: int, experiment: Experiment, root: Path) -> dict[str, Any]:
    """The recipe of one cell and seed as nested dictionaries: the world's paths, `set`, the cell's changes, over it."""
    tree: dict[str, Any] = _copied(recipe)
    changes = {**(_world_paths(experiment) if experiment.world else {}), **flat(experiment.set), **cell.changes}
    for key in changes:
        if key.partition(".")[0] in _OWN_KEYS:
            raise ValueError(f"{key} cannot be changed: the experiment gives every cell and seed its own")
    for key, value in changes.items():
        try:
            put(tree, key, _copied(value))
        except ValueError as error:
            raise ValueError(f"{key} cannot be set: {error}") from None
    tracking = tree.get("tracking")
    if isinstance(tracking, Mapping) and tracking.get("name") is not None:
        raise ValueError(
            "tracking.name would be the name of several runs, whose curves a tracker mixes: leave it out, as every run "
            "of an experiment is named by experiment, cell and seed"
        )
    tree = _replaced(tree, {"{seed}": str(seed), "{experiment}": str(root)})
    return tree | {"run": str(root / "cells" / cell.name / f"seed-{seed}"), "seed": seed}


def _world_paths(experiment: Experiment) -> dict[str, str]:
    world = "{experiment}/worlds/{seed}"
    return {
        "models.policy": f"{world}/policy",
        "models.reference": f"{world}/reference",
        "prompts.path": f"{world}/prompts/{{language}}.jsonl",
        "evaluate.prompts.path": f"{world}/{experiment.measure.split}/{{language}}.jsonl",
    }


def _copied(value: Any) -> Any:
    return _replaced(value, {})


def _replaced(value: Any, names: Mapping[str, str]) -> Any:
    """The value anew, with names replaced in every text."""
    match value:
        case str():
            for name, text in names.items():
                value = value.replace(name, text)
            return value
        case dict():
            return {key: _replaced(item, names) for key, item in value.items()}
        case list() | tuple():
            return [_replaced(item, names) for item in value]
        case _:
            return value


def _require_different(runs: Sequence[CellRun]) -> None:
    """Raise ValueError where two cells are one recipe."""
    seen: dict[str, str] = {}
    for run in runs:
        if run.seed == runs[0].seed:
            same = seen.setdefault(run.config.model_copy(update={"run": ""}).model_dump_json(), run.cell.name)
            if same != run.cell.name:
                raise ValueError(f"the cells {same!r} and {run.cell.name!r} are the same recipe: leave one out")


def _require_rivals_made(experiment: Experiment, runs: Sequence[CellRun], root: Path) -> None:
    """Raise ValueError where a cell names what a world has with `rivals` alone, and it has none."""
    if experiment.world is None or experiment.world.rivals:
        return
    named: dict[str, list[str]] = {}
    for run in runs:
        for text in _texts(run.config.model_dump(mode="json")):
            path = Path(text)
            if path.is_relative_to(root / "worlds") and (found := set(path.parts[-3:]) & set(_RIVALS)):
                cells = named.setdefault(found.pop(), [])
                cells += [run.cell.name] if run.cell.name not in cells else []
    if named:
        n_cells = len({run.cell.name for run in runs})
        raise ValueError(
            "; ".join(
                f"{_told(cells, n_cells)}: a world has {name} with `world.rivals: true` alone: set it, or name another"
                for name, cells in named.items()
            )
        )


def _texts(value: Any) -> list[str]:
    """Every text in nested dictionaries and lists."""
    if isinstance(value, dict | list):
        items = value.values() if isinstance(value, dict) else value
        return [text for item in items for text in _texts(item)]
    return [value] if isinstance(value, str) else []


def _require_measurable(experiment: Experiment, runs: Sequence[CellRun]) -> None:
    """Raise ValueError where a metric has nothing to be taken from."""
    for metric in experiment.measure.metrics:
        if metric in WORLD_METRICS and experiment.world is None:
            raise ValueError(f"metric {metric!r} is known in a tiny world only: add `world: {{kind: tiny}}`")
        for run in runs:
            section = run.config.evaluate
            lacking = "evaluate.prompts" if section.prompts is None else None
            if metric in JUDGE_METRICS and section.judge is None:
                lacking = "evaluate.judge"
            if metric == "lc_win_rate" and section.length_control == "none":
                lacking = "evaluate.length_control other than none"
            if metric == "chrf" and section.reference_answers is None:
                lacking = "evaluate.reference_answers"
            if lacking:
                raise ValueError(f"metric {metric!r} needs {lacking} in the recipe of {run.cell.name!r}")


def _require_shown(experiment: Experiment, cells: Sequence[Cell], runs: Sequence[CellRun]) -> None:
    """Raise ValueError where a table or figure names what is not there, and would come out empty or not at all."""
    names = [cell.name for cell in cells]
    for item in (*experiment.all_tables, *experiment.figures):
        what = f"{'figure' if isinstance(item, Figure) else 'table'} {item.name or item.shape!r}"
        asked = (item.metric,) if isinstance(item.metric, str) else item.metric or ()
        if strange := next((metric for metric in asked if metric not in experiment.measure.metrics), None):
            raise ValueError(f"{what} shows {strange!r}, which `measure` does not name")
        if strange := next((name for name in item.cells or () if name not in names), None):
            raise ValueError(f"{what} shows {strange!r}, which is no cell")
        shown = [run.config for run in runs if item.cells is None or run.cell.name in item.cells]
        base = [run.config for run in runs if item.shape == "differences" and run.cell.name == experiment.baseline]
        _require_policy(item, what, shown, base)
        if isinstance(item, Figure):
            _require_language(item, what, shown)
        if isinstance(item, Figure) and item.key is not None:
            values = [cell.changes.get(item.key) for cell in cells if item.cells is None or cell.name in item.cells]
            if not any(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
                raise ValueError(f"figure 'number' over {item.key!r}: no cell gives that key a number")


def _require_policy(item: Table | Figure, what: str, shown: Sequence[Config], base: Sequence[Config]) -> None:
    """Raise ValueError where no cell shown has the policy, or it has nothing to be compared with (`base`)."""
    first = 1 if item.shape == "gains" else 0  # a gain of π_0 is over itself
    last = max(config.iterations for config in shown)
    last = min(last, *(config.iterations for config in base)) if base else last
    if item.policy != "last" and not first <= item.policy <= last:
        raise ValueError(
            f"{what} shows policy {item.policy}, where its cells have {first} to {last}: give one of these, or last"
        )


def _require_language(item: Figure, what: str, shown: Sequence[Config]) -> None:
    """Raise ValueError where no cell shown has the language; what stands where it is left out is let be."""
    known = [NON_ENGLISH]
    for config in shown:
        languages = config.evaluate.languages or config.languages
        known += [*languages, *([AVERAGE] if len(languages) > 1 else [])]
    if item.language not in known:
        there = ", ".join(dict.fromkeys(known))
        raise ValueError(f"{what} shows the language {item.language!r}, which no cell evaluates: give one of {there}")


def _told(named: Sequence[str], n_cells: int) -> str:
    if len(named) == n_cells:
        return "every cell" if n_cells > 1 else f"cell {named[0]!r}"
    return f"cell {named[0]!r}" + (f" and {len(named) - 1} more" if len(named) > 1 else "")

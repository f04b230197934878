"""The figures of an experiment: views by language (the paper's Figure 3), by number (its Figure 4), by iteration.

Each is drawn as PNG and SVG, with the numbers beside it in words and a table, for who cannot see it. Knows no run and
no matplotlib.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crossward.engines.figures import Drawing, Panel, Point, Series
from crossward.experiment_cells import Cell, short_keys
from crossward.experiment_config import Figure
from crossward.pipeline.experiment_results import Estimate, Result
from crossward.pipeline.experiment_tables import (
    METRIC_TITLES,
    by_cell,
    columns_of,
    numbered,
    policy_of,
    shown,
    told_policy,
)
from crossward.pipeline.policies import REFERENCE, policy_number
from crossward.pipeline.report.tables import table as markdown_table

ByCell = Mapping[str, Mapping[str, Mapping[str, Estimate]]]
Values = dict[str, list[Estimate | None]]  # of each series, at each place


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A figure, its file's name, and the same in words."""

    name: str
    drawing: Drawing
    caption: str


def figures_of(
    asked: Sequence[Figure], results: Sequence[Result], *, cells: Sequence[Cell], metrics: Sequence[str], missing: str
) -> list[Described]:
    """The figures asked for that have anything to show; one panel a metric. Names that come twice are numbered."""
    names = numbered([figure.name or figure.shape for figure in asked])
    made = [_figure(name, figure, results, cells, metrics, missing) for name, figure in zip(names, asked, strict=True)]
    return [figure for figure in made if figure is not None]


def _figure(
    name: str,
    figure: Figure,
    results: Sequence[Result],
    cells: Sequence[Cell],
    metrics: Sequence[str],
    missing: str,
) -> Described | None:
    panels: list[Panel] = []
    parts: list[str] = []
    for metric, places, values in _aligned(figure, results, cells, metrics):
        title, unit, _ = METRIC_TITLES[metric]
        panels.append(_panel(figure, places, values, f"{title}, {unit}"))
        rows = [[series, *(shown(value, metric) for value in row)] for series, row in values.items()]
        parts += [f"{title} ({unit}):", markdown_table(["", *map(str, places)], rows)]
    if not panels:
        return None
    head = figure.title or _title(figure)
    drawing = Drawing(kind="bars" if figure.shape == "languages" else "lines", title=head, panels=tuple(panels))
    what = "Bars" if figure.shape == "languages" else "Lines with markers"
    note = f"{what} with 95 % intervals; a † is over prompts (one seed), others over seeds. The numbers shown:"
    caption = "\n\n".join([f"# {head}", note, *parts, *([missing] if missing else [])]) + "\n"
    return Described(name=name, drawing=drawing, caption=caption)


def _aligned(
    figure: Figure, results: Sequence[Result], cells: Sequence[Cell], metrics: Sequence[str]
) -> list[tuple[str, list[Any], Values]]:
    """Every metric that has values, its places and its series: the same ones for all, in the order of the cells.

    A series looks by its index: one that lacks a metric keeps its place, empty, or those behind it would change colour.
    """
    asked = (figure.metric,) if isinstance(figure.metric, str) else figure.metric or metrics
    found = {metric: by_cell(results, metric, "value", figure.cells) for metric in asked}
    there = [cell for cell in cells if any(cell.name in by_name for by_name in found.values())]
    placed: list[tuple[str, list[Any], Values]] = []
    for metric, by_name in found.items():
        same = {cell.name: by_name.get(cell.name, {}) for cell in there}
        placed.append((metric, *_placed(figure, same, columns_of(results, metric), there)))
    seen = {name for _, _, values in placed for name, row in values.items() if _has_any(row)}
    return [
        (metric, places, {name: row for name, row in values.items() if name in seen})
        for metric, places, values in placed
        if any(map(_has_any, values.values()))
    ]


def _has_any(row: Sequence[Estimate | None]) -> bool:
    return any(value is not None for value in row)


def _placed(figure: Figure, found: ByCell, languages: Sequence[str], cells: Sequence[Cell]) -> tuple[list[Any], Values]:
    """The places along x, and every series' values there."""
    match figure.shape:
        case "languages":
            return list(languages), {
                cell: [by_policy.get(_named(figure, by_policy), {}).get(language) for language in languages]
                for cell, by_policy in found.items()
            }
        case "iterations":
            policies = [policy for by_policy in found.values() for policy in by_policy if policy != REFERENCE]
            places = sorted(set(policies), key=policy_number)
            return list(places), {
                cell: [by_policy.get(place, {}).get(figure.language) for place in places]
                for cell, by_policy in found.items()
            }
        case "number":
            return _by_number(figure, found, cells)


def _by_number(figure: Figure, found: ByCell, cells: Sequence[Cell]) -> tuple[list[Any], Values]:
    """A series for every way in which cells differ beside the key; what is not numeric there is left out."""
    assert figure.key is not None
    numeric = [cell for cell in cells if _is_number(cell.changes.get(figure.key))]
    places: list[Any] = sorted({cell.changes[figure.key] for cell in numeric}, key=float)
    short = short_keys([figure.key, *(key for cell in numeric for key in cell.changes)])
    values: Values = {}
    for cell in numeric:
        others = {key: value for key, value in cell.changes.items() if key != figure.key}
        series = " ".join(f"{short[key]}={value}" for key, value in others.items()) or figure.key
        by_policy = found[cell.name]
        row = values.setdefault(series, [None] * len(places))
        row[places.index(cell.changes[figure.key])] = by_policy.get(_named(figure, by_policy), {}).get(figure.language)
    return places, values


def _panel(figure: Figure, places: Sequence[Any], values: Values, label: str) -> Panel:
    numeric = figure.shape == "number"
    labels = {"languages": "language", "iterations": "policy", "number": figure.key or ""}
    where = "" if figure.shape == "languages" else f"\n({figure.language})"
    return Panel(
        y_label=f"{_wrapped(label)}{where}",
        x_label=labels[figure.shape],
        places=tuple(str(place) for place in places),
        positions=tuple(float(place) if numeric else float(i) for i, place in enumerate(places)),
        series=tuple(Series(name=name, points=tuple(_point(value) for value in row)) for name, row in values.items()),
    )


def _point(value: Estimate | None) -> Point | None:
    return None if value is None else Point(estimate=value.estimate, low=value.low, high=value.high)


def _named(figure: Figure, by_policy: Mapping[str, Any]) -> str:
    return policy_of(figure.policy, by_policy) or ""


def _title(figure: Figure) -> str:
    match figure.shape:
        case "languages":
            return f"By language, {told_policy(figure.policy)}"
        case "iterations":
            return "By iteration"
        case "number":
            return f"By {figure.key}, {told_policy(figure.policy)}"


def _wrapped(text: str, width: int = 34) -> str:
    """Words in lines of so many characters."""
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        lines = [*lines[:-1], joined] if len(joined) <= width else [*lines, word]
    return "\n".join(lines)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

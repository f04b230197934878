"""The tables of an experiment in the shapes of the paper's Tables 2 and 5, as Markdown, CSV and JSON.

A column a language, then the means over languages; a cell of a table is an estimate with its 95 % interval. What is
missing is said below each table. Knows no run.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from crossward.core.answer_measures import MEASURES
from crossward.experiment_config import FEATURES, Table
from crossward.pipeline.experiment_results import Estimate, Kind, Result
from crossward.pipeline.policies import REFERENCE, policy_number
from crossward.pipeline.report.tables import table as markdown_table

OVER_PROMPTS = "†"
_ALL = "all cells"
# What a metric is called, its unit, and how many decimals are shown.
METRIC_TITLES: dict[str, tuple[str, str, int]] = {
    "gold": ("win rate against the reference, gold as judge", "%", 1),
    "gold_mean": ("mean gold", "0 to 1", 3),
    **{f"gold_{name}": (f"gold's feature {name.replace('_', ' ')}", "0 to 1", 3) for name in FEATURES},
    "reward_accuracy": ("pairs of π_0's answers that the reward ranks as gold does", "0 to 1", 3),
    "reward_accuracy_multilingual": ("the same, judged in the prompt's own language", "0 to 1", 3),
    "win_rate": ("win rate", "%", 2),
    "lc_win_rate": ("length-controlled win rate", "%", 2),
    **{name: (name.replace("_", " "), "0 to 1", 3) for name in MEASURES},
    "n_chars": ("length of answers", "characters", 1),
    "chrf": ("chrF", "0 to 100", 1),
}
_WHAT: dict[str, tuple[Kind, str]] = {
    "policies": ("value", "every policy"),
    "cells": ("value", "{policy} of every cell"),
    "gains": ("gain", "{policy} − π_0, paired"),
    "differences": ("difference", "{policy} − that of the cell {baseline}, paired"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A table: `keys` are its first columns, `columns` its languages; a row has a text for each key, then numbers."""

    name: str
    title: str
    keys: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[tuple[str, ...], tuple[Estimate | None, ...]], ...]
    metric: str
    signed: bool
    notes: tuple[str, ...]

    @property
    def header(self) -> list[str]:
        return [*self.keys, *self.columns]

    def texts(self) -> list[list[str]]:
        """The rows as they are shown."""
        return [[*keys, *(shown(value, self.metric, signed=self.signed) for value in row)] for keys, row in self.rows]

    def markdown(self) -> str:
        parts = [f"# {self.title}", markdown_table(self.header, self.texts()), *self.notes]
        return "\n\n".join(parts) + "\n"

    def plain(self) -> list[dict[str, Any]]:
        """One row a number."""
        return [
            {
                **dict(zip(self.keys, keys, strict=True)),
                "language": language,
                "metric": self.metric,
                "estimate": value.estimate,
                "low": value.low,
                "high": value.high,
                "interval_over": value.over,
                "n_seeds": len(value.by_seed),
            }
            for keys, row in self.rows
            for language, value in zip(self.columns, row, strict=True)
            if value is not None
        ]

    def json(self) -> str:
        content = {"title": self.title, "rows": self.plain(), "notes": self.notes}
        return json.dumps(content, ensure_ascii=False, indent=1) + "\n"

    def csv(self) -> str:
        return as_csv(self.plain())


def tables_of(
    asked: Sequence[Table], results: Sequence[Result], *, metrics: Sequence[str], baseline: str | None, missing: str
) -> list[Made]:
    """The tables asked for; one that names no metric comes once a metric. Names that come twice are numbered."""
    made = [
        _table(table, metric, results, several=len(metrics) > 1, baseline=baseline, missing=missing)
        for table in asked
        for metric in ([table.metric] if table.metric else metrics)
    ]
    names = numbered([table.name for table in made])
    return [replace(table, name=name) for table, name in zip(made, names, strict=True)]


def numbered(names: Sequence[str]) -> list[str]:
    """The names, with a number behind those that come again: the next that makes no name of another.

    >>> numbered(["a", "b", "a", "c", "c-2", "c"])
    ['a', 'b', 'a-2', 'c', 'c-2', 'c-3']
    """
    found: list[str] = []
    for name in names:
        tried = (f"{name}-{n}" for n in count(2))
        found.append(name if name not in found else next(new for new in tried if new not in names and new not in found))
    return found


def policy_of(asked: int | str, by_policy: Mapping[str, Any]) -> str | None:
    """π_t, or the last policy that there is; None where there is none."""
    known = [policy for policy in by_policy if policy != REFERENCE]
    name = max(known, key=policy_number) if asked == "last" and known else f"π_{asked}"
    return name if name in by_policy else None


def by_cell(
    results: Sequence[Result], metric: str, kind: Kind, cells: Sequence[str] | None
) -> dict[str, dict[str, dict[str, Estimate]]]:
    """cell -> policy -> language -> number."""
    found: dict[str, dict[str, dict[str, Estimate]]] = {}
    for result in results:
        if result.metric == metric and result.kind == kind and (cells is None or result.cell in cells):
            found.setdefault(result.cell, {}).setdefault(result.policy, {})[result.language] = result.value
    return found


def columns_of(results: Sequence[Result], metric: str) -> list[str]:
    """The languages of a metric, the means last."""
    found = list(dict.fromkeys(result.language for result in results if result.metric == metric))
    means = [name for name in found if name in ("non-English", "average")]
    return [name for name in found if name not in means] + sorted(means, reverse=True)


def told_policy(policy: int | str) -> str:
    return "the last policy" if policy == "last" else f"π_{policy}"


def shown(value: Estimate | None, metric: str, *, signed: bool = False) -> str:
    """`57.3 [55.1, 59.5]`, with a mark where the interval is over prompts; a dash for nothing."""
    if value is None:
        return "–"
    form = f"{'+' if signed else ''}.{METRIC_TITLES[metric][2]}f"
    mark = OVER_PROMPTS if value.over == "prompts" else ""
    short = f"{'+' if signed else ''}.{max(1, METRIC_TITLES[metric][2] - 1)}f"
    bounds = "" if value.low is None or value.high is None else f" [{value.low:{short}}, {value.high:{short}}]{mark}"
    return f"{value.estimate:{form}}{bounds}"


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with the same keys as CSV; empty for None."""
    if not rows:
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _table(
    table: Table, metric: str, results: Sequence[Result], *, several: bool, baseline: str | None, missing: str
) -> Made:
    kind, what = _WHAT[table.shape]
    found = by_cell(results, metric, kind, table.cells)
    columns = columns_of(results, metric)
    name, unit, _ = METRIC_TITLES[metric]
    policy = told_policy(table.policy)
    rows = _policy_rows(found, columns) if table.shape == "policies" else _cell_rows(found, columns, table.policy)
    numbers = [value for _, row in rows for value in row if value is not None]
    return Made(
        name=f"{table.name or table.shape}{f'-{metric}' if several and table.metric is None else ''}",
        title=f"{name} ({unit}): {what.format(policy=policy, baseline=baseline)}",
        keys=("cell", "policy", "seeds"),
        columns=tuple(columns),
        rows=tuple(rows),
        metric=metric,
        signed=kind != "value",
        notes=tuple(_notes(numbers, missing)),
    )


Row = tuple[tuple[str, ...], tuple[Estimate | None, ...]]


def _policy_rows(found: Mapping[str, Mapping[str, Mapping[str, Estimate]]], columns: Sequence[str]) -> list[Row]:
    """A row a cell and policy; a policy that is the same in all cells has one row."""
    shared = {
        policy
        for policy in (REFERENCE, "π_0")
        if len(found) > 1 and len({json.dumps(_numbers(by_policy.get(policy))) for by_policy in found.values()}) == 1
    }
    rows: list[Row] = []
    for i, (cell, by_policy) in enumerate(found.items()):
        for policy, by_language in by_policy.items():
            if policy not in shared or i == 0:
                rows.append(_row(_ALL if policy in shared else cell, policy, by_language, columns))
    return rows


def _cell_rows(
    found: Mapping[str, Mapping[str, Mapping[str, Estimate]]], columns: Sequence[str], policy: int | str
) -> list[Row]:
    """A row a cell."""
    rows: list[Row] = []
    for cell, by_policy in found.items():
        name = policy_of(policy, by_policy)
        if name is not None:
            rows.append(_row(cell, name, by_policy[name], columns))
    return rows


def _row(cell: str, policy: str, by_language: Mapping[str, Estimate], columns: Sequence[str]) -> Row:
    values = tuple(by_language.get(language) for language in columns)
    seeds = max((len(value.by_seed) for value in values if value is not None), default=0)
    return (cell, policy, str(seeds)), values


def _numbers(by_language: Mapping[str, Estimate] | None) -> dict[str, dict[int, float]]:
    return {language: dict(value.by_seed) for language, value in (by_language or {}).items()}


def _notes(numbers: Sequence[Estimate], missing: str) -> list[str]:
    over = {number.over for number in numbers}
    notes = []
    if "seeds" in over:
        notes.append("Means over seeds with 95 % t-intervals over seeds.")
    if "prompts" in over:
        notes.append(f"{OVER_PROMPTS} One seed: the 95 % interval is over prompts, and says nothing of another seed.")
    if "nothing" in over:
        notes.append("Without brackets: one seed, and no interval over prompts is known.")
    return [*notes, *([missing] if missing else [])]

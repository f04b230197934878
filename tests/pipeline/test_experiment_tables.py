"""Tables and figures of given results: what stands in which row, how a number is shown, the same bytes each time."""

import csv
import io
import json

import pytest

from crossward.experiment_cells import Cell
from crossward.experiment_config import METRICS, Figure, Table
from crossward.pipeline.experiment_figures import figures_of
from crossward.pipeline.experiment_results import Estimate, Kind, Result
from crossward.pipeline.experiment_tables import METRIC_TITLES, numbered, shown, tables_of

CELLS = [Cell(name=f"n={n}", changes={"sample.n": n}) for n in (10, 5)] + [Cell(name="random", changes={"x": "y"})]


def estimate(value: float, over: str = "seeds") -> Estimate:
    low, high = (None, None) if over == "nothing" else (value - 1.0, value + 1.0)
    return Estimate(estimate=value, low=low, high=high, over=over, by_seed={1: value, 2: value})  # type: ignore[arg-type]


def result(cell: str, policy: str, language: str, value: float, kind: Kind = "value", metric: str = "gold") -> Result:
    return Result(metric=metric, kind=kind, cell=cell, policy=policy, language=language, value=estimate(value))


RESULTS = [
    result(cell.name, policy, language, base + shift + place)
    for place, cell in enumerate(CELLS)
    for policy, base in (("π_0", 50.0 - place), ("π_1", 55.0), ("π_2", 57.0))
    for language, shift in (("en", 0.0), ("es", 1.0), ("non-English", 1.0), ("average", 0.5))
]


def made(table: Table, *, baseline: str | None = None, missing: str = "", results: list[Result] = RESULTS):
    (found,) = tables_of([table], results, metrics=["gold"], baseline=baseline, missing=missing)
    return found


def test_a_row_a_cell_of_its_last_policy_or_of_one():
    found = made(Table(shape="cells"))
    assert found.header == ["cell", "policy", "seeds", "en", "es", "non-English", "average"]
    assert [row[:4] for row in found.texts()] == [
        ["n=10", "π_2", "2", "57.0 [56.0, 58.0]"],
        ["n=5", "π_2", "2", "58.0 [57.0, 59.0]"],
        ["random", "π_2", "2", "59.0 [58.0, 60.0]"],
    ]
    assert [row[:2] for row in made(Table(shape="cells", policy=1, cells=("n=5",))).texts()] == [["n=5", "π_1"]]
    assert not made(Table(shape="cells", policy=7)).rows


def test_a_policy_that_is_the_same_in_all_cells_has_one_row():
    rows = made(Table(shape="policies")).texts()
    assert [row[:2] for row in rows][:3] == [["all cells", "π_0"], ["n=10", "π_1"], ["n=10", "π_2"]]
    assert len(rows) == 1 + 2 * 3
    alone = [result for result in RESULTS if result.cell == "n=5"]
    assert [row[0] for row in made(Table(shape="policies"), results=alone).texts()] == ["n=5"] * 3


def test_differences_are_signed_and_the_baseline_is_named():
    found = made(
        Table(shape="differences"), baseline="n=5", results=[result("n=10", "π_2", "es", -1.5, kind="difference")]
    )
    assert found.texts() == [["n=10", "π_2", "2", "-1.5 [-2.5, -0.5]"]]
    assert "that of the cell n=5" in found.title


def test_every_form_has_the_numbers_and_what_is_missing():
    found = made(Table(shape="cells", name="mine"), missing="Missing, not finished: a, seed 1.")
    assert found.name == "mine"
    assert found.markdown().splitlines()[0].startswith("# win rate against the reference")
    assert found.markdown().endswith("over seeds.\n\nMissing, not finished: a, seed 1.\n")
    rows = list(csv.DictReader(io.StringIO(found.csv())))
    assert len(rows) == 3 * 4
    assert rows[0] | {"estimate": float(rows[0]["estimate"])} == {
        "cell": "n=10",
        "policy": "π_2",
        "seeds": "2",
        "language": "en",
        "metric": "gold",
        "estimate": 57.0,
        "low": "56.0",
        "high": "58.0",
        "interval_over": "seeds",
        "n_seeds": "2",
    }
    assert json.loads(found.json())["rows"][0]["estimate"] == 57.0


def test_two_metrics_make_two_tables_and_names_are_never_twice():
    tables = [Table(shape="cells"), Table(shape="cells", metric="gold")]
    found = tables_of(tables * 2, RESULTS, metrics=["gold", "gold_mean"], baseline=None, missing="")
    assert [table.name for table in found] == [
        *("cells-gold", "cells-gold_mean", "cells"),
        *("cells-gold-2", "cells-gold_mean-2", "cells-2"),
    ]


def test_a_numbered_name_is_never_that_of_another():
    assert numbered(["a", "a-2", "a"]) == ["a", "a-2", "a-3"]
    assert numbered(["a", "a", "a-2", "a"]) == ["a", "a-3", "a-2", "a-4"]
    assert numbered(["a-2", "a-2", "a"]) == ["a-2", "a-2-2", "a"]


def test_the_last_policy_is_that_of_the_highest_number():
    results = [result("n=5", f"π_{t}", "es", float(t)) for t in (0, 1, 10, 2, 9)]
    assert made(Table(shape="cells"), results=results).texts() == [["n=5", "π_10", "2", "10.0 [9.0, 11.0]"]]


def test_how_a_number_is_shown():
    assert set(METRIC_TITLES) == set(METRICS)
    assert shown(None, "gold") == "–"
    assert shown(estimate(57.25, "prompts"), "win_rate") == "57.25 [56.2, 58.2]†"
    assert shown(estimate(0.5, "nothing"), "gold_mean", signed=True) == "+0.500"


@pytest.mark.parametrize("shape", ["languages", "iterations", "number"])
def test_a_figure_says_its_numbers_in_words_too(shape: str):
    asked = Figure.model_validate({"shape": shape, "key": "sample.n" if shape == "number" else None})
    (found,) = figures_of([asked], RESULTS, cells=CELLS, metrics=["gold"], missing="")
    (panel,) = found.drawing.panels
    match shape:
        case "languages":
            assert panel.places == ("en", "es", "non-English", "average")
            assert [series.name for series in panel.series] == ["n=10", "n=5", "random"]
        case "iterations":
            assert panel.places == ("π_0", "π_1", "π_2")
            assert [point.estimate for point in panel.series[0].points if point] == [51.0, 56.0, 58.0]
        case _:
            assert panel.places == ("5", "10")  # in order, though the cells are not
            assert panel.positions == (5.0, 10.0)
            (series,) = panel.series
            assert [point.estimate for point in series.points if point] == [59.0, 58.0]
    for series in panel.series:
        for point in series.points:
            assert point is None or f"{point.estimate:.1f} [{point.low:.1f}, {point.high:.1f}]" in found.caption


@pytest.mark.parametrize("shape", ["languages", "iterations"])
def test_a_cell_that_lacks_a_metric_keeps_its_place_in_every_panel(shape: str):
    lacking = [
        result(cell, policy, "non-English", 50.0, metric=metric)
        for metric, cells in (("gold", ("n=5", "random")), ("gold_mean", ("random", "n=10")))
        for cell in cells
        for policy in ("π_0", "π_1")
    ]
    (found,) = figures_of(
        [Figure.model_validate({"shape": shape})], lacking, cells=CELLS, metrics=["gold", "gold_mean"], missing=""
    )
    names = [[series.name for series in panel.series] for panel in found.drawing.panels]
    assert names == [["n=10", "n=5", "random"]] * 2
    empty = [[not any(series.points) for series in panel.series] for panel in found.drawing.panels]
    assert empty == [[True, False, False], [False, True, False]]
    assert "| n=10 | – |" in found.caption


def test_a_panel_or_series_without_any_value_is_left_out():
    results = [result(cell, policy, "es", 50.0) for cell, policy in (("n=5", "π_0"), ("n=10", "π_0"), ("n=5", "π_1"))]
    asked = Figure(shape="languages", policy=1)
    (found,) = figures_of([asked], results, cells=CELLS, metrics=["gold_mean", "gold"], missing="")
    (panel,) = found.drawing.panels
    assert [series.name for series in panel.series] == ["n=5"]


def test_series_that_differ_in_keys_with_the_same_end_stay_two():
    keys = ("sample.temperature", "evaluate.temperature")
    cells = [
        Cell(name=f"{key} {n}", changes={"sample.n": n, key: 0.7, "pair.choice": "random"})
        for key in keys
        for n in (5, 10)
    ]
    results = [result(cell.name, "π_1", "non-English", float(i)) for i, cell in enumerate(cells)]
    (found,) = figures_of([Figure(shape="number", key="sample.n")], results, cells=cells, metrics=["gold"], missing="")
    shown_there = {
        series.name: [point.estimate for point in series.points if point] for series in found.drawing.panels[0].series
    }
    assert shown_there == {
        "sample.temperature=0.7 choice=random": [0.0, 1.0],
        "evaluate.temperature=0.7 choice=random": [2.0, 3.0],
    }


def test_a_figure_with_nothing_to_show_is_left_out():
    assert figures_of([Figure(shape="languages")], [], cells=CELLS, metrics=["gold"], missing="") == []

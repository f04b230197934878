"""Charts as SVG, drawn by Vega-Lite (vl-convert, without a browser or a network): the only file that imports it.

Values in, one SVG text out. Colours are the names of CSS variables, so that a page can be light or dark; series differ
by shape or dash too. Every mark says its own numbers (`aria-label`), which a page shows as tips. Knows no run.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from crossward.core.plain_text import visible_line

Spec = dict[str, Any]  # Vega-Lite's own JSON
COLOURS = tuple(f"var(--series-{k})" for k in range(1, 9))
INK, FAINT = "var(--ink)", "var(--line)"
SHAPES = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-down", "triangle-right", "triangle-left")
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [1, 3], [10, 4], [4, 1], [3, 5])
WIDTH = 420  # pixels: fits a phone without shrinking letters much
PANELS = 24  # small pictures in one chart, at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One value of `series` at `place`, with its interval where there is one."""

    place: str
    series: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """A row a place, a point with its interval a series; `rule` is a line to compare with (50 %: no better)."""

    title: str
    axis: str
    marks: tuple[Mark, ...]
    rule: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stacks:
    """A row a place, its parts end to end."""

    title: str
    axis: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heat:
    """A row a place, a column a series, darker where `value` (0 to 1) is larger."""

    title: str
    row_axis: str
    column_axis: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """A point of a line."""

    panel: str
    series: str
    x: float
    y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A line across a panel at x, with its name."""

    panel: str
    x: float
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Small pictures beside each other, one a panel, with a line a series; `steps` draws them as a histogram's rim."""

    title: str
    x_axis: str
    y_axis: str
    dots: tuple[Dot, ...]
    rules: tuple[Rule, ...] = ()
    steps: bool = False
    from_zero: bool = False


Chart = Intervals | Stacks | Heat | Lines


def svg(chart: Chart) -> str:
    """The chart as an SVG element. Equal charts give equal text on one machine (fonts differ between machines)."""
    import vl_convert

    return vl_convert.vegalite_to_svg(json.dumps(_visible(spec_of(chart))))


def spec_of(chart: Chart) -> Spec:
    """The chart in Vega-Lite's grammar."""
    match chart:
        case Intervals():
            body = _intervals(chart)
        case Stacks():
            body = _stacks(chart)
        case Heat():
            body = _heat(chart)
        case Lines():
            body = _lines(chart)
    return {"$schema": "https://vega.github.io/schema/vega-lite/v5.json", "config": _config(), **body}


def _visible(value: Any) -> Any:
    """The same values as JSON can say them, every text on one line and without what turns the direction of writing."""
    match value:
        case str():
            return visible_line(value)
        case float() if not math.isfinite(value):
            return None  # drawn as nothing: JSON has no word for it
        case dict():
            return {key: _visible(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_visible(inner) for inner in value]
        case _:
            return value


def _config() -> Spec:
    text = {"labelColor": INK, "titleColor": INK, "labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal"}
    return {
        "background": None,
        "font": "system-ui, sans-serif",
        "view": {"stroke": None},
        "axis": {**text, "gridColor": FAINT, "domainColor": FAINT, "tickColor": FAINT, "labelLimit": 140},
        "legend": {**text, "orient": "top", "direction": "horizontal", "title": None, "labelLimit": 160},
        "header": {"labelColor": INK, "labelFontSize": 11, "title": None, "labelLimit": 180},
        "facet": {"spacing": 14},
    }


def _intervals(chart: Intervals) -> Spec:
    places, series = _names(m.place for m in chart.marks), _names(m.series for m in chart.marks)
    rows = [_row(mark, chart.axis) for mark in chart.marks]
    y = {"field": "place", "type": "nominal", "sort": places, "title": None, "axis": {"ticks": False, "domain": False}}
    offset = {"field": "series", "type": "nominal", "sort": series}
    x = {"type": "quantitative", "title": chart.axis, "scale": {"zero": False}}
    said = {"aria": True, "description": {"expr": "datum.said"}}
    layers: list[Spec] = [
        {
            "mark": {"type": "rule", "strokeWidth": 2, "aria": False},
            "transform": [{"filter": "isValid(datum.low)"}],
            "encoding": {"x": {**x, "field": "low"}, "x2": {"field": "high"}},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 52, "opacity": 1, **said},
            "encoding": {"x": {**x, "field": "value"}, "shape": _scaled("series", series, SHAPES)},
        },
    ]
    if chart.rule is not None:
        layers.insert(0, _constant({"x": {"datum": chart.rule, "type": "quantitative", "title": chart.axis}}))
    shared = {"y": y, "yOffset": offset, "color": _scaled("series", series, COLOURS)}
    for layer in layers[-2:]:
        layer["encoding"] = {**shared, **layer["encoding"]}
    return {
        "data": {"values": rows},
        "width": WIDTH - 110,
        "height": {"step": max(9, 24 // max(1, len(series)))},
        "layer": layers,
    }


def _stacks(chart: Stacks) -> Spec:
    places, series = _names(m.place for m in chart.marks), _names(m.series for m in chart.marks)
    order = {name: k for k, name in enumerate(series)}
    return {
        "data": {"values": [{**_row(mark, chart.axis), "order": order[mark.series]} for mark in chart.marks]},
        "width": WIDTH - 110,
        "height": {"step": 20},
        "mark": {"type": "bar", "stroke": "var(--paper)", "strokeWidth": 1, "description": {"expr": "datum.said"}},
        "encoding": {
            "y": {"field": "place", "type": "nominal", "sort": places, "title": None},
            "x": {"field": "value", "type": "quantitative", "title": chart.axis, "stack": "zero"},
            "color": _scaled("series", series, COLOURS),
            "order": {"field": "order", "type": "ordinal"},
        },
    }


def _heat(chart: Heat) -> Spec:
    places, series = _names(m.place for m in chart.marks), _names(m.series for m in chart.marks)
    rows = [{**_row(mark, chart.title), "shown": f"{100 * mark.value:.0f}"} for mark in chart.marks]
    narrow = max(16, min(44, (WIDTH - 110) // max(1, len(series))))
    axis = {"type": "nominal", "axis": {"ticks": False, "domain": False}}
    return {
        "data": {"values": rows},
        "width": {"step": narrow},
        "height": {"step": 22},
        "encoding": {
            "y": {**axis, "field": "place", "sort": places, "title": chart.row_axis},
            "x": {**axis, "field": "series", "sort": series, "title": chart.column_axis},
        },
        "layer": [
            {
                "mark": {"type": "rect", "fill": COLOURS[0], "description": {"expr": "datum.said"}},
                "encoding": {
                    "fillOpacity": {
                        "field": "value",
                        "type": "quantitative",
                        "scale": {"domain": [0, 1], "range": [0.03, 0.6]},
                        "legend": None,
                    }
                },
            },
            {
                "mark": {"type": "text", "fontSize": 10, "color": INK, "aria": False},
                "encoding": {"text": {"field": "shown", "type": "nominal"}},
            },
        ],
    }


def _lines(chart: Lines) -> Spec:
    panels, series = _names(dot.panel for dot in chart.dots)[:PANELS], _names(dot.series for dot in chart.dots)
    rows = [
        {"panel": dot.panel, "series": dot.series, "x": dot.x, "y": dot.y, "said": _said(dot, chart)}
        for dot in chart.dots
        if dot.panel in panels
    ]
    rows += [{"panel": rule.panel, "rule": rule.x, "name": rule.name} for rule in chart.rules if rule.panel in panels]
    wide = len(panels) == 1
    line = {"type": "line", "strokeWidth": 1.8, "aria": False}
    encoding: Spec = {
        "x": {"field": "x", "type": "quantitative", "title": chart.x_axis, "axis": {"tickCount": 5 if wide else 3}},
        "y": {
            "field": "y",
            "type": "quantitative",
            "title": chart.y_axis,
            "scale": {"zero": chart.from_zero},
            "axis": {"tickCount": 4},
        },
        "color": _scaled("series", series, COLOURS),
    }
    dashes = {"strokeDash": _scaled("series", series, DASHES)}
    marked = {"type": "point", "filled": True, "size": 70, "opacity": 0.001, "description": {"expr": "datum.said"}}
    drawn = [{"filter": "isValid(datum.y)"}]
    layers: list[Spec] = [
        {
            "mark": {**line, "interpolate": "step-after"} if chart.steps else line,
            "transform": drawn,
            "encoding": {**encoding, **dashes},
        },
        {"mark": marked, "transform": drawn, "encoding": encoding},
    ]
    if chart.rules:
        at = {"x": {"field": "rule", "type": "quantitative"}}
        named = {"type": "rule", "color": INK, "strokeDash": [3, 3], "description": {"expr": "datum.name"}}
        layers.append({"mark": named, "transform": [{"filter": "isValid(datum.rule)"}], "encoding": at})
    width = WIDTH - 70 if wide else (WIDTH - 110) // 2
    one = {"width": width, "height": 150 if wide else 96, "layer": layers}
    if wide:
        return {"data": {"values": rows}, **one}
    return {
        "data": {"values": rows},
        "facet": {"field": "panel", "type": "nominal", "sort": panels, "title": None},
        "columns": 2,
        "resolve": {"scale": {"x": "independent", "y": "independent"}},
        "spec": one,
    }


def _constant(encoding: Spec) -> Spec:
    return {"mark": {"type": "rule", "color": INK, "strokeDash": [3, 3], "aria": False}, "encoding": encoding}


def _scaled(field: str, names: Sequence[str], range_: Sequence[Any]) -> Spec:
    """A scale over names in their order; they come again from the start where there are more than looks."""
    looks = [range_[k % len(range_)] for k in range(len(names))]
    columns = max(1, int(WIDTH / (24 + 6.5 * max(map(len, names), default=1))))  # a letter takes about 6.5 pixels
    legend = {"symbolOpacity": 1, "columns": columns} if len(names) > 1 else None
    scale = {"domain": list(names), "range": looks}
    return {"field": field, "type": "nominal", "sort": list(names), "scale": scale, "legend": legend}


def _row(mark: Mark, axis: str) -> Spec:
    bounds = "" if mark.low is None or mark.high is None else f" [{mark.low:.4g}, {mark.high:.4g}]"
    said = f"{mark.place}, {mark.series}: {axis} {mark.value:.4g}{bounds}"
    return {
        "place": mark.place,
        "series": mark.series,
        "value": mark.value,
        "low": mark.low,
        "high": mark.high,
        "said": said,
    }


def _said(dot: Dot, chart: Lines) -> str:
    return f"{dot.panel}, {dot.series}: {chart.x_axis} {dot.x:.4g}, {chart.y_axis} {dot.y:.4g}"


def _names(found: Any) -> list[str]:
    """Names in the order in which they come."""
    return list(dict.fromkeys(found))

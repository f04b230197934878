"""Figures: both formats, the same bytes each time, intervals that are not there, more series than colours."""

import re
from collections.abc import Sequence
from typing import Literal

import pytest

from crossward.engines.figures import COLOURS, INK, Drawing, Panel, Point, Series, bar_look, draw, line_look


def drawing(kind: Literal["bars", "lines"], n_series: int = 2) -> Drawing:
    def points(k: int) -> Sequence[Point | None]:
        return [Point(estimate=50.0 + k, low=48.0, high=55.0 + k), None, Point(estimate=40.0)]

    panel = Panel(
        y_label="win rate, %",
        x_label="language",
        places=("en", "es", "sw"),
        positions=(0.0, 1.0, 2.0),
        series=tuple(Series(name=f"π_{k} & <b>", points=tuple(points(k))) for k in range(n_series)),
    )
    return Drawing(kind=kind, title="By language", panels=(panel, panel))


@pytest.mark.parametrize("kind", ["bars", "lines"])
def test_the_same_values_give_the_same_bytes(kind: Literal["bars", "lines"]):
    first, second = draw(drawing(kind)), draw(drawing(kind))
    assert first == second
    assert first["png"].startswith(b"\x89PNG")
    assert b"<svg" in first["svg"]
    assert b"<dc:date>" not in first["svg"]
    assert draw(drawing(kind, 1)) != first


def test_more_series_than_colours_are_drawn():
    assert draw(drawing("bars", len(COLOURS) + 3))["png"]


def luminance(colour: str) -> float:
    """Relative luminance, as WCAG 2 defines it, 0 to 1."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_no_two_of_many_series_look_alike():
    for n, look in ((64, bar_look), (32, line_look)):
        assert len({tuple(look(k).items()) for k in range(n)}) == n
    colourless = {(line_look(k)["marker"], line_look(k)["linestyle"]) for k in range(32)}
    assert len(colourless) == 32
    for colour in COLOURS:  # on black a hatch is not seen, so the 8th bar looked as the 16th
        assert (luminance(colour) + 0.05) / (luminance(INK) + 0.05) > 2, colour


@pytest.mark.parametrize("kind", ["bars", "lines"])
def test_the_legend_shows_what_each_series_looks_like_also_where_the_first_panel_lacks_it(
    kind: Literal["bars", "lines"],
):
    names = ("_a", r"$\no maths$", "c")  # matplotlib would leave out the first, and fail on the second

    def panel(*there: bool) -> Panel:
        point = Point(estimate=50.0, low=49.0, high=51.0)
        series = [
            Series(name=name, points=(point if shown else None,)) for name, shown in zip(names, there, strict=True)
        ]
        return Panel(y_label="y", x_label="x", places=("es",), positions=(0.0,), series=tuple(series))

    whole, lacking = (
        draw(Drawing(kind=kind, title="t", panels=panels))["svg"].decode()
        for panels in ((panel(True, True, True),) * 2, (panel(False, True, True), panel(True, False, True)))
    )
    legends = [re.sub(r"#?[mph][0-9a-f]{10}", "", svg[svg.index('<g id="legend_1">') :]) for svg in (whole, lacking)]
    assert [legend.count("<!-- ") for legend in legends] == [3, 3]
    assert "<!-- _a -->" in legends[0]
    assert r"<!-- $\no maths$ -->" in legends[0]
    assert colours(legends[1]) == colours(legends[0])


def colours(svg: str) -> list[str]:
    """What marks are filled and drawn with, in their order."""
    return re.findall(r"(?:fill|stroke): (?:#\w+|none|url\(#?\w*\))", svg)

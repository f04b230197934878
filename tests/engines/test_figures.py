"""Figures: both formats, the same bytes each time, intervals that are not there, more series than colours."""

from collections.abc import Sequence
from typing import Literal

import pytest

from crossward.engines.figures import COLOURS, Drawing, Panel, Point, Series, draw


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

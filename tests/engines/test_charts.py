"""Charts: every number is in the drawing and said in words, whatever the names are."""

import re
from xml.etree import ElementTree

from crossward.engines.charts import (
    PANELS,
    Chart,
    Dot,
    Heat,
    Intervals,
    Lines,
    Mark,
    Rule,
    Stacks,
    spec_of,
    svg,
)

ODD = '"><script>window.pwned=1</script>\u202e\n'
MARKS = (
    Mark(place="es", series="π_1", value=61.25, low=55.5, high=67.0),
    Mark(place="sw", series="π_1", value=48.0),
    Mark(place=ODD, series=ODD, value=0.5),
)
CHARTS: tuple[Chart, ...] = (
    Intervals(title="t", axis="win rate, %", marks=MARKS, rule=50.0),
    Stacks(title="t", axis="prompts", marks=MARKS),
    Heat(title="t", row_axis="asked", column_axis="identified", marks=MARKS),
    Lines(
        title="t",
        x_axis="step",
        y_axis="loss",
        dots=tuple(Dot(panel=panel, series="DPO", x=x, y=x / 3) for panel in ("a", ODD) for x in range(3)),
        rules=(Rule(panel="a", x=1.5, name="noise floor 1.5"),),
    ),
)


def said(drawing: str) -> list[str]:
    """The words of every mark."""
    root = ElementTree.fromstring(drawing)
    marks = [node for node in root.iter() if node.get("role") == "graphics-symbol"]
    return [node.get("aria-label", "") for node in marks if node.get("aria-roledescription") not in ("axis", "legend")]


def test_a_mark_says_its_place_its_series_and_its_interval():
    words = said(svg(CHARTS[0]))
    assert "es, π_1: win rate, % 61.25 [55.5, 67]" in words
    assert "sw, π_1: win rate, % 48" in words, "no interval, none said"


def test_a_line_says_its_points_and_its_rules():
    words = said(svg(CHARTS[3]))
    assert "a, DPO: step 2, loss 0.6667" in words
    assert "noise floor 1.5" in words


def test_names_of_strangers_stay_text_in_every_kind_of_chart():
    for chart in CHARTS:
        drawing = svg(chart)
        tags = {node.tag.rpartition("}")[2] for node in ElementTree.fromstring(drawing).iter()}
        assert tags <= {"svg", "g", "path", "line", "text", "rect", "title"}, tags
        assert "\u202e" not in drawing
        assert not re.search(r"\son\w+=|\sstyle=|href=", drawing.replace("&quot;", ""))


def test_colours_are_the_pages_own():
    assert set(re.findall(r"(?:fill|stroke)=\"(#[0-9a-fA-F]+)\"", svg(CHARTS[0]))) <= {"#000"}, "only unseen defaults"
    assert "var(--series-1)" in svg(CHARTS[0])


def test_a_hundred_languages_fit():
    dots = tuple(Dot(panel=f"l{k}", series="s", x=x, y=1.0) for k in range(100) for x in range(2))
    spec = spec_of(Lines(title="t", x_axis="x", y_axis="y", dots=dots))
    assert len({row["panel"] for row in spec["data"]["values"]}) == PANELS
    marks = tuple(Mark(place=f"l{k}", series="s", value=k) for k in range(100))
    many = spec_of(Intervals(title="t", axis="a", marks=marks))
    assert len(many["data"]["values"]) == 100


def test_equal_charts_are_drawn_equally():
    assert svg(CHARTS[0]) == svg(CHARTS[0])

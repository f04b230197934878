"""Bars and lines with intervals, drawn by matplotlib: the only file that imports it. Values in, bytes of files out.

The same values give the same bytes: no dates, fixed ids, matplotlib's own font. Colours are Okabe and Ito's, which
colour-blind readers can tell apart, with grey for their black, on which no hatch is seen; hatches, markers and line
styles say the same without colour. Knows no experiment.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

HINT = "figures need matplotlib: pip install 'crossward[figures]', or write `figures: []`"
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#999999")
INK = "#333333"  # of edges and hatches
HATCHES = ("", "//", "..", "xx", "\\\\", "++", "oo", "--")
MARKERS = "osD^vPX*"
STYLES = ("-", "--", "-.", ":")
_SETTINGS: Any = {  # matplotlib's own names
    "svg.hashsalt": "crossward",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "hatch.linewidth": 0.5,
    "text.parse_math": False,  # a $ in a name is a $
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A value and its interval; bounds are None where there is none."""

    estimate: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One bar or line: a point, or None, at every place of its panel."""

    name: str
    points: tuple[Point | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One pair of axes. `places` are the names along x, `positions` where they stand (bars: one apart).

    A series looks by its index, so all panels of a drawing have the same series; one may have no point in some.
    """

    y_label: str
    x_label: str
    places: tuple[str, ...]
    positions: tuple[float, ...]
    series: tuple[Series, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A figure: panels below each other, one legend for all."""

    kind: Literal["bars", "lines"]
    title: str
    panels: tuple[Panel, ...]

    def __post_init__(self) -> None:
        assert len({tuple(series.name for series in panel.series) for panel in self.panels}) == 1, "one legend for all"


def require_matplotlib() -> None:
    """Raise ValueError where it is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        raise ValueError(HINT) from None


def draw(drawing: Drawing) -> dict[Literal["png", "svg"], bytes]:
    """The figure in both formats."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(_width(drawing), 2.9 * len(drawing.panels) + 0.9), layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(drawing.title, fontsize=10)
        axes = figure.subplots(len(drawing.panels), squeeze=False)[:, 0]
        drawn = []  # of each panel, what each series looks like
        for ax, panel in zip(axes, drawing.panels, strict=True):
            drawn.append(_bars(ax, panel) if drawing.kind == "bars" else _lines(ax, panel))
            ax.set_ylabel(panel.y_label)
            ax.set_xlabel(panel.x_label)
            ax.set_xticks(panel.positions, panel.places)
            ax.grid(axis="y", linewidth=0.4, color="#BBBBBB")
        names = [series.name for series in drawing.panels[0].series]
        columns = _columns(names, _width(drawing))
        figure.legend(_marks(drawing, drawn), names, loc="outside lower center", ncols=columns, frameon=False)
        return {"png": _saved(figure, "png"), "svg": _saved(figure, "svg")}


def _width(drawing: Drawing) -> float:
    panel = drawing.panels[0]
    bars = len(panel.places) * len(panel.series) if drawing.kind == "bars" else 0
    return min(16.0, max(6.0, 1.5 + 0.22 * bars))


def _columns(names: Sequence[str], width: float) -> int:
    """How many names stand beside each other in a legend: a letter takes about 0.075 inches, its mark half an inch."""
    longest = max((len(name) for name in names), default=1)
    return max(1, min(len(names) or 1, int(width / (0.075 * longest + 0.6))))


def _saved(figure: Any, form: Literal["png", "svg"]) -> bytes:
    stream = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if form == "svg" else {"Software": None}
    figure.savefig(stream, format=form, dpi=150, metadata=metadata)
    return stream.getvalue()


def _marks(drawing: Drawing, drawn: Sequence[Sequence[Any]]) -> list[Any]:
    """What stands for each series in the legend: from the first panel that shows it, for nothing looks like nothing."""
    return [
        next((own[k] for own, panel in zip(drawn, drawing.panels, strict=True) if any(panel.series[k].points)), mark)
        for k, mark in enumerate(drawn[0])
    ]


def bar_look(k: int) -> dict[str, Any]:
    """What tells the k-th series' bars from others': no two of the first 64 are the same."""
    return {"color": COLOURS[k % len(COLOURS)], "hatch": HATCHES[(k // len(COLOURS) + k) % len(HATCHES)]}


def line_look(k: int) -> dict[str, Any]:
    """What tells the k-th series' line from others': no two of the first 32 are the same, without colour too."""
    return {
        "color": COLOURS[k % len(COLOURS)],
        "marker": MARKERS[k % len(MARKERS)],
        "linestyle": STYLES[(k // len(MARKERS) + k) % len(STYLES)],
    }


def _bars(ax: Any, panel: Panel) -> list[Any]:
    width = 0.8 / max(1, len(panel.series))
    drawn = []
    for k, series in enumerate(panel.series):
        offset = (k - (len(panel.series) - 1) / 2) * width
        there = _there(panel.positions, series.points)
        bars = ax.bar(
            [x + offset for x, _ in there],
            [point.estimate for _, point in there],
            width,
            yerr=_errors([point for _, point in there]),
            edgecolor=INK,
            linewidth=0.5,
            error_kw={"elinewidth": 0.9, "capsize": 2},
            **bar_look(k),
        )
        drawn.append(bars)
    ax.axhline(0, color=INK, linewidth=0.6)
    return drawn


def _lines(ax: Any, panel: Panel) -> list[Any]:
    drawn = []
    apart = 0.012 * (max(panel.positions) - min(panel.positions))
    for k, series in enumerate(panel.series):
        there = _there(panel.positions, series.points)
        line = ax.errorbar(
            [x + (k - (len(panel.series) - 1) / 2) * apart for x, _ in there],  # or intervals would lie on each other
            [point.estimate for _, point in there],
            yerr=_errors([point for _, point in there]),
            markersize=4,
            linewidth=1.2,
            elinewidth=0.9,
            capsize=2,
            **line_look(k),
        )
        drawn.append(line)
    return drawn


def _there(positions: Sequence[float], points: Sequence[Point | None]) -> list[tuple[float, Point]]:
    return [(x, point) for x, point in zip(positions, points, strict=True) if point is not None]


def _errors(points: Sequence[Point]) -> list[list[float]]:
    """Lengths below and above; 0 where there is no interval, and never negative (a percentile may lie inside)."""
    below = [max(0.0, p.estimate - p.low) if p.low is not None else 0.0 for p in points]
    above = [max(0.0, p.high - p.estimate) if p.high is not None else 0.0 for p in points]
    return [below, above]

"""What a report is made of: headings, words, tables, charts.

Values only; page.py and markdown.py make files of them. All text is plain: whatever renders it must escape it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from crossward.engines.charts import Chart

Tone = Literal["plain", "good", "bad", "note"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """A paragraph. `note` explains what stands above it; good and bad news are marked by more than colour."""

    text: str
    tone: Tone = "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bullets:
    """Lines that belong together."""

    items: tuple[Words, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table; the first column names its row. Cells are values: a renderer writes them with `tables.cell`.

    `loud` are the rows (by index) that must not be overlooked; a `folded` table opens when it is asked for.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    caption: str = ""
    loud: frozenset[int] = frozenset()
    folded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A chart with the same numbers as a table: who cannot see the one reads the other."""

    chart: Chart
    table: Table
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """One concern: what was seen, why it matters, what to try, where more is said."""

    title: str
    seen: str
    why: str
    advice: str
    page: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """Text as a machine wrote it."""

    text: str
    language: str = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Browser:
    """Groups to look through, as plain values (browse.py), and what became of those that are not among them."""

    groups: tuple[dict[str, Any], ...]
    note: str


Block = Words | Bullets | Table | Figure | Advice | Code | Browser


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part with a heading; `anchor` is its name in links."""

    anchor: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A whole report, top to bottom."""

    title: str
    sections: tuple[Section, ...]


def table(
    header: Sequence[str],
    rows: Iterable[Iterable[object]],
    *,
    caption: str = "",
    loud: Iterable[int] = (),
    folded: bool = False,
) -> Table:
    """A Table of any sequences."""
    return Table(
        header=tuple(header), rows=tuple(map(tuple, rows)), caption=caption, loud=frozenset(loud), folded=folded
    )

"""What a careful colleague would say about a run: what was seen, why it matters, what to try. Knows no run."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "length-exploitation",
    "language-drift",
    "reward-drift",
    "collapsed-diversity",
    "alpha-at-odds",
    "truncation",
    "below-noise",
    "english-regressed",
    "few-judged",
    "not-the-child",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Concern:
    """One worry about a run, in whole sentences. `where` is a stage or model ("iteration-2/pair"), `languages` whose
    numbers they are (empty: all); docs/troubleshooting.md has a section named by `kind`.
    """

    kind: Kind
    where: str
    languages: tuple[str, ...]
    seen: str
    why: str
    advice: str

    @property
    def page(self) -> str:
        """Where more is said."""
        return f"docs/troubleshooting.md#{self.kind}"


# Heaviest first: what makes the run's numbers meaningless, then what the new policy does worse, then what the pairs are
# made of, then what cannot be told.
_ORDER: tuple[Kind, ...] = (
    "not-the-child",
    "english-regressed",
    "language-drift",
    "reward-drift",
    "length-exploitation",
    "collapsed-diversity",
    "below-noise",
    "truncation",
    "alpha-at-odds",
    "few-judged",
)


def by_weight(concerns: Iterable[Concern]) -> list[Concern]:
    """Heaviest first; as met where they weigh the same."""
    return sorted(concerns, key=lambda concern: _ORDER.index(concern.kind))


def told(concern: Concern) -> list[str]:
    """A concern as a short block of lines for a terminal."""
    languages = f" ({shortened(concern.languages)})" if concern.languages else ""
    return [
        f"CONCERN {concern.kind}, {concern.where}{languages}: {concern.seen}",
        f"  why: {concern.why}",
        f"  try: {concern.advice}",
        f"  more: {concern.page}",
    ]


def shortened(names: Sequence[str], most: int = 8) -> str:
    """The first names and how many more there are: a hundred languages make one line.

    >>> shortened(["de", "fr", "sw"], most=2)
    'de, fr and 1 more'
    """
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")

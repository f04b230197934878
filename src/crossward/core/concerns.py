"""What a careful colleague would say about a run: what was seen, why it matters, what to try. Knows no run."""

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

"""How far chance alone goes: the small tests that keep a concern silent on a handful of prompts.

Exact or closed forms, so that a hundred languages cost nothing. Knows no run and no concern.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist, fmean

TAIL = 0.025  # of a 95 % interval, on one side
_EXACT = 50  # things
_Z = NormalDist().inv_cdf(1 - TAIL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A part, 0 to 1, seen over `n` independent things (prompts, pairs); `low` and `high`: its 95 % interval.

    Exact (Clopper and Pearson) below 50 things, where Wilson's shorter one cries wolf: of one in one it says 0.2.

    Several responses to one prompt resemble each other, so n is the number of prompts even where the part is one of
    responses: the interval is then rather too wide than too narrow.
    """

    part: float
    n: int

    @property
    def low(self) -> float:
        return _exact_low(self.part, self.n) if self.n < _EXACT else self._wilson(-1)

    @property
    def high(self) -> float:
        return 1.0 - _exact_low(1.0 - self.part, self.n) if self.n < _EXACT else self._wilson(1)

    def _wilson(self, side: int) -> float:
        """(p + z²/2n ± z·√(p(1−p)/n + z²/4n²)) / (1 + z²/n)."""
        p, n = self.part, self.n
        half = _Z * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
        return min(1.0, max(0.0, (p + _Z**2 / (2 * n) + side * half) / (1 + _Z**2 / n)))


def _exact_low(part: float, n: int) -> float:
    """The rate at which part·n (rounded down) or more of n things come with probability TAIL; 0 over nothing."""
    k = math.floor(part * n + 1e-9)
    if not k:
        return 0.0
    low, high = 0.0, 1.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        reached = sum(math.comb(n, i) * middle**i * (1 - middle) ** (n - i) for i in range(k, n + 1))
        low, high = (middle, high) if reached < TAIL else (low, middle)
    return low


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """One measure of the same `n` prompts under two policies: means, and how many prompts went up and down."""

    before: float
    after: float
    up: int
    down: int
    n: int

    @property
    def change(self) -> float:
        """after − before."""
        return self.after - self.before

    def rose(self, *, tests: int) -> bool:
        """Whether more prompts went up than chance would send there, at 2.5 % for all `tests` together."""
        return sign_test(self.up, self.down) < TAIL / tests

    def fell(self, *, tests: int) -> bool:
        """Whether more prompts went down than chance would send there, at 2.5 % for all `tests` together."""
        return sign_test(self.down, self.up) < TAIL / tests


def paired(before: Mapping[str, float], after: Mapping[str, float]) -> Paired | None:
    """Over the prompts (by id) that both have; None where there are none.

    >>> paired({"1": 1.0, "2": 0.0, "3": 1.0}, {"1": 0.0, "2": 0.0})
    Paired(before=0.5, after=0.0, up=0, down=1, n=2)
    """
    both = sorted(before.keys() & after.keys())
    if not both:
        return None
    return Paired(
        before=fmean(before[id] for id in both),
        after=fmean(after[id] for id in both),
        up=sum(after[id] > before[id] for id in both),
        down=sum(after[id] < before[id] for id in both),
        n=len(both),
    )


def sign_test(more: int, fewer: int) -> float:
    """How probable it is that `more` or more of more + fewer fair coins fall on one given side; exact.

    Asks only which way a prompt went, so one extreme prompt cannot make a finding. Five prompts that all went one way
    give 1/32: no finding at 2.5 %.

    >>> sign_test(3, 1)  # (4 + 1) / 16
    0.3125
    """
    n = more + fewer
    return sum(math.comb(n, k) for k in range(more, n + 1)) / 2**n if n <= 1000 else _normal_tail(more, n)


def _normal_tail(more: int, n: int) -> float:
    """The same for many coins, with a continuity correction: equal to 1e-4 from n = 1000 on."""
    return 1 - NormalDist().cdf((more - 0.5 - n / 2) / (math.sqrt(n) / 2))


def standard_error(low: float, high: float) -> float:
    """What a 95 % interval says of the standard error of its estimate."""
    return (high - low) / (2 * _Z)


def critical_z(tests: int) -> float:
    """How many standard errors one of `tests` numbers must be off, one-sided, at 2.5 % for all of them together."""
    return NormalDist().inv_cdf(1 - TAIL / tests)


# (languages from, distance): the farthest of so many values of one normal distribution stays within this distance of
# their median, in units of 1.4826·MAD, with probability 0.99; the larger of even and odd numbers, 200,000 draws each.
_FARTHEST = ((4, 19.0), (6, 11.0), (8, 8.4), (10, 7.2), (12, 6.6), (15, 6.0), (20, 5.3), (30, 4.8))


def farthest_by_chance(n: int) -> float:
    """Distance from the median over 1.4826·MAD that the farthest of n like values passes once in a hundred times.

    The few languages of a run make the MAD itself uncertain: of five values the farthest is often ten MADs away.
    """
    if n < _FARTHEST[0][0]:
        raise ValueError(f"an outlier among {n} values cannot be told: {_FARTHEST[0][0]} or more are needed")
    return next(limit for least, limit in reversed(_FARTHEST) if n >= least)

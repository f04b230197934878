"""Sums that are rounded once, when they are asked for: the same in whatever order their terms come."""

import math


class ExactSum:
    """A running sum of finite numbers, kept as partial sums that do not overlap (Shewchuk 1997), a handful of them.

    >>> total = ExactSum()
    >>> for term in (1e16, 1.0, -1e16):
    ...     total.add(term)
    >>> total.value
    1.0
    """

    __slots__ = ("_partials",)

    def __init__(self) -> None:
        self._partials: list[float] = []

    def add(self, term: float) -> None:
        kept = 0
        for partial in self._partials:
            large, small = (term, partial) if abs(term) >= abs(partial) else (partial, term)
            term = large + small
            if rest := small - (term - large):
                self._partials[kept] = rest
                kept += 1
        self._partials[kept:] = [term]

    @property
    def value(self) -> float:
        return math.fsum(self._partials)

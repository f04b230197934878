"""Values counted in bins, for pictures of distributions: the same bins for all series that are compared."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

BINS = 30
_TAIL = 0.005  # values beyond these quantiles are counted in the outermost bins, so that one outlier hides nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Shares of values (0 to 1, together 1) between neighbouring `edges`; the outermost bins hold what lies beyond."""

    edges: tuple[float, ...]
    shares: tuple[float, ...]


def histograms(values: Mapping[str, Sequence[float]], *, bins: int = BINS) -> dict[str, Histogram]:
    """One histogram a series, all over the same bins; series without a value are left out.

    >>> found = histograms({"a": [0.0, 1.0, 1.0], "b": [2.0], "c": []}, bins=2)
    >>> found["a"].edges, found["a"].shares == (1 / 3, 2 / 3), found["b"].shares
    ((0.0, 1.0, 2.0), True, (0.0, 1.0))
    >>> "c" in found
    False
    """
    everything = sorted(value for series in values.values() for value in series)
    if not everything:
        return {}
    low, high = (everything[round(q * (len(everything) - 1))] for q in (_TAIL, 1 - _TAIL))
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = tuple(low + (high - low) * k / bins for k in range(bins + 1))
    return {name: _counted(series, edges) for name, series in values.items() if series}


def _counted(series: Sequence[float], edges: tuple[float, ...]) -> Histogram:
    bins, width = len(edges) - 1, edges[1] - edges[0]
    counts = [0] * bins
    for value in series:
        counts[min(bins - 1, max(0, math.floor((value - edges[0]) / width)))] += 1
    return Histogram(edges=edges, shares=tuple(count / len(series) for count in counts))

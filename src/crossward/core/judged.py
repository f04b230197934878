"""Verdicts as arrays: one model in one language a time, its instructions placed among those of all.

The order of instructions is one for all models: that of their ids, by number where all are. A bootstrap's draw counts
every instruction once for all models and languages, which is what makes differences paired.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from crossward.core.verdicts import Verdict

Array = Any  # numpy.ndarray, imported late
Key = tuple[str, str, str]  # language, baseline, model


@dataclass(slots=True, kw_only=True)
class Judged:
    """One model in one language: its preferences (NaN: null) by instruction, the estimate and its resamples."""

    verdicts: list[Verdict]
    preference: Array  # [n]
    places: Array  # [n] of the instructions among all
    lc: float | None = None  # 0 to 1
    replicates: Array | None = None  # [b], 0 to 1

    @property
    def n_usable(self) -> int:
        """Verdicts that are not null."""
        return sum(verdict.preference is not None for verdict in self.verdicts)


def grouped(verdicts: Sequence[Verdict]) -> tuple[dict[Key, Judged], int]:
    """Verdicts by language, baseline and model, and how many instructions there are in all.

    Raises ValueError for a model against itself and for an instruction judged twice.
    """
    import numpy as np

    groups: dict[Key, dict[str, Verdict]] = {}
    for verdict in verdicts:
        if verdict.model == verdict.baseline:
            raise ValueError(
                f"{verdict.model!r} is judged against itself in {verdict.language!r}: its win rate would be 50 "
                "whatever it answers; name another baseline"
            )
        mine = groups.setdefault((verdict.language, verdict.baseline, verdict.model), {})
        if verdict.id in mine:
            raise ValueError(
                f"instruction {verdict.id!r} of {verdict.model!r} against {verdict.baseline!r} in {verdict.language!r} "
                "has two verdicts: keep one"
            )
        mine[verdict.id] = verdict
    ids = list(dict.fromkeys(verdict.id for verdict in verdicts))
    numeric = all(id.isascii() and id.isdigit() for id in ids)
    ids.sort(key=int if numeric else None)
    place = {id: index for index, id in enumerate(ids)}
    judged: dict[Key, Judged] = {}
    for key in sorted(groups):
        rows = list(groups[key].values())
        if numeric:  # else as met: the folds of `minimal` go by the instruction set's own order, as far as it is known
            rows.sort(key=lambda verdict: place[verdict.id])
        judged[key] = Judged(
            verdicts=rows,
            preference=np.array([np.nan if v.preference is None else v.preference for v in rows]),
            places=np.array([place[v.id] for v in rows]),
        )
    return judged, len(ids)


def draw_instructions(n: int, resamples: int, seed: int) -> Array:
    """How often each of n instructions is drawn in each resample, [b, n]."""
    import numpy as np

    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples).astype(float)


def resampled_rates(found: Judged, weights: Array) -> Array:
    """Resampled raw win rates, 0 to 1; NaN where a resample holds no verdict."""
    return weighted_mean(found.preference, weights[:, found.places])


def weighted_mean(values: Array, weights: Array) -> Array:
    import numpy as np

    known = np.isfinite(values)
    total = weights[:, known].sum(axis=1)
    with np.errstate(invalid="ignore"):
        return (weights[:, known] @ values[known]) / total


def percent_interval(draws: Array) -> tuple[float, float]:
    """95 %, in percent, by percentiles."""
    import numpy as np

    low, high = np.nanquantile(draws, (0.025, 0.975))
    return 100 * float(low), 100 * float(high)


def p_value(draws: Array) -> float:
    import numpy as np

    known = draws[np.isfinite(draws)]
    return min(1.0, 2 * (1 + min(int((known <= 0).sum()), int((known >= 0).sum()))) / (len(known) + 1))

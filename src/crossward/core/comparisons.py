"""What verdicts say of models together: averages over languages, and differences between models, paired.

Both take the same draws of instructions as the rates do (core/judged.py), so that what two models or languages share
cancels. Percent and percentage points, 95 % intervals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from crossward.core.judged import Array, Judged, Key, p_value, percent_interval, resampled_rates, weighted_mean

AVERAGE = "average"


@dataclass(frozen=True, slots=True, kw_only=True)
class Average:
    """Unweighted mean of one model's rates over languages, with 95 % intervals. Percent."""

    model: str
    baseline: str
    languages: tuple[str, ...]
    win_rate: float
    win_rate_interval: tuple[float, float]
    lc_win_rate: float | None
    lc_interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """model − other against the same baseline, in one language or on average; percentage points, 95 % intervals.

    The win rates are over the instructions judged for both (`n_common`). A p-value is twice the smaller share of
    resamples on either side of 0.
    """

    language: str
    model: str
    other: str
    baseline: str
    n_common: int
    win_rate: float
    win_rate_interval: tuple[float, float]
    win_rate_p: float
    lc_win_rate: float | None
    lc_interval: tuple[float, float] | None
    lc_p: float | None


def averages(judged: Mapping[Key, Judged], weights: Array) -> list[Average]:
    """The mean of every model that is judged in two languages or more."""
    import numpy as np

    by_model: dict[tuple[str, str], dict[str, Judged]] = {}
    for (language, baseline, model), found in judged.items():
        by_model.setdefault((baseline, model), {})[language] = found
    found = []
    for (baseline, model), mine in by_model.items():
        if len(mine) < 2:
            continue
        members = list(mine.values())
        lcs, refits = _length_controlled(members)
        found.append(
            Average(
                model=model,
                baseline=baseline,
                languages=tuple(mine),
                win_rate=100 * float(np.mean([np.nanmean(member.preference) for member in members])),
                win_rate_interval=percent_interval(
                    np.mean([resampled_rates(member, weights) for member in members], axis=0)
                ),
                lc_win_rate=100 * float(np.mean(lcs)) if lcs else None,
                lc_interval=percent_interval(np.mean(refits, axis=0)) if refits else None,
            )
        )
    return found


def _length_controlled(members: Sequence[Judged]) -> tuple[list[float], list[Array]]:
    """Estimates and resamples, where all have them; else nothing: a mean over other languages is another figure."""
    lcs = [member.lc for member in members if member.lc is not None]
    refits = [member.replicates for member in members if member.replicates is not None]
    return (lcs, refits) if len(lcs) == len(members) else ([], [])


def differences(judged: Mapping[Key, Judged], weights: Array) -> list[Difference]:
    """Every pair of models with one baseline: in each language, and on average over those that both are judged in."""
    import numpy as np

    pairs: dict[tuple[str, str, str], list[tuple[str, Array, Array, Judged, Judged]]] = {}
    keys = sorted(judged)
    for (language, baseline, model), (code, base, other) in combinations(keys, 2):
        if (language, baseline) != (code, base):
            continue
        # Later names first: π_1 − π_0.
        ours, theirs = judged[(language, baseline, other)], judged[(language, baseline, model)]
        common, mine, yours = np.intersect1d(ours.places, theirs.places, return_indices=True)
        apart = ours.preference[mine] - theirs.preference[yours]
        if np.isfinite(apart).any():
            pairs.setdefault((baseline, other, model), []).append((language, common, apart, ours, theirs))
    found = []
    for (baseline, model, other), languages in pairs.items():
        raws, draws, lcs, refits, total = [], [], [], [], 0
        for language, common, apart, ours, theirs in languages:
            raws.append(float(np.nanmean(apart)))
            draws.append(weighted_mean(apart, weights[:, common]))
            n = int(np.isfinite(apart).sum())
            total += n
            values, resamples = _length_controlled((ours, theirs))
            if resamples:
                lcs.append(values[0] - values[1])
                refits.append(resamples[0] - resamples[1])
            names = {"language": language, "model": model, "other": other, "baseline": baseline, "n_common": n}
            found.append(_difference(names, raws[-1], draws[-1], lcs[-1:], refits[-1:]))
        if len(languages) > 1:
            if len(lcs) < len(languages):
                lcs, refits = [], []
            names = {"language": AVERAGE, "model": model, "other": other, "baseline": baseline, "n_common": total}
            found.append(_difference(names, float(np.mean(raws)), np.mean(draws, axis=0), lcs, refits))
    return found


def _difference(
    names: Mapping[str, Any], raw: float, draws: Array, lcs: list[float], refits: list[Array]
) -> Difference:
    import numpy as np

    lc = np.mean(refits, axis=0) if refits else None
    return Difference(
        **names,
        win_rate=100 * raw,
        win_rate_interval=percent_interval(draws),
        win_rate_p=p_value(draws),
        lc_win_rate=100 * float(np.mean(lcs)) if lcs else None,
        lc_interval=None if lc is None else percent_interval(lc),
        lc_p=None if lc is None else p_value(lc),
    )

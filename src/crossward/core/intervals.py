"""Means and shares of what many prompts show, with their intervals.

A comparison of two answers is a win, a loss, or a tie, which counts half. Answers to one prompt resemble each other, so
every interval resamples whole clusters (prompts), never single answers. Knows no judge and no gold rule.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

RESAMPLES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate and its 95 % bootstrap interval (percentiles)."""

    estimate: float
    low: float
    high: float


def win_share(scores: Sequence[float], baseline: Sequence[float]) -> float:
    """Share, 0 to 1, of all comparisons of one prompt's answers with the baseline's that are won; ties count half.

    >>> win_share([1.0, 3.0], [2.0, 3.0])  # loses, loses, wins, ties
    0.375
    """
    wins = sum((score > other) + 0.5 * (score == other) for score in scores for other in baseline)
    return wins / (len(scores) * len(baseline))


def ranked_pairs(rewards: Sequence[float], truths: Sequence[float]) -> tuple[float, int]:
    """(rightly ranked, comparable) pairs of one prompt's answers: comparable where the truths differ; equal rewards
    count half. Their quotient over prompts is the pairwise accuracy of a reward; chance is 0.5.

    >>> ranked_pairs([0.1, 0.2, 0.2], [1.0, 2.0, 3.0])
    (2.5, 3)
    """
    right, comparable = 0.0, 0
    for i, (reward, truth) in enumerate(zip(rewards, truths, strict=True)):
        for other_reward, other_truth in zip(rewards[:i], truths[:i], strict=True):
            if truth != other_truth:
                comparable += 1
                difference = (reward - other_reward) * (1 if truth > other_truth else -1)
                right += 0.5 if difference == 0 else float(difference > 0)
    return right, comparable


def clustered_mean(values: Iterable[tuple[str, float]], *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Mean of (cluster, value) observations, its interval by resampling clusters."""
    return clustered_ratio(((cluster, value, 1.0) for cluster, value in values), seed=seed, resamples=resamples)


def clustered_ratio(
    observations: Iterable[tuple[str, float, float]], *, seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Σ numerator / Σ denominator of (cluster, numerator, denominator), its interval by resampling clusters.

    Raises ValueError where nothing is observed.
    """
    import numpy

    totals: dict[str, tuple[float, float]] = {}
    for cluster, numerator, denominator in observations:
        above, below = totals.get(cluster, (0.0, 0.0))
        totals[cluster] = (above + numerator, below + denominator)
    if not sum(below for _, below in totals.values()):
        raise ValueError("no observations: a mean needs at least one")
    sums = numpy.array([totals[cluster] for cluster in sorted(totals)])  # [clusters, 2]
    draws = numpy.random.default_rng(seed).integers(len(sums), size=(resamples, len(sums)))
    resampled = sums[draws].sum(axis=1)  # [resamples, 2]
    ratios = resampled[resampled[:, 1] > 0]
    low, high = numpy.quantile(ratios[:, 0] / ratios[:, 1], (0.025, 0.975))
    above, below = sums.sum(axis=0)
    return Interval(estimate=float(above / below), low=float(low), high=float(high))


def paired_differences(ours: Mapping[str, float], theirs: Mapping[str, float]) -> list[tuple[str, float]]:
    """(key, ours − theirs) for keys that both must have. Raises ValueError where one lacks a key."""
    if missing := ours.keys() ^ theirs.keys():
        raise ValueError(f"both sides of a paired difference need the same prompts, {sorted(missing)[0]!r} is in one")
    return [(key, value - theirs[key]) for key, value in ours.items()]

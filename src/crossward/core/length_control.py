"""Length control: the α at which chosen and rejected responses are equally long on average (paper, section 3.3).

chosen = argmax_k (s_k − α·L_k), rejected = argmin_k (s_k − α·L_k), D(α) = mean over prompts of L_chosen − L_rejected.
Each s_k − α·L_k is a line in α, so the chosen response runs along an upper envelope and the rejected one along a lower
envelope: D is a non-increasing step function, and its steps are found exactly, over all real α, by walking both
envelopes. `published_grid_alpha` is the published procedure (a grid from 0 to 1, never negative).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthControl:
    """The α found, the mean length gap chosen − rejected at α = 0 and at that α, and the whole curve.

    The gap is `gaps[i]` for α between `breakpoints[i - 1]` and `breakpoints[i]`: one more gap than breakpoints.
    """

    alpha: float
    gap_before: float
    gap_after: float
    breakpoints: Array
    gaps: Array

    def curve(self, points: int = 41) -> list[tuple[float, float]]:
        """(α, gap) at `points` places spread evenly over the steps, for a plot or a table."""
        if len(self.breakpoints) == 0:
            return [(0.0, self.gap_before)]
        keep = np.unique(np.linspace(0, len(self.breakpoints) - 1, points).round().astype(int))
        return [(float(self.breakpoints[i]), float(self.gaps[i + 1])) for i in keep]


def choose_alpha(scores: Sequence[Sequence[float]], lengths: Sequence[Sequence[float]]) -> LengthControl:
    """The α that minimises |D(α)|, exactly; among equals the one nearest to 0, and 0 itself where it is as good.

    `scores[i][k]` is the log-ratio (nats) of response k to prompt i, `lengths[i][k]` its length; groups may differ in
    size but none may be empty. Inside a step α is taken from its middle, away from the ties at its ends.

    One prompt, responses (s, L) = (2, 10) and (1, 4): they swap at α = (2 − 1)/(10 − 4) = 1/6, D = +6 before and −6
    after. Nothing is gained by moving, so α stays 0.

    >>> choose_alpha([[2.0, 1.0]], [[10, 4]]).alpha
    0.0
    """
    score, length, valid = _padded(scores, lengths)
    breakpoints, gaps = _steps(score, length, valid)
    gap_before = length_gap(score, length, 0.0, valid)
    edges = np.concatenate([[-np.inf], breakpoints, [np.inf]])
    low, high = edges[:-1], edges[1:]
    best = np.abs(gaps).min()
    if abs(gap_before) <= best:
        return LengthControl(alpha=0.0, gap_before=gap_before, gap_after=gap_before, breakpoints=breakpoints, gaps=gaps)
    distance = np.where(np.abs(gaps) == best, np.maximum(np.maximum(low, -high), 0.0), np.inf)
    step = int(np.argmin(distance))
    alpha = _inside(float(low[step]), float(high[step]))
    gap_after = length_gap(score, length, alpha, valid)
    return LengthControl(alpha=alpha, gap_before=gap_before, gap_after=gap_after, breakpoints=breakpoints, gaps=gaps)


def length_gap(scores: Array, lengths: Array, alpha: float, valid: NDArray[np.bool_] | None = None) -> float:
    """D(α) by definition: mean length of the chosen minus mean length of the rejected; ties go to the first."""
    adjusted = scores - alpha * lengths
    valid = np.ones_like(adjusted, dtype=bool) if valid is None else valid
    rows = np.arange(len(adjusted))
    chosen = np.where(valid, adjusted, -np.inf).argmax(axis=1)
    rejected = np.where(valid, adjusted, np.inf).argmin(axis=1)
    return float((lengths[rows, chosen] - lengths[rows, rejected]).mean())


def published_grid_alpha(scores: Sequence[Sequence[float]], lengths: Sequence[Sequence[float]]) -> LengthControl:
    """# paper: the published code's search: α in 0, 0.001 … 0.999, the first with the smallest |D(α)|."""
    score, length, valid = _padded(scores, lengths)
    grid = np.arange(0.0, 1.0, 0.001)
    gaps = np.array([length_gap(score, length, alpha, valid) for alpha in grid])
    best = int(np.argmin(np.abs(gaps)))
    return LengthControl(
        alpha=float(grid[best]),
        gap_before=float(gaps[0]),
        gap_after=float(gaps[best]),
        breakpoints=grid[1:],
        gaps=gaps,
    )


def _padded(
    scores: Sequence[Sequence[float]], lengths: Sequence[Sequence[float]]
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Ragged groups as [prompts, widest group] arrays and the mask of real responses."""
    if not scores:
        raise ValueError("length control needs at least one group of responses, got none")
    sizes = np.array([len(group) for group in scores])
    valid = np.arange(sizes.max()) < sizes[:, None]
    score, length = np.zeros(valid.shape), np.zeros(valid.shape)
    score[valid] = [value for group in scores for value in group]
    length[valid] = [value for group in lengths for value in group]
    return score, length, valid


def _steps(score: Array, length: Array, valid: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Breakpoints of D in ascending order, and D before the first, between them, and behind the last.

    Sums are divided only at the end: over whole-number lengths they are exact, so that equal gaps compare as equal.
    """
    chosen_start, chosen_at, chosen_change = _walk(score, length, valid)
    # argmin(s − αL) = argmax(−s − α(−L)): the same walk over mirrored lines.
    rejected_start, rejected_at, rejected_change = _walk(-score, -length, valid)
    at = np.concatenate([chosen_at, rejected_at])
    change = np.concatenate([chosen_change, rejected_change])
    breakpoints, where = np.unique(at, return_inverse=True)
    merged = np.bincount(where, weights=change, minlength=len(breakpoints))
    sums = np.cumsum(np.concatenate([[(chosen_start + rejected_start).sum()], merged]))
    return breakpoints, sums / len(score)


def _walk(score: Array, length: Array, valid: NDArray[np.bool_]) -> tuple[Array, Array, Array]:
    """Walk each row's upper envelope of s − αL from α = −∞ to ∞.

    Returns the length that is chosen at −∞ per row, and for every step its α and the change in length (negative).
    """
    rows = np.arange(len(score))
    longest = np.where(valid, length, -np.inf).max(axis=1)
    current = np.where(valid & (length == longest[:, None]), score, -np.inf).argmax(axis=1)
    start = length[rows, current]
    at: list[Array] = []
    change: list[Array] = []
    while True:
        drop = length[rows, current][:, None] - length
        shorter = valid & (drop > 0)
        crossing = np.full_like(score, np.inf)
        np.divide(score[rows, current][:, None] - score, drop, out=crossing, where=shorter)
        first = crossing.min(axis=1)
        moving = shorter.any(axis=1)
        if not moving.any():
            return start, np.concatenate([*at, []]), np.concatenate([*change, []])
        # Where several lines cross at once the shortest one leads behind the crossing.
        following = np.where(shorter & (crossing == first[:, None]), length, np.inf).argmin(axis=1)
        at.append(first[moving])
        change.append(-drop[rows, following][moving])
        current = np.where(moving, following, current)


def _inside(low: float, high: float) -> float:
    """A point strictly inside the step (low, high); one unit beyond the end where the step is unbounded."""
    if np.isinf(low):
        return high - 1.0
    if np.isinf(high):
        return low + 1.0
    return (low + high) / 2

"""Length control: the α at which chosen and rejected responses are equally long on average (paper, section 3.3).

chosen = argmax_k (s_k − α·L_k), rejected = argmin_k (s_k − α·L_k), D(α) = mean over prompts of L_chosen − L_rejected.
Each s_k − α·L_k is a line in α, so the chosen response runs along an upper envelope and the rejected one along a lower
envelope: D is a non-increasing step function, and its steps are found exactly, over all real α, from where the lines
of each prompt cross. Prompts are worked on in chunks: temporaries are bounded, what grows is 16 bytes a step.
`published_grid_alpha` is the published procedure (a grid from 0 to 1, never negative).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# Responses in one chunk: its arrays stay in the processor's cache.
CHUNK = 16384


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Log-ratios (nats) and lengths of all prompts' responses laid end to end; prompt i has `sizes[i]` of them, not 0.

    Lengths may be of any number type; they are widened chunk by chunk.
    """

    scores: Array
    lengths: NDArray
    sizes: NDArray[np.integer]

    def chunks(self) -> Iterator[tuple[Array, Array]]:
        """(scores, lengths), each [prompts, responses], of prompts with equally many responses: every prompt once."""
        starts = np.cumsum(self.sizes) - self.sizes
        for size in np.unique(self.sizes):
            rows = starts[self.sizes == size]
            step = max(CHUNK // int(size), 1)
            for first in range(0, len(rows), step):
                if len(rows) == len(starts):
                    places = np.s_[first * size : (first + step) * size]
                else:
                    places = (rows[first : first + step, None] + np.arange(size)).ravel()
                score, length = self.scores[places], self.lengths[places]
                yield score.reshape(-1, size), length.reshape(-1, size).astype(np.float64, copy=False)


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
    return exact_alpha(end_to_end(scores, lengths))


def exact_alpha(groups: Groups) -> LengthControl:
    """`choose_alpha` over groups laid end to end."""
    breakpoints, gaps = _steps(groups)
    gap_before = _mean_gap(groups, 0.0)
    edges = np.concatenate([[-np.inf], breakpoints, [np.inf]])
    low, high = edges[:-1], edges[1:]
    best = np.abs(gaps).min()
    if abs(gap_before) <= best:
        return LengthControl(alpha=0.0, gap_before=gap_before, gap_after=gap_before, breakpoints=breakpoints, gaps=gaps)
    equal = np.flatnonzero(np.abs(gaps) == best)
    distance = np.maximum(np.maximum(low[equal], -high[equal]), 0.0)
    step = int(equal[np.argmin(distance)])
    alpha = _inside(float(low[step]), float(high[step]))
    gap_after = _mean_gap(groups, alpha)
    return LengthControl(alpha=alpha, gap_before=gap_before, gap_after=gap_after, breakpoints=breakpoints, gaps=gaps)


def length_gap(scores: Array, lengths: Array, alpha: float) -> float:
    """D(α) by definition, of [prompts, responses]: mean length of the chosen minus the rejected; of ties the first."""
    return _gap_sum(scores, lengths, alpha) / len(scores)


def published_grid_alpha(scores: Sequence[Sequence[float]], lengths: Sequence[Sequence[float]]) -> LengthControl:
    """# paper: the published code's search: α in 0, 0.001 … 0.999, the first with the smallest |D(α)|."""
    return grid_alpha(end_to_end(scores, lengths))


def grid_alpha(groups: Groups) -> LengthControl:
    """`published_grid_alpha` over groups laid end to end."""
    grid = np.arange(0.0, 1.0, 0.001)
    sums = np.zeros_like(grid)
    for score, length in groups.chunks():
        sums += [_gap_sum(score, length, alpha) for alpha in grid]
    gaps = sums / len(groups.sizes)
    best = int(np.argmin(np.abs(gaps)))
    return LengthControl(
        alpha=float(grid[best]),
        gap_before=float(gaps[0]),
        gap_after=float(gaps[best]),
        breakpoints=grid[1:],
        gaps=gaps,
    )


def end_to_end(scores: Sequence[Sequence[float]], lengths: Sequence[Sequence[float]]) -> Groups:
    """Nested lists as Groups. Raises ValueError where there is no group."""
    if not len(scores):
        raise ValueError("length control needs at least one group of responses, got none")
    sizes = np.fromiter(map(len, scores), np.int64, len(scores))
    total = int(sizes.sum())
    return Groups(
        scores=np.fromiter(chain.from_iterable(scores), np.float64, total),
        lengths=np.fromiter(chain.from_iterable(lengths), np.float64, total),
        sizes=sizes,
    )


def _mean_gap(groups: Groups, alpha: float) -> float:
    return sum(_gap_sum(score, length, alpha) for score, length in groups.chunks()) / len(groups.sizes)


def _gap_sum(scores: Array, lengths: Array, alpha: float) -> float:
    """Length of the chosen minus length of the rejected, summed over prompts; over whole numbers it is exact."""
    adjusted = scores - alpha * lengths
    rows = np.arange(len(adjusted))
    return float((lengths[rows, adjusted.argmax(axis=1)] - lengths[rows, adjusted.argmin(axis=1)]).sum())


def _steps(groups: Groups) -> tuple[Array, Array]:
    """Breakpoints of D in ascending order, and D before the first, between them, and behind the last.

    Sums are divided only at the end: over whole-number lengths they are exact, so that equal gaps compare as equal.
    """
    start = 0.0
    at, change = [], []
    for score, length in groups.chunks():
        longest_minus_shortest, places, steps = _crossings(score, length)
        start += longest_minus_shortest
        at += places
        change += steps
    places, steps = np.concatenate([*at, []]), np.concatenate([*change, []])
    del at, change
    order = np.argsort(places)
    places, steps = places[order], steps[order]
    first = np.flatnonzero(np.concatenate([[True], places[1:] != places[:-1]])[: len(places)])
    merged = np.add.reduceat(steps, first) if len(first) else steps
    return places[first], np.cumsum(np.concatenate([[start], merged])) / len(groups.sizes)


def _crossings(score: Array, length: Array) -> tuple[float, list[Array], list[Array]]:
    """Where D of these prompts changes: the sum of D at α = −∞, the α of every step, and by how much D falls there.

    With a prompt's lines sorted by length, line k leads the upper envelope from the latest crossing with a longer line
    to the earliest with a shorter one, the lower envelope from the latest with a shorter to the earliest with a longer
    one; where that interval is empty, it never leads. All of it comes from the crossings of pairs: quadratic in the
    responses to a prompt, without a loop over prompts.
    """
    lines, slopes, tied = _by_length(score, length)
    chosen_from, rejected_from = np.full_like(lines, -np.inf), np.full_like(lines, -np.inf)
    chosen_to, rejected_to = np.full_like(lines, np.inf), np.full_like(lines, np.inf)
    for k in range(len(lines) - 1):
        with np.errstate(divide="ignore", invalid="ignore"):
            crossing = (lines[k + 1 :] - lines[k]) / (slopes[k + 1 :] - slopes[k])
        if tied:  # Of equally long lines the higher one leads above, the lower one below, of equal lines one.
            crossing[np.isnan(crossing)] = np.inf
        chosen_from[k] = crossing.max(axis=0)
        rejected_to[k] = crossing.min(axis=0)
        np.minimum(chosen_to[k + 1 :], crossing, out=chosen_to[k + 1 :])
        np.maximum(rejected_from[k + 1 :], crossing, out=rejected_from[k + 1 :])
    start = float((slopes[-1] - slopes[0]).sum())
    # A line and the next shorter one that leads: above, the shorter follows it; below, it follows the shorter.
    steps = [
        (at[moves], change[moves])
        for at, leads in ((chosen_to, chosen_from < chosen_to), (rejected_from, rejected_from < rejected_to))
        for moves, change in [(leads & np.isfinite(at), _change(slopes, leads))]
    ]
    return start, [at for at, _ in steps], [change for _, change in steps]


def _change(slopes: Array, leads: NDArray[np.bool_]) -> Array:
    """Length of the nearest shorter line that leads minus each line's own length, [responses, prompts]."""
    change = np.empty_like(slopes)
    shorter = slopes[0]
    for k, own in enumerate(slopes):
        change[k] = shorter - own
        shorter = np.where(leads[k], own, shorter)
    return change


def _by_length(score: Array, length: Array) -> tuple[Array, Array, bool]:
    """Scores and lengths as [responses, prompts], shortest first, of equally long ones the lowest score first.

    And whether any two responses of one prompt are equally long.
    """
    order = np.argsort(length, axis=1)
    slopes = np.take_along_axis(length, order, axis=1)
    tied = np.flatnonzero((slopes[:, 1:] == slopes[:, :-1]).any(axis=1))
    if len(tied):
        order[tied] = np.lexsort((score[tied], length[tied]), axis=1)
    lines = np.take_along_axis(score, order, axis=1)
    return np.ascontiguousarray(lines.T), np.ascontiguousarray(slopes.T), len(tied) > 0


def _inside(low: float, high: float) -> float:
    """A point strictly inside the step (low, high); one unit beyond the end where the step is unbounded."""
    if np.isinf(low):
        return high - 1.0
    if np.isinf(high):
        return low + 1.0
    return (low + high) / 2

"""Exact α: by hand, against brute force over every step, against the published grid, and D's monotonicity."""

import itertools
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossward.core import length_control
from crossward.core.length_control import choose_alpha, end_to_end, length_gap, published_grid_alpha


def groups(seed: int, *, size: int, widest: int) -> tuple[list[list[float]], list[list[float]]]:
    """Ragged groups with continuous scores (no exact ties) and whole-number lengths, correlated with the scores."""
    rng = np.random.default_rng(seed)
    lengths = [rng.integers(1, 200, size=rng.integers(2, widest + 1)).astype(float) for _ in range(size)]
    tilt = rng.normal(scale=0.2)
    scores = [tilt * row + rng.normal(scale=5.0, size=len(row)) for row in lengths]
    return [list(row) for row in scores], [list(row) for row in lengths]


def gap_by_loop(scores: list[list[float]], lengths: list[list[float]], alpha: float) -> float:
    """D(α) as the definition says, one prompt at a time."""
    total = 0.0
    for group, sizes in zip(scores, lengths, strict=True):
        adjusted = [s - alpha * length for s, length in zip(group, sizes, strict=True)]
        total += sizes[adjusted.index(max(adjusted))] - sizes[adjusted.index(min(adjusted))]
    return total / len(scores)


def all_crossings(scores: list[list[float]], lengths: list[list[float]]) -> list[float]:
    """Every α at which any two responses of one prompt swap: D can change nowhere else."""
    found = {
        (group[i] - group[j]) / (sizes[i] - sizes[j])
        for group, sizes in zip(scores, lengths, strict=True)
        for i in range(len(group))
        for j in range(i)
        if sizes[i] != sizes[j]
    }
    return sorted(found)


def test_two_prompts_by_hand():
    """Prompt A: (s, L) = (3, 10), (0, 4): swap at 3/6 = 0.5. Prompt B: (2, 8), (1, 6): swap at 1/2 = 0.5 too; so
    shift B's score: (2, 8), (1.5, 6) swaps at 0.25. D = (6 + 2)/2 = 4 below 0.25, (6 − 2)/2 = 2 up to 0.5, −4 above.
    The smallest |D| is 2, on (0.25, 0.5), whose middle is 0.375."""
    found = choose_alpha([[3.0, 0.0], [2.0, 1.5]], [[10, 4], [8, 6]])
    assert found.breakpoints.tolist() == [0.25, 0.5]
    assert found.gaps.tolist() == [4.0, 2.0, -4.0]
    assert (found.alpha, found.gap_before, found.gap_after) == (0.375, 4.0, 2.0)


def test_shorter_is_preferred_gives_negative_alpha():
    """The mirror image of the case above: scores that favour short responses need α below zero."""
    found = choose_alpha([[0.0, 3.0], [1.5, 2.0]], [[10, 4], [8, 6]])
    assert found.alpha == -0.375
    assert (found.gap_before, found.gap_after) == (-4.0, -2.0)


def test_equal_lengths_need_no_control():
    found = choose_alpha([[1.0, 2.0, 3.0]], [[5, 5, 5]])
    assert (found.alpha, found.gap_after, len(found.breakpoints)) == (0.0, 0.0, 0)


def test_no_groups_is_an_error():
    with pytest.raises(ValueError, match="at least one group"):
        choose_alpha([], [])


@settings(max_examples=1500, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.integers(1, 6), widest=st.integers(2, 6))
def test_equals_brute_force_over_every_step(seed: int, size: int, widest: int):
    scores, lengths = groups(seed, size=size, widest=widest)
    found = choose_alpha(scores, lengths)
    crossings = all_crossings(scores, lengths)
    middles = [(a + b) / 2 for a, b in itertools.pairwise(crossings)]
    ends = [crossings[0] - 1, crossings[-1] + 1] if crossings else [0.0]
    best = min(abs(gap_by_loop(scores, lengths, alpha)) for alpha in [0.0, *middles, *ends])
    assert abs(gap_by_loop(scores, lengths, found.alpha)) == pytest.approx(best, abs=1e-9)
    assert found.gap_after == pytest.approx(gap_by_loop(scores, lengths, found.alpha), abs=1e-9)


@settings(max_examples=500, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.integers(1, 7), widest=st.integers(2, 3))
def test_alpha_moves_only_where_that_gains(seed: int, size: int, widest: int):
    """Gaps of sevenths and the like are no reason to move: 0 stays where no step is nearer to an even length."""
    scores, lengths = groups(seed, size=size, widest=widest)
    found = choose_alpha(scores, lengths)
    crossings = all_crossings(scores, lengths)
    ends = [crossings[0] - 1, crossings[-1] + 1] if crossings else []
    steps = [*ends, *((a + b) / 2 for a, b in itertools.pairwise(crossings))]
    totals = [round(size * gap_by_loop(scores, lengths, alpha)) for alpha in (0.0, *steps)]
    assert (found.alpha == 0.0) == (abs(totals[0]) == min(map(abs, totals)))


@settings(max_examples=500, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.integers(1, 30), widest=st.integers(2, 8))
def test_gap_never_rises_and_curve_is_the_definition(seed: int, size: int, widest: int):
    scores, lengths = groups(seed, size=size, widest=widest)
    found = choose_alpha(scores, lengths)
    assert (np.diff(found.gaps) <= 1e-9).all()
    edges = [found.breakpoints[0] - 1, *found.breakpoints, found.breakpoints[-1] + 1] if len(found.breakpoints) else []
    for i, (a, b) in enumerate(itertools.pairwise(edges)):
        if b - a > 1e-9:
            assert gap_by_loop(scores, lengths, (a + b) / 2) == pytest.approx(found.gaps[i], abs=1e-9)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.integers(1, 20))
def test_never_worse_than_the_published_grid(seed: int, size: int):
    scores, lengths = groups(seed, size=size, widest=8)
    grid = published_grid_alpha(scores, lengths)
    assert abs(choose_alpha(scores, lengths).gap_after) <= abs(grid.gap_after) + 1e-9
    by_loop = [abs(gap_by_loop(scores, lengths, alpha)) for alpha in np.arange(0.0, 1.0, 0.001)[::50]]
    assert abs(grid.gap_after) <= min(by_loop) + 1e-9


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_order_of_prompts_and_responses_is_irrelevant(seed: int):
    scores, lengths = groups(seed, size=8, widest=6)
    rng = np.random.default_rng(seed)
    shuffled = [rng.permutation(len(group)) for group in scores]
    order = rng.permutation(len(scores))
    again = choose_alpha(
        [[scores[i][k] for k in shuffled[i]] for i in order], [[lengths[i][k] for k in shuffled[i]] for i in order]
    )
    assert again.alpha == pytest.approx(choose_alpha(scores, lengths).alpha, rel=1e-12, abs=1e-12)


def test_scaling_scores_scales_alpha():
    scores, lengths = groups(5, size=40, widest=10)
    doubled = [[2 * s for s in group] for group in scores]
    assert choose_alpha(doubled, lengths).alpha == pytest.approx(2 * choose_alpha(scores, lengths).alpha)


def test_length_gap_takes_the_first_of_a_tie():
    assert length_gap(np.array([[1.0, 1.0]]), np.array([[7.0, 3.0]]), 0.0) == 0.0


def tied_groups(seed: int, size: int) -> tuple[list[list[float]], list[list[float]]]:
    """Groups of 1 to 7 responses with few different scores and lengths: equal lines, shared crossings."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 8, size=size)
    return [list(rng.integers(-3, 4, n) / 2) for n in sizes], [list(rng.integers(1, 6, n).astype(float)) for n in sizes]


@settings(max_examples=1000, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.integers(1, 12))
def test_ties_of_every_kind_equal_brute_force(seed: int, size: int):
    scores, lengths = tied_groups(seed, size)
    found = choose_alpha(scores, lengths)
    crossings = all_crossings(scores, lengths)
    middles = [(a + b) / 2 for a, b in itertools.pairwise(crossings)]
    ends = [crossings[0] - 1, crossings[-1] + 1] if crossings else []
    best = min(abs(gap_by_loop(scores, lengths, alpha)) for alpha in [0.0, *middles, *ends])
    assert abs(found.gap_after) == pytest.approx(best, abs=1e-9)
    assert found.gap_after == pytest.approx(gap_by_loop(scores, lengths, found.alpha), abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.integers(1, 40), chunk=st.integers(1, 30), tied=st.booleans())
def test_chunks_change_nothing(seed: int, size: int, chunk: int, tied: bool):
    scores, lengths = tied_groups(seed, size) if tied else groups(seed, size=size, widest=7)
    whole, grid = choose_alpha(scores, lengths), published_grid_alpha(scores, lengths)
    with patch.object(length_control, "CHUNK", chunk):
        for found, expected in (
            (choose_alpha(scores, lengths), whole),
            (published_grid_alpha(scores, lengths), grid),
        ):
            assert (found.alpha, found.gap_before, found.gap_after) == (
                expected.alpha,
                expected.gap_before,
                expected.gap_after,
            )
            assert found.breakpoints.tolist() == expected.breakpoints.tolist()
            assert found.gaps.tolist() == expected.gaps.tolist()


def test_a_chunk_is_bounded_and_every_prompt_is_in_one():
    scores, lengths = groups(3, size=500, widest=9)
    with patch.object(length_control, "CHUNK", 50):
        chunks = list(end_to_end(scores, lengths).chunks())
    assert max(score.size for score, _ in chunks) <= 50
    found = sorted((*s, *size) for score, length in chunks for s, size in zip(score, length, strict=True))
    assert found == sorted((*s, *size) for s, size in zip(scores, lengths, strict=True))

"""Intervals over seeds by hand and against scipy; ratios over prompts against the bootstrap that the reports use."""

import pytest
from scipy import stats

from crossward.core.intervals import clustered_ratio
from crossward.core.seeds_intervals import (
    mean_over_seeds,
    ratio_difference_over_prompts,
    ratio_over_prompts,
    t_quantile,
)


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 9, 29, 200])
@pytest.mark.parametrize("probability", [0.5, 0.9, 0.975, 0.995])
def test_quantiles_are_scipys(degrees: int, probability: float):
    assert t_quantile(probability, degrees) == pytest.approx(stats.t.ppf(probability, degrees), rel=1e-8, abs=1e-12)


def test_a_quantile_outside_its_range_is_refused():
    for probability, degrees in ((0.4, 3), (1.0, 3), (0.975, 0)):
        with pytest.raises(ValueError, match=r"0\.5 to 1"):
            t_quantile(probability, degrees)


def test_the_interval_of_three_seeds_by_hand():
    # 10, 12, 17: mean 13, deviations −3 −1 4, s² = 26/2 = 13; t(0.975, 2) = 4.302653; half = 4.302653·√(13/3)
    found = mean_over_seeds([10.0, 12.0, 17.0])
    assert found.estimate == 13.0
    assert found.high - 13.0 == pytest.approx(4.302653 * (13 / 3) ** 0.5, rel=1e-6)
    assert 13.0 - found.low == pytest.approx(found.high - 13.0)
    low, high = stats.t.interval(0.95, 2, loc=13.0, scale=(13 / 3) ** 0.5)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9)


def test_two_equal_seeds_have_a_point_and_one_seed_has_none():
    assert mean_over_seeds([4.0, 4.0]).low == mean_over_seeds([4.0, 4.0]).high == 4.0
    with pytest.raises(ValueError, match="two or more, got 1"):
        mean_over_seeds([4.0])


def test_a_ratio_over_prompts_is_the_clustered_ratio():
    ratio = {"a": (1.0, 2.0), "b": (3.0, 4.0), "c": (0.5, 1.0), "d": (2.0, 2.0)}
    found = ratio_over_prompts(ratio)
    assert found == clustered_ratio((prompt, *pair) for prompt, pair in ratio.items())
    assert found.estimate == pytest.approx(6.5 / 9)


def test_a_difference_is_paired_by_prompt():
    ours = {str(i): (float(i % 5), 1.0) for i in range(40)}
    theirs = {key: (value + 1.0, n) for key, (value, n) in ours.items()}
    found = ratio_difference_over_prompts(ours, theirs)  # everywhere lower by one: no spread at all
    assert (found.estimate, found.low, found.high) == pytest.approx((-1.0, -1.0, -1.0))
    swapped = ratio_difference_over_prompts(theirs, ours)
    assert (swapped.estimate, swapped.low, swapped.high) == pytest.approx((1.0, 1.0, 1.0))


def test_nothing_observed_is_refused():
    for ours, theirs in (({}, {}), ({"a": (0.0, 0.0)}, {}), ({"a": (1.0, 1.0)}, {"a": (0.0, 0.0)})):
        with pytest.raises(ValueError, match="no observations"):
            ratio_difference_over_prompts(ours, theirs)

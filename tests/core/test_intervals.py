"""Win rates by hand, ranking accuracy against scikit-learn's AUC, intervals against scipy's bootstrap."""

import random

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap
from sklearn.metrics import roc_auc_score

from crossward.core.intervals import clustered_mean, clustered_ratio, paired_differences, ranked_pairs, win_share

SCORES = st.lists(st.integers(0, 5).map(float), min_size=1, max_size=8)


@given(SCORES, SCORES)
def test_swapping_the_sides_turns_wins_into_losses(ours: list[float], theirs: list[float]):
    assert win_share(ours, theirs) == pytest.approx(1 - win_share(theirs, ours))
    assert win_share(ours, ours) == pytest.approx(0.5)


def test_win_share_is_the_area_under_the_roc_curve():
    rng = random.Random(0)
    ours, theirs = ([rng.randrange(6) for _ in range(40)] for _ in range(2))
    labels = [1] * len(ours) + [0] * len(theirs)
    assert win_share(ours, theirs) == pytest.approx(roc_auc_score(labels, ours + theirs))


def test_ranked_pairs_with_two_truths_is_the_area_under_the_roc_curve():
    rng = random.Random(1)
    rewards = [rng.randrange(8) for _ in range(50)]
    truths = [rng.randrange(2) for _ in range(50)]
    right, comparable = ranked_pairs(rewards, truths)
    assert comparable == sum(truths) * (len(truths) - sum(truths))
    assert right / comparable == pytest.approx(roc_auc_score(truths, rewards))


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 3)), max_size=10))
def test_the_opposite_reward_is_wrong_where_the_reward_is_right(answers: list[tuple[int, int]]):
    rewards, truths = [float(a) for a, _ in answers], [float(b) for _, b in answers]
    right, comparable = ranked_pairs(rewards, truths)
    assert ranked_pairs([-reward for reward in rewards], truths) == (comparable - right, comparable)


def test_without_clusters_the_interval_is_the_ordinary_bootstrap():
    values = numpy.random.default_rng(5).normal(2.0, 1.0, size=60)
    ours = clustered_mean([(str(i), float(value)) for i, value in enumerate(values)], resamples=20000)
    theirs = bootstrap(
        (values,), numpy.mean, method="percentile", n_resamples=20000, rng=numpy.random.default_rng(1)
    ).confidence_interval
    assert ours.estimate == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_repeating_each_observation_within_its_cluster_changes_nothing():
    values = [(str(i), float(i % 7)) for i in range(40)]
    assert clustered_mean(values * 5) == clustered_mean(values)


def test_a_ratio_weighs_clusters_by_their_denominators():
    found = clustered_ratio([("a", 1.0, 1.0), ("b", 0.0, 3.0)])
    assert found.estimate == pytest.approx(0.25)
    assert (found.low, found.high) == (0.0, 1.0)


def test_order_does_not_matter():
    values = [(f"p{i % 9}", float(i % 4)) for i in range(60)]
    assert clustered_mean(values[::-1]) == clustered_mean(values)


def test_nothing_observed_is_an_error():
    with pytest.raises(ValueError, match="at least one"):
        clustered_mean([])


def test_a_paired_difference_names_the_prompt_that_one_side_lacks():
    assert paired_differences({"a": 2.0, "b": 1.0}, {"b": 3.0, "a": 0.5}) == [("a", 1.5), ("b", -2.0)]
    with pytest.raises(ValueError, match="'b'"):
        paired_differences({"a": 2.0, "b": 1.0}, {"a": 3.0})

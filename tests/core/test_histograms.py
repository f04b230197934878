"""Histograms count everything once, over bins that all series share."""

import numpy
from hypothesis import given
from hypothesis import strategies as st

from crossward.core.histograms import histograms

VALUES = st.lists(st.floats(-50, 50), min_size=1, max_size=60)


@given(VALUES, VALUES)
def test_shares_add_up_to_one_and_bins_are_shared(first: list[float], second: list[float]):
    found = histograms({"a": first, "b": second})
    assert found["a"].edges == found["b"].edges
    for histogram in found.values():
        assert abs(sum(histogram.shares) - 1) < 1e-9
        assert len(histogram.edges) == len(histogram.shares) + 1


def test_without_outliers_it_is_numpys():
    values = [0.1 * k for k in range(100)]
    found = histograms({"a": values}, bins=9)["a"]
    counts, edges = numpy.histogram(values, bins=9, range=(found.edges[0], found.edges[-1]))
    assert numpy.allclose(found.edges, edges)
    assert numpy.allclose(found.shares, counts / 100, atol=0.011)  # a value on an edge may fall to either side


def test_an_outlier_is_counted_at_the_end_and_hides_nothing():
    found = histograms({"a": [*([1.0] * 300), *([2.0] * 300), 1e9]})["a"]
    assert found.edges[-1] == 2.0
    assert found.shares[-1] == 301 / 601


def test_equal_values_have_a_bin():
    found = histograms({"a": [3.0, 3.0]})["a"]
    assert found.edges[0] < 3.0 < found.edges[-1]
    assert max(found.shares) == 1.0

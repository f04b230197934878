"""The order of terms never shows, and nothing is lost."""

import random
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from crossward.core.exact_sums import ExactSum

NUMBERS = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e100, max_value=1e100)


@given(st.lists(NUMBERS, max_size=40), st.integers(0, 9))
def test_the_sum_is_the_exact_one_rounded_in_any_order(terms: list[float], seed: int):
    shuffled = random.Random(seed).sample(terms, len(terms))
    found = []
    for order in (terms, shuffled):
        total = ExactSum()
        for term in order:
            total.add(term)
        found.append(total.value)
    assert found[0] == found[1] == float(sum(map(Fraction, terms)))

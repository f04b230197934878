"""chrF: one small case by hand, and a plain implementation of its definition."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossward.engines.chrf import chrf

ORDERS, BETA = 6, 2


def plain_chrf(answer: str, reference: str) -> float:
    """F-score of mean precision and mean recall over the orders of n-grams that both texts are long enough for."""
    texts = ["".join(text.split()) for text in (answer, reference)]
    precisions, recalls = [], []
    for n in range(1, ORDERS + 1):
        ours, theirs = (Counter(text[i : i + n] for i in range(len(text) - n + 1)) for text in texts)
        if ours and theirs:
            common = (ours & theirs).total()
            precisions.append(common / ours.total())
            recalls.append(common / theirs.total())
    if not precisions or not sum(precisions):
        return 0.0
    p, r = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    return 100 * (1 + BETA**2) * p * r / (BETA**2 * p + r)


def test_by_hand():
    """abc against abd: 2 of 3 characters, 1 of 2 pairs, 0 of 1 triple: P = R = (2/3 + 1/2 + 0)/3 = 7/18 = F."""
    assert chrf("abc", "abd") == pytest.approx(100 * 7 / 18)
    assert chrf("ab", "abab") == pytest.approx(100 * 5 * 1.0 * (5 / 12) / (4 * 1.0 + 5 / 12))  # P 1, R (2/4 + 1/3)/2


def test_the_ends_of_the_range():
    assert chrf("the same text", "the same text") == pytest.approx(100.0)
    assert chrf("the same text", "thesametext") == pytest.approx(100.0)  # white space does not count
    assert chrf("abc", "xyz") == chrf("", "abc") == chrf("abc", "") == 0.0


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="ab c", max_size=15), st.text(alphabet="ab c", max_size=15))
def test_it_is_its_definition(answer: str, reference: str):
    assert chrf(answer, reference) == pytest.approx(plain_chrf(answer, reference), abs=1e-6)

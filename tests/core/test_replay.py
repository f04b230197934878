"""Experience replay: how many offline pairs go with the method's own, and which."""

import pytest

from crossward.core.replay import drawn

OFFLINE = [(f"question {k}", k) for k in range(100)]


@pytest.mark.parametrize(("share", "n_own", "expected"), [(0.5, 30, 30), (0.25, 30, 10), (0.75, 30, 90)])
def test_offline_pairs_are_that_share_of_all(share: float, n_own: int, expected: int):
    found = drawn(OFFLINE, n_own=n_own, share=share, taken=[], seed=1)
    assert len(found) == expected == len(set(found))
    assert expected / (expected + n_own) == pytest.approx(share)


def test_prompts_that_are_trained_on_already_are_not_replayed_and_too_few_are_all():
    found = drawn(OFFLINE, n_own=1000, share=0.5, taken=["question 3", "question 4"], seed=1)
    assert sorted(found) == [k for k in range(100) if k not in (3, 4)]


def test_the_lot_follows_the_seed():
    one, same, other = (drawn(OFFLINE, n_own=9, share=0.5, taken=[], seed=seed) for seed in (1, 1, 2))
    assert one == same != other


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
def test_a_share_that_is_none_is_refused(share: float):
    with pytest.raises(ValueError, match="share of offline pairs must be above 0 and below 1"):
        drawn(OFFLINE, n_own=9, share=share, taken=[], seed=1)

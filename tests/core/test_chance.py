"""What chance alone does: intervals of shares, sign tests, outliers among few languages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossward.core.chance import Paired, Share, critical_z, farthest_by_chance, paired, sign_test, standard_error


def test_an_interval_of_a_share_by_hand():
    # p = 0.5, n = 96: z²/n = 0.04; half = 1.96·√(0.25/96 + 3.84/(4·96²)) = 0.1020; (0.52 ∓ 0.102)/1.04
    share = Share(part=0.5, n=96)
    assert (share.low, share.high) == pytest.approx((0.402, 0.598), abs=1e-3)
    assert (Share(part=0.0, n=0).low, Share(part=0.0, n=0).high) == (0.0, 1.0)


def test_few_things_have_their_exact_interval():
    assert Share(part=1.0, n=1).low == pytest.approx(0.025, abs=1e-5)  # p¹ = 0.025
    assert Share(part=1.0, n=2).low == pytest.approx(0.025**0.5, abs=1e-5)
    assert Share(part=0.0, n=3).high == pytest.approx(1 - 0.025 ** (1 / 3), abs=1e-5)
    assert (Share(part=0.3, n=10).low, Share(part=0.3, n=10).high) == pytest.approx((0.0667, 0.6525), abs=1e-4)


@given(st.integers(50, 500), st.floats(0, 1))
def test_more_data_sharpens_a_share(n: int, part: float):
    few, many = Share(part=part, n=n), Share(part=part, n=4 * n)
    assert -1e-12 <= few.low <= many.low + 1e-12 <= part + 1e-9
    assert part - 1e-9 <= many.high <= few.high + 1e-12


def test_coins_are_counted_exactly_and_their_tail_meets_the_normal_one():
    assert sign_test(5, 0) == 1 / 32
    assert sign_test(0, 0) == 1.0
    assert sign_test(3, 2) == 0.5
    assert sign_test(530, 470) == pytest.approx(sign_test(531, 470), rel=0.1)  # exact to 1000 coins, normal from 1001


@given(st.integers(0, 60), st.integers(0, 60))
def test_a_side_and_the_other_leave_nothing_out(more: int, fewer: int):
    assert sign_test(more, fewer) + sign_test(fewer + 1, more - 1) == pytest.approx(1.0) if more else True


def test_pairing_is_by_id_and_more_tests_ask_for_more():
    found = paired({str(i): 1.0 for i in range(10)}, {str(i): 0.0 for i in range(2, 12)})
    assert found == Paired(before=1.0, after=0.0, up=0, down=8, n=8)
    assert found is not None
    assert found.fell(tests=6)  # 1/256 < 0.025/6
    assert not found.fell(tests=7)
    assert not found.rose(tests=1)
    assert paired({"1": 1.0}, {"2": 1.0}) is None


def test_an_interval_gives_its_error_back_and_more_tests_ask_for_more():
    assert standard_error(0.4, 0.6) == pytest.approx(0.1 / 1.96, abs=1e-4)
    assert critical_z(1) == pytest.approx(1.96, abs=1e-3)
    assert critical_z(10) > critical_z(2) > 2.2


@pytest.mark.parametrize("n", [4, 5, 6, 7, 9, 11, 13, 20, 31])
def test_the_farthest_of_like_values_passes_its_limit_once_in_a_hundred_times(n: int):
    import numpy as np

    values = np.random.default_rng(n).standard_normal((20000, n))
    distances = np.abs(values - np.median(values, axis=1, keepdims=True))
    ratios = distances.max(axis=1) / (1.4826 * np.median(distances, axis=1))
    assert 0.001 < (ratios > farthest_by_chance(n)).mean() < 0.014


def test_of_three_languages_none_is_far_from_the_others():
    with pytest.raises(ValueError, match="among 3 values cannot be told"):
        farthest_by_chance(3)

"""The reward and the noise floor: by hand, against scipy, and against draws whose noise is known."""

import math
from dataclasses import replace

import numpy as np
import pytest

from crossward.core.records import Prompt, Response, ScoredPrompt, ScoredResponse
from crossward.core.rewards import noise_floor, range_quantile, reward


def scored(id: str, *ratios: float) -> ScoredPrompt:
    responses = tuple(
        ScoredResponse(response=Response(text=str(k)), policy_logprob=-10 + r, reference_logprob=-10.0, n_tokens=2)
        for k, r in enumerate(ratios)
    )
    prompt = Prompt(id=id, language="sw", instruction="x", english_instruction="x")
    return ScoredPrompt(prompt=prompt, view="crosslingual", judged_under="x", responses=responses)


def test_reward_is_beta_times_log_ratio():
    """β = 0.1, log π = −7.5, log π_ref = −10: r = 0.1 · 2.5 = 0.25."""
    response = ScoredResponse(response=Response(text="a"), policy_logprob=-7.5, reference_logprob=-10.0, n_tokens=3)
    assert response.log_ratio == 2.5
    assert reward(response, beta=0.1) == pytest.approx(0.25)


def test_noise_floor_by_hand():
    """Differences 0.3, −0.1 and 0, −0.2: mean square 0.14 / 4 = 0.035. Within groups they deviate by 0.2 and 0.1, both
    ways: squares 2·0.04 + 2·0.01 = 0.1 over two degrees of freedom, w² = 0.05. The second group's best flips.

    Against the truth sd = √0.035 and margin = 1.96·√2·√0.05 = 0.62; against an equal scoring both are √2 smaller.
    """
    first = [scored("1", 2.0, 1.0), scored("2", 1.0, 0.9)]
    second = [scored("2", 1.0, 1.1), scored("1", 1.7, 1.1)]
    exact, equal = noise_floor(first, second, exact=True), noise_floor(first, second, exact=False)
    assert exact.sd == pytest.approx(math.sqrt(0.035))
    assert exact.margin == pytest.approx(1.96 * math.sqrt(2) * math.sqrt(0.05), rel=1e-4)
    assert equal.sd == pytest.approx(exact.sd / math.sqrt(2))
    assert equal.margin == pytest.approx(exact.margin / math.sqrt(2))
    for floor in (exact, equal):
        assert (floor.best_flips, floor.worst_flips, floor.n_responses, floor.n_groups) == (1, 1, 4, 2)
        assert floor.largest == pytest.approx(0.3)


def test_equal_scorings_have_no_noise():
    floor = noise_floor([scored("1", 2.0, 1.0)], [scored("1", 2.0, 1.0)], exact=False)
    assert (floor.sd, floor.margin, floor.best_flips, floor.worst_flips) == (0.0, 0.0, 0, 0)
    nothing = noise_floor([], [], exact=True)
    assert (nothing.n_groups, nothing.sd, nothing.margin) == (0, 0.0, 0.0)
    single = noise_floor([scored("1", 2.0)], [scored("1", 3.0)], exact=True)  # one response has no margin
    assert (single.sd, single.margin) == (1.0, 0.0)


def test_a_shift_of_a_whole_group_is_an_error_but_changes_no_margin():
    floor = noise_floor([scored("1", 2.0, 1.0, 0.5)], [scored("1", 2.5, 1.5, 1.0)], exact=True)
    assert floor.sd == pytest.approx(0.5)
    assert floor.margin == pytest.approx(0.0, abs=1e-9)


def test_the_same_text_twice_is_one_choice():
    twins = [scored("1", 2.0, 1.0, 2.0), scored("1", 2.0, 1.0, 2.1)]
    first, second = (
        replace(
            group, responses=(group.responses[0], group.responses[1], replace(r, response=group.responses[0].response))
        )
        for group, r in zip(twins, (twins[0].responses[2], twins[1].responses[2]), strict=True)
    )
    assert noise_floor([first], [second], exact=True).best_flips == 0


@pytest.mark.parametrize("n", [2, 3, 10, 64])
def test_the_range_of_normal_draws_is_scipys_studentized_range(n: int):
    from scipy.stats import studentized_range

    assert range_quantile(n) == pytest.approx(studentized_range.ppf(0.95, n, np.inf), abs=1e-4)
    with pytest.raises(ValueError, match="needs at least two draws"):
        range_quantile(1)


@pytest.mark.parametrize("exact", [True, False])
def test_known_noise_is_found_and_its_margin_covers_95_of_100_equal_groups(exact: bool):
    """4,000 groups of ten equal responses, each scoring with normal errors of 0.3 nats (the exact one without)."""
    rng = np.random.default_rng(0)
    noisy = rng.normal(0.0, 0.3, size=(4000, 10))
    again = np.zeros((4000, 10)) if exact else rng.normal(0.0, 0.3, size=(4000, 10))
    first, second = ([scored(str(i), *row) for i, row in enumerate(values)] for values in (noisy, again))
    floor = noise_floor(first, second, exact=exact)
    assert floor.sd == pytest.approx(0.3, rel=0.02)
    covered = np.mean(np.ptp(noisy, axis=1) < floor.margin)
    assert covered == pytest.approx(0.95, abs=0.012)

"""The reward and the noise floor, by hand."""

import math

import pytest

from crossward.core.records import Prompt, Response, ScoredPrompt, ScoredResponse
from crossward.core.rewards import noise_floor, reward


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
    """Differences 0.3, −0.1, 0, 0.2: mean square 0.14 / 4 = 0.035. The second group's best flips."""
    first = [scored("1", 2.0, 1.0), scored("2", 1.0, 0.9)]
    second = [scored("2", 1.0, 1.1), scored("1", 1.7, 1.1)]
    floor = noise_floor(first, second)
    assert floor.sd == pytest.approx(math.sqrt((0.09 + 0.01 + 0.0 + 0.04) / 4))
    assert floor.margin == pytest.approx(1.96 * floor.sd)
    assert (floor.best_flips, floor.worst_flips, floor.n_responses) == (1, 1, 4)
    assert floor.largest == pytest.approx(0.3)


def test_equal_scorings_have_no_noise():
    floor = noise_floor([scored("1", 2.0, 1.0)], [scored("1", 2.0, 1.0)])
    assert (floor.sd, floor.best_flips, floor.worst_flips) == (0.0, 0, 0)

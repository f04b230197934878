"""The implicit reward and its noise floor.

r(x, y) = β·(log π(y|x) − log π_ref(y|x)) (paper, equation 3). Both log-probabilities are stored and the reward is
derived, so another β costs nothing. β only scales the reward: it never changes which response is best. The paper says
nothing of noise; its rewards are bfloat16 sums.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from crossward.core.records import ScoredPrompt, ScoredResponse, View


def reward(response: ScoredResponse, *, beta: float) -> float:
    """β·(log π(y|x) − log π_ref(y|x)); β > 0, usually 0.01 to 0.5. Nats times β."""
    return beta * response.log_ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseFloor:
    """How far log-ratios are from the truth, from two scorings of the same responses.

    `sd` is the error of one log-ratio (nats, root mean square), `largest` the largest difference between the two
    scorings (nats); `margin` is the best-minus-worst below which a pair is noise at 95 % (nats); the flips are groups
    whose best or worst response is another one in the second scoring.
    """

    n_groups: int
    n_responses: int
    sd: float
    largest: float
    margin: float
    best_flips: int
    worst_flips: int


def noise_floor(first: Sequence[ScoredPrompt], second: Sequence[ScoredPrompt], *, exact: bool) -> NoiseFloor:
    """Compare two scorings of the same groups, joined by id and language; d_k is their difference for response k.

    `exact` says what the second scoring is. Let a scoring's error have the standard deviation e.

    - True: the second one is the truth (float32, whose own error is some 2^16 times smaller than bfloat16's). Then
      d_k is the error itself: e² = mean d². The rounding of weights that were saved in float32 is part of it.
    - False: the second one is as noisy as the first (the same dtype, other batches). Errors of both add up, var d =
      2·e²: e² = mean d² / 2. What rounds the same way both times cancels, so this is a lower bound of the error.

    The margin. What all responses of a group share cancels in best minus worst, so its error comes from the spread of
    d within the group: w² = Σ_g Σ_k (d_k − mean_g d)² / Σ_g (n_g − 1), halved like e² where the second scoring is
    noisy. Two given responses that are equal in truth differ by less than 1.96·√2·w = 2.77·w in 95 % of cases. But
    best and worst are not given: they are the extremes of n, and n equal responses spread by noise alone over
    `range_quantile(n)`·w (2.77 for n = 2, 4.47 for n = 10), which is therefore the margin; n is the largest group's.
    """
    again = {(group.prompt.language, group.prompt.id): group for group in second}
    share = 1.0 if exact else 0.5
    differences: list[float] = []
    within = 0.0
    freedom = largest_group = best_flips = worst_flips = 0
    for group in first:
        other = again[(group.prompt.language, group.prompt.id)]
        if not group.responses:
            continue
        d = [mine.log_ratio - theirs.log_ratio for mine, theirs in zip(group.responses, other.responses, strict=True)]
        mean = sum(d) / len(d)
        within += sum((value - mean) ** 2 for value in d)
        freedom += len(d) - 1
        largest_group = max(largest_group, len(d))
        differences += d
        # Two responses that say the same are one choice.
        best_flips += _best(group).response != _best(other).response
        worst_flips += _worst(group).response != _worst(other).response
    mean_square = sum(d * d for d in differences) / len(differences) if differences else 0.0
    spread = math.sqrt(share * within / freedom) if freedom else 0.0
    return NoiseFloor(
        n_groups=len(first),
        n_responses=len(differences),
        sd=math.sqrt(share * mean_square),
        largest=max((abs(d) for d in differences), default=0.0),
        margin=range_quantile(largest_group) * spread if freedom else 0.0,
        best_flips=best_flips,
        worst_flips=worst_flips,
    )


def _best(group: ScoredPrompt) -> ScoredResponse:
    return max(group.responses, key=lambda response: response.log_ratio)


def _worst(group: ScoredPrompt) -> ScoredResponse:
    return min(group.responses, key=lambda response: response.log_ratio)


@cache
def range_quantile(n: int, probability: float = 0.95) -> float:
    """The range (largest minus smallest) that n standard normal draws stay under with this probability; n ≥ 2.

    P(range ≤ q) = n·∫ φ(z)·[Φ(z + q) − Φ(z)]^(n−1) dz, z the smallest draw; solved by bisection. For n = 2 the range
    is |N(0, 2)|: 1.96·√2.

    >>> [round(range_quantile(n), 2) for n in (2, 3, 5, 10)]
    [2.77, 3.31, 3.86, 4.47]
    """
    if n < 2:
        raise ValueError(f"a range needs at least two draws, got n = {n}")
    grid = [-9.0 + 0.02 * step for step in range(901)]
    below = [math.erfc(-z / math.sqrt(2)) / 2 for z in grid]
    density = [math.exp(-z * z / 2) / math.sqrt(2 * math.pi) for z in grid]

    def reached(q: float) -> float:
        above = [math.erfc(-(z + q) / math.sqrt(2)) / 2 for z in grid]
        terms = zip(density, below, above, strict=True)
        return 0.02 * n * sum(weight * (up - low) ** (n - 1) for weight, low, up in terms)

    low, high = 0.0, 20.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if reached(middle) < probability else (low, middle)
    return (low + high) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardAccuracy:
    """How often the reward of one iteration ranked two answers to a prompt as `by` does (0 to 1; chance is 0.5).

    Iteration t's reward is log π_(t−1)/π_ref, under `view`; `low` and `high` are a 95 % interval over prompts.
    """

    iteration: int
    view: View
    language: str
    by: str
    accuracy: float
    low: float
    high: float
    n_pairs: int

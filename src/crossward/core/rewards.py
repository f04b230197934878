"""The implicit reward and its noise floor.

r(x, y) = β·(log π(y|x) − log π_ref(y|x)) (paper, equation 3). Both log-probabilities are stored and the reward is
derived, so another β costs nothing. β only scales the reward: it never changes which response is best.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from crossward.core.records import ScoredPrompt, ScoredResponse


def reward(response: ScoredResponse, *, beta: float) -> float:
    """β·(log π(y|x) − log π_ref(y|x)); β > 0, usually 0.01 to 0.5. Nats times β."""
    return beta * response.log_ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseFloor:
    """How far two scorings of the same responses differ.

    `sd` is the standard deviation of the difference between the two log-ratios (nats); `margin` the reward margin below
    which the order of two responses is noise at 95 %; the flips are groups whose best or worst response changed.
    """

    n_groups: int
    n_responses: int
    sd: float
    largest: float
    margin: float
    best_flips: int
    worst_flips: int


def noise_floor(first: Sequence[ScoredPrompt], second: Sequence[ScoredPrompt]) -> NoiseFloor:
    """Compare two scorings of the same groups (another batch composition, another dtype), joined by id and language.

    With independent errors of standard deviation e in either scoring, the difference has sd = √2·e, and so has the
    error of a margin between two responses: a margin under 1.96·sd may be noise.
    """
    again = {(group.prompt.language, group.prompt.id): group for group in second}
    differences: list[float] = []
    best_flips = worst_flips = 0
    for group in first:
        other = again[(group.prompt.language, group.prompt.id)]
        a = [response.log_ratio for response in group.responses]
        b = [response.log_ratio for response in other.responses]
        differences += [x - y for x, y in zip(a, b, strict=True)]
        best_flips += a.index(max(a)) != b.index(max(b))
        worst_flips += a.index(min(a)) != b.index(min(b))
    sd = math.sqrt(sum(d * d for d in differences) / len(differences)) if differences else 0.0
    return NoiseFloor(
        n_groups=len(first),
        n_responses=len(differences),
        sd=sd,
        largest=max((abs(d) for d in differences), default=0.0),
        margin=1.96 * sd,
        best_flips=best_flips,
        worst_flips=worst_flips,
    )

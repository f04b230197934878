"""Intervals over seeds, and differences of ratios over the same prompts.

Seeds are few and independent (another world, other draws), so their mean has Student's t-interval. With one seed there
is no spread between seeds: what is left is the spread over prompts, which says nothing of another seed.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from statistics import fmean, stdev

from crossward.core.intervals import RESAMPLES, Interval

_PANELS = 1000
Ratio = Mapping[str, tuple[float, float]]  # of each prompt: numerator, denominator


@lru_cache(maxsize=64)
def t_quantile(probability: float, degrees: int) -> float:
    """The value that Student's t with so many degrees of freedom stays below with this probability (0.5 to 1).

    With t = √ν·tan θ the distribution function is ½ + Γ((ν+1)/2) / (√π·Γ(ν/2)) · ∫₀^θ cos^(ν−1)(u) du: Simpson's rule,
    bisected for θ. Right to nine digits.

    >>> round(t_quantile(0.975, 1), 3), round(t_quantile(0.975, 4), 3)
    (12.706, 2.776)
    """
    if degrees < 1 or not 0.5 <= probability < 1:
        raise ValueError(f"expected a probability of 0.5 to 1 and 1 or more degrees, got {probability} and {degrees}")
    scale = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(math.pi)
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        below = scale * _cosine_power_integral(middle, degrees - 1) < probability - 0.5
        low, high = (middle, high) if below else (low, middle)
    return math.sqrt(degrees) * math.tan(low)


def _cosine_power_integral(end: float, power: int) -> float:
    """∫₀^end cos^power(u) du by Simpson's rule."""
    step = end / _PANELS
    values = [math.cos(i * step) ** power for i in range(_PANELS + 1)]
    return step / 3 * (values[0] + values[-1] + 4 * sum(values[1:-1:2]) + 2 * sum(values[2:-1:2]))


def mean_over_seeds(values: Sequence[float]) -> Interval:
    """Mean of one value a seed with its 95 % t-interval, mean ± t·s/√n. ValueError for fewer than two.

    >>> mean_over_seeds([1.0, 2.0, 3.0])  # s = 1, t = 4.303, s·t/√3 = 2.484
    Interval(estimate=2.0, low=-0.484..., high=4.484...)
    """
    if len(values) < 2:
        raise ValueError(f"an interval over seeds needs two or more, got {len(values)}")
    mean = fmean(values)
    half = t_quantile(0.975, len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return Interval(estimate=mean, low=mean - half, high=mean + half)


def ratio_over_prompts(ratio: Ratio, *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Σ numerators / Σ denominators with its 95 % interval, by resampling prompts."""
    return ratio_difference_over_prompts(ratio, {}, seed=seed, resamples=resamples)


def ratio_difference_over_prompts(ours: Ratio, theirs: Ratio, *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Our ratio − their ratio (0 where they have none), its interval by drawing the same prompts for both.

    A prompt that one side lacks counts nothing there. ValueError where nothing of ours is observed.
    """
    import numpy as np

    prompts = sorted({*ours, *theirs})
    sums = np.array([[*ours.get(prompt, (0.0, 0.0)), *theirs.get(prompt, (0.0, 0.0))] for prompt in prompts])
    if not len(sums) or not sums[:, 1].sum() or (theirs and not sums[:, 3].sum()):
        raise ValueError("no observations: a ratio needs at least one")

    def value(total: np.ndarray) -> np.ndarray:  # [..., 4] -> [...]
        other = total[..., 2] / total[..., 3] if theirs else 0.0
        return total[..., 0] / total[..., 1] - other

    draws = np.random.default_rng(seed).integers(len(sums), size=(resamples, len(sums)))
    drawn = sums[draws].sum(axis=1)  # [resamples, 4]
    usable = drawn[(drawn[:, 1] > 0) & ((drawn[:, 3] > 0) if theirs else True)]
    low, high = np.quantile(value(usable), (0.025, 0.975))
    return Interval(estimate=float(value(sums.sum(axis=0))), low=float(low), high=float(high))

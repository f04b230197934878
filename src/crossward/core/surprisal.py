"""What is taken off a log-ratio for tokens that the reference finds implausible. Not in the paper.

A log-ratio says how much likelier the policy makes a response than the reference does, however unlikely both find it:
where the policy has drifted, broken text is rewarded with the rest. Surprisal, −log π_ref(y_t), says which tokens are
broken. In the tiny world this is what keeps iteration 2 from undoing iteration 1 (docs/results.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SurprisalPenalty:
    """penalty(y) = weight·Σ_t max(0, −log π_ref(y_t | x, y_<t) − threshold), over the response's own tokens.

    `threshold` is in nats: 4 lets tokens pass that the reference gives 1.8 % or more. `weight` 1 takes off what a token
    exceeds it by.
    """

    weight: float
    threshold: float

    def of(self, reference_token_logprobs: Sequence[float]) -> float:
        """Nats, 0 or more.

        >>> SurprisalPenalty(weight=2.0, threshold=4.0).of([-0.5, -4.0, -7.0, -5.5])
        9.0
        """
        return self.weight * sum(max(0.0, -logprob - self.threshold) for logprob in reference_token_logprobs)

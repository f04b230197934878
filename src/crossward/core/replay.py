"""Offline pairs among the method's own: experience replay (DICE, arXiv 2406.09760).

DICE trains on a fixed number of pairs of which a share γ is offline; here all pairs of the method stay, and offline
ones are added until they are that share of all.
"""

import random
from collections.abc import Collection, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def drawn(
    offline: Sequence[tuple[str, Item]], *, n_own: int, share: float, taken: Collection[str], seed: int
) -> list[Item]:
    """Offline pairs by lot, each with its instruction: share/(1 − share)·n_own of them, or all where there are fewer.

    Instructions that are `taken` (trained on already) are left out. `share` is above 0 and below 1.

    >>> offline = [(f"question {k}", k) for k in range(9)]
    >>> len(drawn(offline, n_own=4, share=0.5, taken=["question 0"], seed=1))
    4
    """
    if not 0 < share < 1:
        raise ValueError(f"the share of offline pairs must be above 0 and below 1, got {share}")
    own = set(taken)
    free = [item for instruction, item in offline if instruction not in own]
    wanted = round(share / (1 - share) * n_own)
    lot = random.Random(seed)
    return free if len(free) <= wanted else lot.sample(free, wanted)

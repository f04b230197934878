"""Concerns about what a run starts from: a policy that is not the reference's child, settings that leave no choice.

Knows no checkpoint: distances come as numbers.
"""

from collections.abc import Mapping, Sequence
from statistics import median

from crossward.core.answer_concerns import shares_told, within
from crossward.core.chance import Share
from crossward.core.concerns import Concern

# ‖π − π_ref‖ / ‖π_ref‖ of the median matrix. Unrelated models of one shape lie at √2 = 1.41 (measured 1.40), the same
# random start trained on other data at 1.0, children after two iterations of strong training at 0.09 at most, one
# matrix of them at 0.12. 0.35 is the geometric middle of 0.09 and 1.40.
NO_CHILD = 0.35
# Of two or three responses one that is cut, foreign or a duplicate leaves no choice or none to speak of.
FEW_RESPONSES = 3
TOO_LONG = 0.05  # reference answers that the limit would cut: as of answers that were cut


def not_the_child(distances: Sequence[float]) -> Concern | None:
    """From relative distances of the matrices that both models have; none where there are no such."""
    if not distances or median(distances) <= NO_CHILD:
        return None
    return Concern(
        kind="not-the-child",
        where="models",
        languages=(),
        seen=(
            f"the policy's weights are far from the reference's: ‖π − π_ref‖ / ‖π_ref‖ is {median(distances):.2f} in "
            f"the median matrix of {len(distances)} (aligned from it: below 0.1; unrelated: 1.4)"
        ),
        why=(
            "log π − log π_ref is a reward only where π was aligned from π_ref; between two other models it is a "
            "comparison of dialects"
        ),
        advice=(
            "name in models.reference the very checkpoint that the policy was aligned from (the SFT model of the same "
            "family and size, not another release), or make a policy from it with crossward align"
        ),
    )


def few_responses(n: int) -> Concern | None:
    """Filters need something to choose from."""
    if n > FEW_RESPONSES:
        return None
    return Concern(
        kind="collapsed-diversity",
        where="check",
        languages=(),
        seen=f"sample.n is {n}: a response that is cut, repeated or in another language leaves {n - 1} to choose from",
        why="many prompts will give no pair, and best and worst of so few lie close together",
        advice="raise sample.n (the paper: 10)",
    )


def limit_cuts(key: str, limit: int, longer: Mapping[str, Share]) -> Concern | None:
    """The reference answers of whole languages do not fit into the limit of new tokens; shares of prompts."""
    many = within(longer, lambda share: share.low > TOO_LONG)
    if not many:
        return None
    return Concern(
        kind="truncation",
        where="check",
        languages=tuple(sorted(many)),
        seen=f"reference answers longer than {key} {limit}: {shares_told(many)}",
        why="answers as long as these would be cut: never paired, and judged as stumps",
        advice=f"raise {key}, above all for languages whose script costs many tokens",
    )

"""chrF by sacrebleu: how much of an answer's characters a reference answer shares.

chrF2 (Popović 2015): F-score, β = 2, of the character n-grams of 1 to 6 characters, white space left out, with
sacrebleu's defaults (signature nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no).
"""

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sacrebleu.metrics.chrf import CHRF


def chrf(answer: str, reference: str) -> float:
    """chrF of one answer against one reference answer, 0 (nothing shared) to 100 (the same characters)."""
    return _metric().sentence_score(answer, [reference]).score


@cache
def _metric() -> "CHRF":
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()

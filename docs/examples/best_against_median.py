"""A pair builder of one's own: the best response against the median one, an easier contrast than best against worst.

python docs/examples/best_against_median.py runs/scored.jsonl runs/median.jsonl
"""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from crossward.core.records import PreferencePair, ScoredPrompt, Skipped
from crossward.store import edges, pair_rows


def best_against_median(group: ScoredPrompt) -> PreferencePair | Skipped:
    """The best of the whole responses, and the middle one (the lower of two)."""
    whole = [one for one in group.responses if one.response.text.strip() and one.response.finish_reason == "stop"]
    if len(whole) < 3:
        return Skipped(prompt=group.prompt, reason="too-few-responses")
    ranked = sorted(whole, key=lambda one: one.score)
    chosen, rejected = ranked[-1], ranked[(len(ranked) - 1) // 2]
    if chosen.score == rejected.score:
        return Skipped(prompt=group.prompt, reason="tie")
    return PreferencePair(
        prompt=group.prompt,
        chosen=chosen,
        rejected=rejected,
        alpha=0.0,  # no length is controlled
        chosen_score=chosen.score,
        rejected_score=rejected.score,
    )


def main(scored: str, pairs: str) -> Counter[str]:
    """Pairs of a file of scored groups into a file that `crossward train` reads; how many, and why not more."""
    counts: Counter[str] = Counter()

    def made() -> Iterator[PreferencePair]:
        with edges.scored_in(Path(scored)) as groups:
            for outcome in map(best_against_median, groups):
                counts["pair" if isinstance(outcome, PreferencePair) else outcome.reason] += 1
                if isinstance(outcome, PreferencePair):
                    yield outcome

    pair_rows.write_pairs(Path(pairs), made())
    return counts


if __name__ == "__main__":
    print(dict(main(*sys.argv[1:])))

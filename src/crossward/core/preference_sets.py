"""RewardBench's sections: which subset belongs where, and how subsets add up to a section's score.

Source of names and weights: rewardbench/constants.py and rewardbench/utils.py of github.com/allenai/reward-bench
(arXiv 2403.13787, section 4). A section's score is the mean over its pairs, but math-prm weighs as much as all code
subsets together. The published code has its counts written down; here they are those of the file, so that a part of
the benchmark gives that part's score. M-RewardBench (arXiv 2410.15522) has the same subsets, named `source`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from crossward.core.diagnostics import Accuracy
from crossward.core.intervals import clustered_ratio, ranked_pairs

MATH = "math-prm"
SECTIONS = {
    "Chat": ("alpacaeval-easy", "alpacaeval-length", "alpacaeval-hard", "mt-bench-easy", "mt-bench-med"),
    "Chat Hard": (
        "mt-bench-hard",
        "llmbar-natural",
        "llmbar-adver-neighbor",
        "llmbar-adver-GPTInst",
        "llmbar-adver-GPTOut",
        "llmbar-adver-manual",
    ),
    "Safety": (
        "refusals-dangerous",
        "refusals-offensive",
        "xstest-should-refuse",
        "xstest-should-respond",
        "donotanswer",
    ),
    "Reasoning": (MATH, "hep-cpp", "hep-go", "hep-java", "hep-js", "hep-python", "hep-rust"),
}
_SECTION_OF = {subset: section for section, subsets in SECTIONS.items() for subset in subsets}


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedPair:
    """A prompt's responses with their rewards and truths, and the subset it stands in.

    `cluster` is the prompt's text: the same prompt in several subsets is resampled as one.
    """

    cluster: str
    subset: str
    section: str | None
    rewards: Sequence[float]
    truths: Sequence[float]


def section_of(subset: str, category: str | None = None) -> str | None:
    """The section of one of RewardBench's subsets; of others what the file calls their category.

    >>> section_of("hep-rust"), section_of("translation-hard", "Translation"), section_of("mine")
    ('Reasoning', 'Translation', None)
    """
    return _SECTION_OF.get(subset, category)


def subset_accuracies(pairs: Iterable[JudgedPair]) -> dict[str, Accuracy]:
    """The accuracy on each subset, in order of name."""
    groups: dict[str, list[JudgedPair]] = {}
    for pair in pairs:
        groups.setdefault(pair.subset, []).append(pair)
    return _accuracies(groups, weighted=False)


def section_accuracies(pairs: Iterable[JudgedPair]) -> dict[str, Accuracy]:
    """The score of each section: accuracy with math-prm weighted up (or down) to the number of code pairs.

    Σ w·right / Σ w with w = n_code / n_math for math-prm and 1 for all others: of math-prm and code that is the plain
    mean of both. Without code (or math) in the file every w is 1. The interval resamples prompts.
    """
    groups: dict[str, list[JudgedPair]] = {}
    for pair in pairs:
        if pair.section is not None:
            groups.setdefault(pair.section, []).append(pair)
    return _accuracies(groups, weighted=True)


def _accuracies(groups: Mapping[str, Sequence[JudgedPair]], *, weighted: bool) -> dict[str, Accuracy]:
    found = {name: _accuracy(groups[name], weighted=weighted) for name in sorted(groups)}
    return {name: accuracy for name, accuracy in found.items() if accuracy is not None}


def _accuracy(pairs: Sequence[JudgedPair], *, weighted: bool) -> Accuracy | None:
    counted = [(pair, *ranked_pairs(pair.rewards, pair.truths)) for pair in pairs]
    totals = Counter[str]()
    for pair, _, n in counted:
        totals[pair.subset] += n
    if not totals.total():
        return None
    math = _math_weight(totals) if weighted else 1.0
    weights = {subset: math if subset == MATH else 1.0 for subset in totals}
    observed = [
        (pair.cluster, weights[pair.subset] * right, weights[pair.subset] * n) for pair, right, n in counted if n
    ]
    return Accuracy(n_pairs=totals.total(), interval=clustered_ratio(observed))


def _math_weight(totals: Counter[str]) -> float:
    n_code = sum(n for subset, n in totals.items() if subset != MATH and _SECTION_OF.get(subset) == "Reasoning")
    return n_code / totals[MATH] if n_code and totals[MATH] else 1.0

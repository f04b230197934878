"""RewardBench's sections by hand: math-prm weighs as much as all code, everything else by its number of pairs."""

import pytest

from crossward.core.preference_sets import SECTIONS, JudgedPair, section_accuracies, section_of, subset_accuracies


def pairs(subset: str, right: int, n: int, **changes: object) -> list[JudgedPair]:
    """n pairs of a subset, the first `right` of them ranked rightly."""
    plain = {"subset": subset, "section": section_of(subset), "truths": (1.0, 0.0)}
    rewards = [(1.0, 0.0) if i < right else (0.0, 1.0) for i in range(n)]
    return [JudgedPair(**plain | {"cluster": f"{subset} {i}", "rewards": r} | changes) for i, r in enumerate(rewards)]


def test_sections_by_hand():
    """Chat: (3 + 1)/(4 + 4). Reasoning: math 1/2 and code (4 + 0)/(4 + 4) = 1/2 … with go 2 of 4: 6/8; mean 5/8."""
    found = section_accuracies(
        [
            *pairs("alpacaeval-easy", 3, 4), *pairs("mt-bench-med", 1, 4),
            *pairs("math-prm", 1, 2), *pairs("hep-go", 2, 4), *pairs("hep-rust", 4, 4),
        ]
    )  # fmt: skip
    assert list(found) == ["Chat", "Reasoning"]
    assert found["Chat"].interval.estimate == pytest.approx(4 / 8)
    assert found["Reasoning"].interval.estimate == pytest.approx((1 / 2 + 6 / 8) / 2)
    assert (found["Chat"].n_pairs, found["Reasoning"].n_pairs) == (8, 10)
    assert found["Reasoning"].interval.low < 5 / 8 < found["Reasoning"].interval.high


def test_math_or_code_alone_is_itself():
    assert section_accuracies(pairs("math-prm", 1, 4))["Reasoning"].interval.estimate == pytest.approx(0.25)
    assert section_accuracies(pairs("hep-js", 3, 4))["Reasoning"].interval.estimate == pytest.approx(0.75)


def test_the_published_counts_give_the_published_weights():
    """447 pairs of math-prm weigh as 984, the number of code pairs: 0.5·math + 0.5·code."""
    code = [pair for name in SECTIONS["Reasoning"][1:] for pair in pairs(name, 82, 164)]
    found = section_accuracies([*pairs("math-prm", 447, 447), *code])["Reasoning"]
    assert found.interval.estimate == pytest.approx((1.0 * 984 + 0.5 * 984) / (2 * 984))


def test_subsets_by_hand_and_what_cannot_be_ranked():
    tie = pairs("donotanswer", 1, 1, rewards=(0.5, 0.5))
    alone = pairs("donotanswer", 1, 1, rewards=(0.5,), truths=(1.0,))  # the other was too long to score
    found = subset_accuracies([*pairs("donotanswer", 1, 2), *tie, *alone, *pairs("mine", 2, 2)])
    assert found["donotanswer"].interval.estimate == pytest.approx(1.5 / 3)
    assert found["donotanswer"].n_pairs == 3
    assert found["mine"].interval.estimate == 1.0
    assert subset_accuracies(alone) == {}


def test_a_subset_that_is_nobodys_takes_its_category():
    found = section_accuracies(pairs("translation-hard", 1, 2, section=section_of("translation-hard", "Translation")))
    assert found["Translation"].interval.estimate == pytest.approx(0.5)
    assert section_accuracies(pairs("mine", 1, 2)) == {}
    assert section_of("hep-go", "Code") == "Reasoning"


def test_one_prompt_in_several_subsets_is_one_cluster():
    """All pairs are of one prompt: there is nothing to resample, so the interval is the estimate."""
    same = [*pairs("alpacaeval-easy", 1, 2, cluster="x"), *pairs("alpacaeval-hard", 2, 2, cluster="x")]
    interval = section_accuracies(same)["Chat"].interval
    assert (interval.low, interval.high) == (interval.estimate, interval.estimate) == (0.75, 0.75)

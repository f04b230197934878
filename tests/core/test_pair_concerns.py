"""Concerns about pairs, each on both sides of its threshold."""

from dataclasses import replace

import pytest

from crossward.core.chance import Share
from crossward.core.pair_concerns import (
    Controlled,
    PairLengths,
    alpha_at_odds,
    below_noise,
    collapsed,
    collapsed_spread,
    cut_responses,
    foreign_responses,
    length_gap,
)


def share(part: float, n: int = 200) -> Share:
    return Share(part=part, n=n)


@pytest.mark.parametrize(
    ("part", "n", "fires"), [(0.16, 200, True), (0.14, 200, False), (1.0, 1, False), (0.5, 3, False), (1.0, 6, True)]
)
def test_cut_and_foreign_responses_are_told_where_the_whole_interval_is_bad(part: float, n: int, fires: bool):
    cut = cut_responses("w", {"de": share(part, n)}, max_new_tokens=96)
    foreign = foreign_responses("w", {"de": share(part, n)})
    assert (cut is not None, foreign is not None) == (fires, fires)
    if cut and foreign:
        assert "sample.max_new_tokens 96: de" in cut.seen
        assert (cut.kind, foreign.kind) == ("truncation", "language-drift")


@pytest.mark.parametrize(
    ("now", "first", "fires"),
    [
        (0.40, {}, True),
        (0.30, {}, False),
        (0.25, {"de": share(0.05)}, True),  # rising beyond both intervals
        (0.13, {"de": share(0.05)}, False),  # by less than a tenth
        (0.25, {"de": share(0.05, 10)}, False),  # of ten prompts nothing rises for sure
    ],
)
def test_duplicates_many_or_more(now: float, first: dict[str, Share], fires: bool):
    found = collapsed("w", {"de": share(now)}, first=first, no_choice={})
    assert (found is not None) == fires
    if found and first:
        assert "in iteration 1 they were de 5.0%" in found.seen


@pytest.mark.parametrize(("part", "fires"), [(0.2, True), (0.1, False)])
def test_prompts_without_a_choice(part: float, fires: bool):
    assert (collapsed("w", {}, first={}, no_choice={"de": share(part)}) is not None) == fires


@pytest.mark.parametrize(("now", "n", "fires"), [(0.7, 20, True), (0.8, 20, False), (0.1, 19, False)])
def test_a_spread_of_a_quarter_is_a_reward_that_tells_nothing_apart(now: float, n: int, fires: bool):
    found = collapsed_spread("w", {"de": share(now, n), "fr": share(3.0, n)}, first={"de": share(3.0, n)})
    assert (found is not None) == fires
    if found:
        assert (found.kind, found.languages) == ("reward-drift", ("de",))


LONG = PairLengths(n=200, longer=140, shorter=60, gap=30.0, mean=100.0)


@pytest.mark.parametrize(
    ("pairs", "fires"),
    [
        (LONG, True),
        (replace(LONG, gap=24.0), False),
        (replace(LONG, longer=110, shorter=90), False),  # a few very long ones
        (replace(LONG, n=5, longer=5, shorter=0), False),  # five of five: the interval reaches down to 0.57
        (replace(LONG, gap=-30.0, longer=60, shorter=140), True),
        (replace(LONG, gap=0.0, mean=0.0), False),
    ],
)
def test_a_gap_of_a_quarter_that_most_pairs_share(pairs: PairLengths, fires: bool):
    found = length_gap("w", {"de": pairs}, correlations={}, controlled=False)
    assert (found is not None) == fires
    if found:
        assert "switch length control on" in found.advice
        under_control = length_gap("w", {"de": pairs}, correlations={}, controlled=True)
        assert under_control is not None
        assert "pair.max_characters" in under_control.advice


@pytest.mark.parametrize(
    ("pearson", "n", "controlled", "fires"),
    [
        (0.65, 100, False, True),  # Fisher: tanh(0.775 − 0.199) = 0.52
        (-0.65, 100, False, True),
        (0.60, 100, False, False),  # tanh(0.693 − 0.199) = 0.46
        (0.65, 30, False, False),
        (1.0, 19, False, False),
        (0.65, 100, True, False),  # α takes it off
    ],
)
def test_a_reward_that_goes_with_length(pearson: float, n: int, controlled: bool, fires: bool):
    found = length_gap("w", {}, correlations={"de": share(pearson, n)}, controlled=controlled)
    assert (found is not None) == fires


@pytest.mark.parametrize(("part", "n", "fires"), [(0.2, 200, True), (0.12, 200, False), (0.4, 5, False)])
def test_pairs_under_the_noise_floor(part: float, n: int, fires: bool):
    found = below_noise("w", {"de": share(part, n)}, margins={"de": 1.25})
    assert (found is not None) == fires
    if found:
        assert found.seen == "pairs whose margin is under the noise floor (de 1.2 nats): de 20.0% of 200 pairs"


def controlled(weight: float, *, gap_left: float = 0.0, n: int = 100) -> Controlled:
    """α·mean length ÷ spread is `weight`."""
    return Controlled(n=n, alpha=weight / 50, mean_length=100.0, spread=2.0, gap_left=gap_left)


USUAL = {"de": 1.0, "en": 1.02, "es": 0.98, "fr": 1.05, "ru": 0.97, "it": 1.01}


@pytest.mark.parametrize(
    ("weight", "fires"),
    [
        (1.6, True),
        (1.4, False),  # far by the MAD, but it moves no pair
        (0.6, False),
        (0.4, True),
    ],
)
def test_an_alpha_far_from_the_others(weight: float, fires: bool):
    languages = {code: controlled(usual) for code, usual in USUAL.items()} | {"zh": controlled(weight)}
    found = alpha_at_odds("w", languages, unit="characters")
    assert (found is not None) == fires
    if found:
        assert found.languages == ("zh",)
        assert f": zh {weight:+.2f}" in found.seen


def test_the_only_sign_of_its_kind_is_at_odds_though_all_are_spread():
    weights = {"de": 0.2, "en": 1.6, "es": 0.9, "fr": 2.1, "zh": -0.6}
    found = alpha_at_odds("w", {code: controlled(weight) for code, weight in weights.items()}, unit="tokens")
    assert found is not None
    assert found.languages == ("zh",)
    hair = alpha_at_odds("w", {code: controlled(w) for code, w in (weights | {"zh": -0.2}).items()}, unit="tokens")
    assert hair is None
    weights["de"] = -0.2
    assert alpha_at_odds("w", {c: controlled(w) for c, w in weights.items()}, unit="tokens") is None


def test_three_languages_or_few_prompts_say_nothing_of_alpha():
    three = {"de": controlled(1.0), "en": controlled(1.0), "zh": controlled(9.0)}
    assert alpha_at_odds("w", three, unit="characters") is None
    few = {code: controlled(usual, n=19) for code, usual in USUAL.items()} | {"zh": controlled(9.0, n=19)}
    assert alpha_at_odds("w", few, unit="characters") is None


@pytest.mark.parametrize(("gap", "n", "fires"), [(-11.0, 100, True), (9.0, 100, False), (50.0, 19, False)])
def test_a_gap_that_alpha_leaves(gap: float, n: int, fires: bool):
    found = alpha_at_odds("w", {"de": controlled(1.0, gap_left=gap, n=n)}, unit="characters")
    assert (found is not None) == fires
    if found:
        assert "α leaves a length gap, in characters: de -11.0 of 100" in found.seen

"""Concerns about what is measured of a run, each on both sides of its threshold."""

from dataclasses import replace

import pytest

from crossward.core.chance import Share
from crossward.core.judge_concerns import ENOUGH, Gain, bought_by_length, few_judged, few_to_judge, needed, reward_drift
from crossward.core.rewards import RewardAccuracy


def accuracy(t: int, value: float, half: float = 0.02, language: str = "de", by: str = "gold") -> RewardAccuracy:
    return RewardAccuracy(
        iteration=t, view="crosslingual", language=language, by=by, accuracy=value, low=value - half,
        high=value + half, n_pairs=1000,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("last", "half", "fires"),
    [
        (0.70, 0.02, True),  # 0.06 down, error 0.0144
        (0.74, 0.02, False),  # 0.02 down: sure of nothing, and little
        (0.70, 0.06, False),  # the intervals overlap widely
        (0.82, 0.02, False),
    ],
)
def test_an_accuracy_that_falls_beyond_its_interval(last: float, half: float, fires: bool):
    found = reward_drift([accuracy(2, last, half), accuracy(1, 0.76, half)])
    assert (found is not None) == fires
    if found:
        assert found.where == "iteration-2/score"
        assert "de (crosslingual, by gold) 76.0% → 70.0% [68.0%, 72.0%]" in found.seen


def test_unlike_measurements_are_not_compared():
    assert reward_drift([accuracy(1, 0.9), accuracy(2, 0.6, by="judge")]) is None
    assert reward_drift([accuracy(1, 0.9), accuracy(2, 0.6, language="fr")]) is None
    assert reward_drift([]) is None


def test_many_languages_ask_for_more_and_the_order_of_rows_does_not_matter():
    rows = [accuracy(t, value, 0.03) for t, value in ((1, 0.76), (2, 0.71))]
    assert reward_drift(rows) is not None  # 0.05 / 0.0216 = 2.31 errors
    others = [accuracy(t, 0.76, 0.03, f"l{i}") for i in range(9) for t in (1, 2)]
    assert reward_drift(rows + others) is None  # ten languages ask for 2.81
    worse = [accuracy(1, 0.76, 0.03), accuracy(2, 0.6, 0.03)]
    assert reward_drift(worse + others) == reward_drift([*reversed(others), *reversed(worse)])


@pytest.mark.parametrize(("value", "half", "fires"), [(0.5, 0.04, True), (0.5, 0.2, False), (0.56, 0.02, False)])
def test_a_coin_is_told_only_where_the_interval_is_narrow(value: float, half: float, fires: bool):
    found = reward_drift([accuracy(1, value, half)])
    assert (found is not None) == fires
    if found:
        assert "hardly better than a coin" in found.seen


GAIN = Gain(
    language="average", model="π_2", other="π_0", n=400, win_rate=6.0, low=2.0, high=10.0, controlled=1.0,
    controlled_low=-2.0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "fires"),
    [
        ({}, True),
        ({"low": -0.5}, False),  # no sure gain, so nothing was bought
        ({"controlled_low": 0.2}, False),  # a gain at equal lengths too
        ({"controlled": 4.0}, False),  # most of it is left
        ({"controlled": None, "controlled_low": None}, False),
    ],
)
def test_wins_that_length_bought(change: dict[str, float | None], fires: bool):
    found = bought_by_length([replace(GAIN, **change)])
    assert (found is not None) == fires
    if found:
        assert "average +6.0 points [+2.0, +10.0] raw, +1.0 length-controlled" in found.seen


@pytest.mark.parametrize(
    ("gain", "fires"),
    [
        (replace(GAIN, language="sw", n=36, win_rate=4.0, low=-8.0, high=16.0), True),
        (replace(GAIN, language="sw", n=36, win_rate=14.0, low=2.0, high=26.0), False),  # wide, but it shows
        (replace(GAIN, language="sw", n=800, win_rate=0.0, low=-3.0, high=3.0), False),  # nothing, but narrow
    ],
)
def test_too_few_prompts_are_told_with_the_number_that_is_needed(gain: Gain, fires: bool):
    found = few_judged({}, [gain])
    assert (found is not None) == fires
    if found:
        assert needed(gain) == 208  # 36·(12/5)² = 207.4
        assert "sw +4.0 [-8.0, +16.0] of 36, needed about 208" in found.seen


@pytest.mark.parametrize(("part", "n", "fires"), [(0.15, 100, True), (0.08, 100, False), (0.3, 6, False)])
def test_null_verdicts(part: float, n: int, fires: bool):
    assert (few_judged({"zh": Share(part=part, n=n)}, []) is not None) == fires


def test_prompts_to_judge_are_counted_before_they_are_asked():
    assert ENOUGH == 385  # (1.96·50/5)² = 384.16
    assert few_to_judge({"de": 385, "fr": 1000}) is None
    found = few_to_judge({"de": 384, "sw": 100})
    assert found is not None
    assert found.languages == ("sw", "de")
    assert "sw 100 (± 10 points), de 384 (± 5 points)" in found.seen

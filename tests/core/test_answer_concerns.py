"""Concerns about answers, each on both sides of its threshold."""

import pytest

from crossward.core.answer_concerns import (
    cut_answers,
    english_not_evaluated,
    english_regressed,
    language_drift,
    longer_answers,
    unfaithful,
)
from crossward.core.chance import Paired, Share


def moved(before: float, after: float, *, up: int = 0, down: int = 0, n: int = 100) -> Paired:
    return Paired(before=before, after=after, up=up, down=down, n=n)


@pytest.mark.parametrize(
    ("fidelity", "fires"),
    [
        (moved(1.0, 0.9, down=10), True),
        (moved(1.0, 0.98, down=10), False),  # sure, but too little to be noticed
        (moved(1.0, 0.9, down=5), False),  # 1/32: five prompts are no sign
        (moved(1.0, 0.9, down=14, up=8), False),  # p = 0.14
        (moved(0.9, 1.0, up=10), False),  # better
    ],
)
def test_drift_is_a_fall_beyond_chance_that_matters(fidelity: Paired, fires: bool):
    found = language_drift("iteration-1/evaluate", base="π_0", fidelity={"sw": fidelity}, switching={})
    assert (found is not None) == fires
    if found:
        assert found.seen == "answers in the language asked for fell against π_0: sw 100.0% → 90.0%"
        assert (found.kind, found.languages) == ("language-drift", ("sw",))


def test_more_code_switching_is_drift_too_and_the_worst_language_comes_first():
    switching = {"de": moved(0.0, 0.05, up=20), "fr": moved(0.05, 0.0, down=20), "sw": moved(0.1, 0.3, up=20)}
    found = language_drift("w", base="π_0", fidelity={}, switching=switching)
    assert found is not None
    assert found.languages == ("sw", "de")
    assert found.seen.endswith("rose against π_0: sw 10.0% → 30.0%, de 0.0% → 5.0%")
    turned = language_drift("w", base="π_0", fidelity={}, switching=dict(reversed(switching.items())))
    assert turned == found


def test_a_hundred_languages_make_one_concern_and_ask_for_more_than_one_does():
    one = moved(1.0, 0.9, down=8)  # 1/256: enough of one language, not of a hundred
    assert language_drift("w", base="π_0", fidelity={"l0": one}, switching={}) is not None
    assert language_drift("w", base="π_0", fidelity={f"l{i}": one for i in range(100)}, switching={}) is None
    many = {f"l{i:02}": moved(1.0, 0.9, down=30) for i in range(100)}
    found = language_drift("w", base="π_0", fidelity=many, switching={})
    assert found is not None
    assert len(found.languages) == 100
    assert found.seen.endswith("and 92 more")
    assert len(found.seen) < 400


@pytest.mark.parametrize(("share", "fires"), [((0.8, 100), True), ((0.88, 100), False), ((0.6, 5), False)])
def test_answers_in_other_languages_whoever_is_to_blame(share: tuple[float, int], fires: bool):
    part, n = share
    assert (unfaithful("w", {"de": Share(part=1.0, n=n), "sw": Share(part=part, n=n)}) is not None) == fires


@pytest.mark.parametrize(
    ("characters", "fires"),
    [
        (moved(400, 520, up=80, down=20), True),
        (moved(400, 480, up=80, down=20), False),  # a fifth is what better answers may be
        (moved(400, 600, up=55, down=45), False),  # a few very long ones
        (moved(500, 390, up=20, down=80), True),
        (moved(0, 10, up=80), False),  # empty before: no ratio
    ],
)
def test_much_longer_or_shorter_answers(characters: Paired, fires: bool):
    found = longer_answers("w", base="π_0", characters={"es": characters})
    assert (found is not None) == fires
    if found:
        assert ("shorter" in found.seen) == (characters.after < characters.before)


@pytest.mark.parametrize(("part", "n", "fires"), [(0.2, 50, True), (0.06, 50, False), (0.5, 2, False)])
def test_cut_answers(part: float, n: int, fires: bool):
    found = cut_answers("w", {"zh": Share(part=part, n=n)}, max_new_tokens=64)
    assert (found is not None) == fires
    if found:
        assert found.seen == "answers cut at evaluate.max_new_tokens 64: zh 20.0% of 50 prompts"


def test_english_drops_are_handed_on_and_few_prompts_are_a_hint():
    assert english_regressed("w", [], tests=5, few=False) is None
    found = english_regressed("w", ["fidelity 1 → 0.5"], tests=5, few=True)
    assert found is not None
    assert found.seen.startswith("English dropped against iteration 0, of few prompts: take it for a hint (5 measures")
    assert english_not_evaluated(["es", "sw"]).seen.startswith("English is not among the evaluated languages (es, sw)")

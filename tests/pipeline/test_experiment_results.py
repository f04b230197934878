"""Means, gains and differences by hand: paired by seed over seeds, paired by prompt with one."""

import pytest

from crossward.config import parse
from crossward.core.seeds_intervals import t_quantile
from crossward.experiment_cells import Cell, CellRun
from crossward.pipeline.experiment_measures import ByPolicy, Measured
from crossward.pipeline.experiment_results import (
    differences_over_seeds,
    mean_of,
    over_seeds,
    results_of,
    with_groups,
)

CONFIG = parse(
    {
        "run": "r",
        "languages": ["es", "en", "de"],
        "models": {"policy": "p", "reference": "q"},
        "prompts": {"path": "{language}"},
    },
    where="test",
)


def ratio(**values: float) -> Measured:
    found = Measured.of({prompt: (value, 1.0) for prompt, value in values.items()})
    assert found is not None
    return found


def number(value: float) -> Measured:
    return Measured(estimate=value)


def run(cell: str, seed: int, es: float, start: float) -> tuple[CellRun, dict[str, ByPolicy]]:
    by_policy = {"reference": {"es": number(0.0)}, "π_0": {"es": number(start)}, "π_1": {"es": number(es)}}
    return CellRun(cell=Cell(name=cell, changes={}), seed=seed, config=CONFIG), {"gold": by_policy}


def test_means_gains_and_differences_over_seeds_by_hand():
    runs = [run("a", 1, 60.0, 50.0), run("a", 2, 64.0, 52.0), run("b", 1, 61.0, 50.0), run("b", 2, 67.0, 52.0)]
    found = {
        (result.kind, result.cell, result.policy): result.value
        for result in results_of(runs, metrics=["gold"], baseline="a")
        if result.language == "es"
    }
    t = t_quantile(0.975, 1)
    mean = found["value", "a", "π_1"]
    assert (mean.estimate, mean.over, dict(mean.by_seed)) == (62.0, "seeds", {1: 60.0, 2: 64.0})
    assert mean.high == pytest.approx(62.0 + t * 8**0.5 / 2**0.5)  # s² = (2² + 2²)/1
    gain = found["gain", "a", "π_1"]  # +10, +12: s² = 2
    assert (gain.estimate, gain.low) == (11.0, pytest.approx(11.0 - t * 1.0))
    apart = found["difference", "b", "π_1"]  # +1, +3
    assert (apart.estimate, apart.high) == (2.0, pytest.approx(2.0 + t))
    assert dict(apart.by_seed) == {1: 1.0, 2: 3.0}
    assert found["difference", "b", "π_0"].estimate == found["difference", "b", "π_0"].high == 0.0
    assert ("difference", "a", "π_1") not in found, "the baseline is not compared with itself"
    assert ("gain", "a", "π_0") not in found
    assert ("gain", "a", "reference") not in found


def test_only_seeds_that_both_sides_have_are_compared():
    ours, theirs = {1: number(5.0), 2: number(7.0), 3: number(90.0)}, {1: number(4.0), 2: number(5.0), 4: number(0.0)}
    found = differences_over_seeds(ours, theirs)
    assert found is not None
    assert dict(found.by_seed) == {1: 1.0, 2: 2.0}
    assert differences_over_seeds({1: number(1.0)}, {2: number(1.0)}) is None


def test_one_seed_has_its_interval_over_prompts_or_none():
    value = over_seeds({1: ratio(a=1.0, b=3.0, c=2.0)})
    assert (value.estimate, value.over) == (2.0, "prompts")
    assert value.low is not None
    assert 1.0 <= value.low <= 2.0
    given = over_seeds({1: Measured(estimate=5.0, bounds=(4.0, 7.0))})
    assert (given.low, given.high, given.over) == (4.0, 7.0, "prompts")
    assert over_seeds({1: number(5.0)}).over == "nothing"
    shifted = differences_over_seeds({1: ratio(a=2.0, b=4.0, c=3.0)}, {1: ratio(a=1.0, b=3.0, c=2.0)})
    assert shifted is not None
    assert shifted.over == "prompts"
    assert (shifted.estimate, shifted.low, shifted.high) == pytest.approx((1.0, 1.0, 1.0))


def test_groups_count_every_language_the_same():
    many = Measured.of({f"p{i}": (1.0, 1.0) for i in range(100)})
    assert many is not None
    by_language = {"de": many, "en": ratio(a=10.0), "es": ratio(p1=4.0)}
    found = with_groups(by_language, CONFIG.languages)
    assert list(found) == ["en", "es", "de", "non-English", "average"]
    assert found["non-English"].estimate == pytest.approx(2.5)  # (1 + 4)/2, though German has a hundred prompts
    assert found["average"].estimate == pytest.approx(5.0)
    mean = found["non-English"].ratio
    assert mean is not None
    assert sum(above for above, _ in mean.values()) / sum(below for _, below in mean.values()) == pytest.approx(2.5)
    assert list(with_groups({"en": ratio(a=1.0)}, ["en"])) == ["en"]


def test_a_mean_without_prompts_in_one_language_has_none():
    assert mean_of([ratio(a=1.0), number(3.0)]) == Measured(estimate=2.0)


def test_policies_come_in_the_order_of_their_numbers():
    by_policy = {name: {"es": number(1.0)} for name in ("reference", "π_0", "π_1", "π_10", "π_2")}  # as text is sorted
    one = CellRun(cell=Cell(name="a", changes={}), seed=1, config=CONFIG)
    found = results_of([(one, {"gold": by_policy})], metrics=["gold"], baseline=None)
    policies = list(dict.fromkeys(result.policy for result in found))
    assert policies == ["reference", "π_0", "π_1", "π_2", "π_10"]


def test_no_runs_give_no_results():
    assert results_of([], metrics=["gold"], baseline=None) == []

"""Win rates by hand, the published form against scikit-learn's own cross-validation, and invariants of all variants."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest
import sklearn
from scipy.stats import sem
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import make_scorer
from sklearn.model_selection import GroupKFold

from crossward.core.published_winrates import GamedRow, PublishedData, published_fit
from crossward.core.verdicts import Verdict
from crossward.core.winrates import Variant, n_fits, win_rate, win_rates

N = 120


def verdict(id: int | str, preference: float | None, lengths: tuple[int, int] = (100, 100), **names: str) -> Verdict:
    names = {"language": "es", "model": "one", "baseline": "base"} | names
    return Verdict(id=str(id), preference=preference, model_length=lengths[0], baseline_length=lengths[1], **names)


def made(seed: int = 0, *, n: int = N, models: tuple[str, ...] = ("one", "two"), language: str = "es") -> list[Verdict]:
    """Verdicts of a judge that likes length, with nulls and draws among them."""
    draw = np.random.default_rng(seed)
    difficulty = draw.normal(size=n)
    found = []
    for place, model in enumerate(models):
        base = np.exp(draw.normal(6.5, 0.5, n)).astype(int) + 1
        own = (base * np.exp(draw.normal(0.3 * place - 0.2, 0.4, n))).astype(int) + 1
        eta = -0.5 + 0.6 * place + difficulty - 1.5 * np.tanh((base - own) / 600)
        won = (draw.random(n) < 1 / (1 + np.exp(-eta))).astype(float)
        value = np.where(draw.random(n) < 0.05, 0.5, won * 0.9 + 0.05)
        null = draw.random(n) < 0.04
        found += [
            verdict(
                i, None if null[i] else float(value[i]), (int(own[i]), int(base[i])), model=model, language=language
            )
            for i in range(n)
        ]
    return found


def files(n: int = N) -> PublishedData:
    draw = np.random.default_rng(9)
    difficulty = draw.normal(size=n)
    gamed = [
        GamedRow(preference=float(p), length_difference=float(d), difficulty=float(difficulty[i % n]))
        for i, (p, d) in enumerate(zip(draw.random(2 * n), draw.normal(size=2 * n), strict=True))
    ]
    return PublishedData(difficulty={str(i): float(g) for i, g in enumerate(difficulty)}, gamed=gamed)


def test_by_hand():
    # (1 + 0.5 + 0 + 0.25) / 4 = 43.75 %; deviations .5625 .0625 -.4375 -.1875, Σ² = .546875, s/√4 = .213478
    rate, error = win_rate([1.0, 0.5, 0.0, 0.25])
    assert (rate, error) == (pytest.approx(43.75), pytest.approx(21.3478, abs=1e-4))
    assert error == pytest.approx(100 * sem([1.0, 0.5, 0.0, 0.25]), abs=1e-12)
    assert win_rate([1.0]) == (100.0, None)
    rows = [verdict(0, 1.0), verdict(1, 0.5), verdict(2, None), verdict(3, 0.25), verdict(4, 0.0)]
    (found,) = win_rates(rows, variant="none", resamples=20).rates
    assert (found.n_judged, found.n_null, found.lc_win_rate, found.lc_interval) == (4, 1, None, None)
    assert (found.win_rate, found.win_rate_se) == (rate, error)


def published_by_sklearn(rows: list[Verdict], data: PublishedData | None) -> tuple[float, float]:
    """LC (percent) and C by scikit-learn's cross-validated estimator itself, written from the formulas."""
    y = np.array([math.nan if row.preference is None else row.preference for row in rows])
    d = np.array([row.baseline_length - row.model_length for row in rows], dtype=float)
    known = np.isfinite(y)
    columns = [np.tanh(d / d.std(ddof=1)), np.ones(len(d))]
    if data is not None:
        columns.insert(1, np.array([data.difficulty[row.id] for row in rows]))
    own = np.stack(columns, axis=1)
    x, labels, weights = own[known], y[known], np.ones(known.sum())
    if data is not None:
        gamed = np.array([[np.tanh(row.length_difference), row.difficulty, 0.0] for row in data.gamed])
        x, labels = np.concatenate([gamed, x]), np.concatenate([[row.preference for row in data.gamed], labels])
        weights = np.concatenate([np.full(len(gamed), 0.1), weights])
    n = len(labels)
    twice, share = np.concatenate([weights, weights]), np.concatenate([labels, 1 - labels])

    def score(y_true, y_pred, share, twice):
        p = np.clip(y_pred, 1e-15, 1 - 1e-15)
        value = np.where(y_true == 1, share, 1 - share)
        return (twice * (value * np.log(p) + (1 - value) * np.log(1 - p))).mean()

    with sklearn.config_context(enable_metadata_routing=True):
        scorer = make_scorer(score, response_method="predict_proba").set_score_request(share=True, twice=True)
        model = LogisticRegressionCV(
            cv=GroupKFold(5), scoring=scorer, random_state=123, l1_ratios=(1.0,), solver="liblinear",
            fit_intercept=False, use_legacy_attributes=False,
        )  # fmt: skip
        model.set_fit_request(sample_weight=True)
        groups = np.concatenate([np.arange(n), np.arange(n)])
        model.fit(
            np.concatenate([x, x]), np.concatenate([np.ones(n), np.zeros(n)]), sample_weight=twice * share,
            groups=groups, share=share, twice=twice,
        )  # fmt: skip
    theta = np.ravel(model.coef_)
    return 100 * float((1 / (1 + np.exp(-own[:, 1:] @ theta[1:]))).mean()), float(np.ravel(model.C_)[0])


@pytest.mark.parametrize(("seed", "n"), [(0, N), (1, N), (15, 800)])  # at 15 the solver's order decides C
@pytest.mark.parametrize("form", ["published", "minimal"])
def test_the_published_forms_are_scikit_learns(seed: int, n: int, form: str):
    data = files(n) if form == "published" else None
    rows = [row for row in made(seed, n=n) if row.model == "two"]
    fit = published_fit(rows, data)
    assert (100 * fit.lc_win_rate, fit.c) == pytest.approx(published_by_sklearn(rows, data), rel=1e-9)


def run(rows: list[Verdict], variant: Variant, **more: int):
    data = files() if variant == "published" else None
    return win_rates(rows, variant=variant, published=data, resamples=more.get("resamples", 30))


def test_texts_as_ids_give_the_same_in_any_order():
    rows = [replace(row, id=f"q-{row.id}") for row in made()]
    again = random.Random(1).sample(rows, len(rows))
    for one, other in zip(run(again, "joint").rates, run(rows, "joint").rates, strict=True):
        assert (one.win_rate, one.lc_win_rate) == pytest.approx((other.win_rate, other.lc_win_rate), abs=1e-9)
        assert one.lc_interval == pytest.approx(other.lc_interval, abs=1e-9)


@pytest.mark.parametrize("variant", ["joint", "published", "minimal", "none"])
def test_the_order_of_the_verdicts_changes_nothing(variant: Variant):
    rows = made()
    again = random.Random(1).sample(rows, len(rows))
    assert run(again, variant) == run(rows, variant)


def test_ids_that_are_no_numbers_take_the_difficulties_order():
    rows, data = made(), files()
    named = [replace(row, id=f"q{row.id}") for row in random.Random(2).sample(rows, len(rows))]
    renamed = replace(data, difficulty={f"q{id}": value for id, value in data.difficulty.items()})
    found, plain = (
        win_rates(each, variant="published", published=files, resamples=10, differences=False).rates
        for each, files in ((named, renamed), (rows, data))
    )
    assert [rate.lc_win_rate for rate in found] == [rate.lc_win_rate for rate in plain]


@pytest.mark.parametrize("variant", ["joint", "minimal", "none"])
def test_swapping_model_and_baseline_turns_every_rate_round(variant: Variant):
    rows = [row for row in made() if row.model == "two"]
    turned = [
        replace(
            row,
            preference=None if row.preference is None else 1 - row.preference,
            model_length=row.baseline_length,
            baseline_length=row.model_length,
        )
        for row in rows
    ]
    (ours,), (theirs,) = (run(each, variant).rates for each in (rows, turned))
    assert ours.win_rate + theirs.win_rate == pytest.approx(100)
    if variant != "none":
        assert ours.lc_win_rate is not None
        assert theirs.lc_win_rate is not None
        assert ours.lc_win_rate + theirs.lc_win_rate == pytest.approx(100, abs=0.05)


def test_joint_is_the_raw_win_rate_where_lengths_are_equal():
    rows = [replace(row, model_length=10, baseline_length=10) for row in made() if row.preference is not None]
    for rate in run(rows, "joint").rates:
        assert rate.lc_win_rate == pytest.approx(rate.win_rate, abs=0.02)


def test_a_longer_model_loses_by_length_control_and_a_shorter_one_gains():
    for rate in run(made(3, n=400), "joint").rates:
        assert rate.lc_win_rate is not None
        assert rate.lc_interval is not None
        assert rate.lc_interval[0] < rate.lc_win_rate < rate.lc_interval[1]
        gained = rate.lc_win_rate - rate.win_rate
        assert gained > 1 if rate.model == "one" else gained < -0.5


def test_differences_are_paired_and_averages_know_what_languages_share():
    one = made(1)
    # A copy of a model, worse in two instructions: the difference is exact to a hair, though either rate is not.
    copy = [
        replace(row, model="copy", preference=0.0 if row.id in ("3", "4") else row.preference)
        for row in one
        if row.model == "one"
    ]
    rows = [row for row in one if row.model == "one"] + copy
    rows += [replace(row, language="sw") for row in rows]
    found = run(rows, "none", resamples=400)
    by_language = {apart.language: apart for apart in found.differences}
    assert set(by_language) == {"es", "sw", "average"}
    apart = by_language["es"]
    assert (apart.model, apart.other) == ("one", "copy")
    low, high = apart.win_rate_interval
    assert 0 <= low <= apart.win_rate <= high < 5
    assert high - low < found.averages[0].win_rate_interval[1] - found.averages[0].win_rate_interval[0]
    # Both languages say the same of the same instructions: their average is as unsure as either.
    assert by_language["average"].win_rate_interval == pytest.approx(apart.win_rate_interval)
    raw = [row.preference for row in one if row.model == "one" and row.preference is not None]
    low, high = found.averages[0].win_rate_interval
    assert (high - low) / 2 == pytest.approx(1.96 * 100 * sem(raw), rel=0.15)


def test_a_difference_that_is_none_has_a_large_p_value_and_a_clear_one_a_small():
    rows = [verdict(i, float(i % 2), model="one") for i in range(100)]
    rows += [verdict(i, float((i // 2) % 2), model="same") for i in range(100)]
    rows += [verdict(i, 1.0, model="best") for i in range(100)]
    p = {(apart.model, apart.other): apart.win_rate_p for apart in run(rows, "none", resamples=200).differences}
    assert p["same", "one"] > 0.5
    assert p["one", "best"] == pytest.approx(2 / 201)


def test_partial_sets_are_compared_on_what_they_share():
    rows = [row for row in made(2) if row.model == "one" or int(row.id) < 60]
    found = run(rows, "joint")
    assert {rate.model: rate.n_judged + rate.n_null for rate in found.rates} == {"one": N, "two": 60}
    assert found.differences[0].n_common <= 60


@pytest.mark.parametrize(
    ("rows", "variant", "sentence"),
    [
        ([], "joint", "there is no verdict"),
        ([verdict(i, None) for i in range(40)], "none", "all 40 verdicts of 'one' in 'es' are null"),
        ([verdict(i, 1.0) for i in range(29)], "joint", "'one' has 29 usable verdicts in 'es': .* needs 30 or more"),
        ([verdict(0, 1.0, model="base")], "none", "'base' is judged against itself in 'es'"),
        (
            [verdict(0, 1.0), verdict(0, 0.5)],
            "none",
            "instruction '0' of 'one' against 'base' in 'es' has two verdicts",
        ),
        ([verdict(f"x{i}", i % 2) for i in range(40)], "published", "40 of 40 instructions .* first id 'x0'"),
        ([verdict(0, 1.0)], "length", "variant must be one of joint, published, minimal, none, got 'length'"),
    ],
)
def test_verdicts_that_carry_no_rate(rows: list[Verdict], variant: Variant, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        run(rows, variant)


def test_the_published_variant_and_its_files_go_together():
    for variant, data in (("published", None), ("joint", files())):
        with pytest.raises(ValueError, match="needs instruction difficulties and gamed rows, and no other takes them"):
            win_rates(made(), variant=variant, published=data)


def test_progress_counts_fits():
    for variant, expected in (("joint", 1), ("minimal", 2), ("none", 0)):
        seen: list[int] = []
        win_rates(made(), variant=variant, resamples=10, advance=seen.append)
        assert sum(seen) == n_fits(made(), variant) == expected

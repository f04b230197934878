"""What a reward rewards: by hand, against scikit-learn and scipy, and by invariants."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import roc_auc_score

from crossward.core.diagnostics import (
    PARTS,
    WithinCorrelation,
    accuracy,
    agreement,
    length_correlation,
    margins,
    ranks,
    token_profile,
)
from crossward.core.records import Prompt, Response, ScoredPrompt, ScoredResponse


def scored(id: str, *ratios: float, texts: list[str] | None = None) -> ScoredPrompt:
    named = texts or [f"text {k}" for k in range(len(ratios))]
    responses = tuple(
        ScoredResponse(response=Response(text=text), policy_logprob=r, reference_logprob=0.0, n_tokens=len(text) // 2)
        for text, r in zip(named, ratios, strict=True)
    )
    prompt = Prompt(id=id, language="sw", instruction="x", english_instruction="x")
    return ScoredPrompt(prompt=prompt, view="crosslingual", judged_under="x", responses=responses)


def test_accuracy_by_hand():
    """Two of the first prompt's three pairs are ranked rightly; in the second a tie of rewards counts half."""
    found = accuracy([("1", [0.1, 0.3, 0.2], [1.0, 2.0, 3.0]), ("2", [0.5, 0.5], [1.0, 0.0])])
    assert found is not None
    assert found.n_pairs == 4
    assert found.interval.estimate == pytest.approx(2.5 / 4)
    assert found.interval.low <= found.interval.estimate <= found.interval.high
    assert accuracy([("1", [0.1, 0.3], [1.0, 1.0])]) is None


def test_accuracy_of_binary_truths_is_the_area_under_the_roc_curve():
    rng = np.random.default_rng(0)
    rewards, truths = rng.normal(size=60).round(1), rng.integers(0, 2, size=60)
    found = accuracy([("1", rewards.tolist(), truths.tolist())])
    assert found is not None
    assert found.interval.estimate == pytest.approx(roc_auc_score(truths, rewards))


def test_correlation_within_prompts_by_hand():
    """Deviations x: −1, 1 | −1, 1 and y: −1, 1 | 2, −2. Σxy = 2 − 4, Σx² = 4, Σy² = 10: −2/√40. Prompt means 100 apart
    do not count. Ranks: 1, 2 | 1, 2 against 1, 2 | 2, 1: Σ = 0.5 − 0.5 = 0.
    """
    within = WithinCorrelation()
    within.add([1.0, 3.0], [4.0, 6.0])
    within.add([101.0, 103.0], [-7.0, -11.0])
    assert within.result().pearson == pytest.approx(-2 / math.sqrt(40))
    assert within.result().spearman == pytest.approx(0.0)


def test_one_prompt_is_scipys_correlation_and_several_are_that_of_the_centred():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(5, 8)).round(1), rng.integers(0, 4, size=(5, 8)).astype(float)  # with ties
    one, all_of_them = WithinCorrelation(), WithinCorrelation()
    one.add(x[0].tolist(), y[0].tolist())
    assert one.result().pearson == pytest.approx(pearsonr(x[0], y[0]).statistic)
    assert one.result().spearman == pytest.approx(spearmanr(x[0], y[0]).statistic)
    for a, b in zip(x, y, strict=True):
        all_of_them.add(a.tolist(), b.tolist())
    centred = [(values - values.mean(axis=1, keepdims=True)).ravel() for values in (x, y)]
    assert all_of_them.result().pearson == pytest.approx(pearsonr(*centred).statistic)


def test_without_spread_there_is_no_correlation():
    within = WithinCorrelation()
    assert within.result().pearson is None
    within.add([1.0, 1.0], [1.0, 2.0])
    within.add([2.0], [7.0])
    within.add([], [])
    assert (within.result().pearson, within.result().spearman) == (None, None)


@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50)), min_size=2, max_size=12), st.floats(0.1, 9))
def test_correlations_know_no_shift_no_scale_and_no_order(rows: list, scale: float):
    x, y = [round(a, 2) for a, _ in rows], [round(b, 2) for _, b in rows]
    one, other, flipped = WithinCorrelation(), WithinCorrelation(), WithinCorrelation()
    one.add(x, y)
    other.add([scale * a + 3.0 for a in x[::-1]], y[::-1])
    flipped.add([-a for a in x], y)
    before = one.result().pearson
    if before is None:
        assert flipped.result().pearson is None
    else:
        assert -1 <= before <= 1
        assert other.result().pearson == pytest.approx(before, abs=1e-6)
        assert flipped.result().pearson == pytest.approx(-before, abs=1e-9)
    assert sum(ranks(x)) == pytest.approx(len(x) * (len(x) + 1) / 2)


def test_length_in_characters_and_in_tokens():
    group = scored("1", 0.0, 1.0, 2.0, texts=["ab", "abcd", "abcdef"])
    found = length_correlation([group])
    assert found["characters"].pearson == pytest.approx(1.0)
    assert found["tokens"].spearman == pytest.approx(1.0)


def test_margins_by_hand():
    """0, 1, 2, 3, 4: the middle is 2, the 5 % quantile lies a fifth of the way from 0 to 1."""
    found = margins([3.0, 1.0, 0.0, 2.0, 4.0], noise_margin=1.5)
    assert found is not None
    assert found.quantiles == pytest.approx({"p5": 0.2, "p25": 1.0, "p50": 2.0, "p75": 3.0, "p95": 3.8})
    assert (found.n_groups, found.under_noise) == (5, pytest.approx(0.4))
    assert margins([]) is None
    values = np.random.default_rng(2).exponential(size=37)
    known = margins(values.tolist())
    assert known is not None
    assert known.under_noise is None
    assert list(known.quantiles.values()) == pytest.approx(np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95)).tolist())


def test_agreement_by_hand():
    """First prompt: the same best, another worst; ranks 3, 2, 1 against 3, 1, 2: ρ = 0.5. Second: reversed, ρ = −1."""
    found = agreement(
        [scored("1", 3.0, 2.0, 1.0), scored("2", 1.0, 2.0), scored("3", 1.0)],
        [scored("1", 9.0, 0.0, 4.0), scored("2", 2.0, 1.0), scored("3", 5.0)],
    )
    assert found is not None
    assert (found.n_groups, found.same_best, found.same_worst) == (2, 0.5, 0.0)
    assert found.rank_correlation == pytest.approx((0.5 - 1.0) / 2)
    assert agreement([scored("3", 1.0)], [scored("3", 2.0)]) is None


def test_a_view_agrees_with_itself_whatever_its_scale():
    groups = [scored("1", 3.0, 2.0, 1.0), scored("2", 1.0, 2.0)]
    found = agreement(groups, [scored("1", 30.0, 20.0, 10.0), scored("2", 10.0, 20.0)])
    assert found is not None
    assert (found.same_best, found.same_worst) == (1.0, 1.0)
    assert found.rank_correlation == pytest.approx(1.0)
    twins = agreement(
        [scored("1", 2.0, 2.1, 0.0, texts=["a", "a", "b"])], [scored("1", 2.1, 2.0, 0.0, texts=["a", "a", "b"])]
    )
    assert twins is not None
    assert twins.same_best == 1.0  # the same text is the same choice


def test_token_profile_by_hand():
    """One prompt. First response: 1, body −1 2 0 3, end 1 (sum 6). The second was cut: first 0, body of one 2 (sum 2).

    Sizes: 1 + 0 of the first tokens in |1|+|−1|+|2|+|0|+|3|+|1|+|0|+|2| = 10. Deviations of the sums: 2 and −2, Σ² = 8.
    First: 0.5, −0.5 → (0.5·2 + 0.5·2)/8 = 0.25. Body 1 (−1 and 2): −1.5, 1.5 → −6/8. Body 2: (2, 0) → 4/8.
    Body 4: (3, 0) → 6/8. End: (1, 0) → 2/8. They add up to 1.
    """
    found = token_profile([[([1.0, -1.0, 2.0, 0.0, 3.0, 1.0], True), ([0.0, 2.0], False)]])
    assert tuple(found) == PARTS
    assert [part.n_tokens for part in found.values()] == [2, 2, 1, 1, 1, 1]
    assert [part.mean for part in found.values()] == pytest.approx([0.5, 0.5, 1.0, 0.0, 1.5, 0.5])
    assert [part.share_of_size for part in found.values()] == pytest.approx([0.1, 0.3, 0.2, 0.0, 0.3, 0.1])
    assert [part.share_of_choice for part in found.values()] == pytest.approx([0.25, -0.75, 0.5, 0.0, 0.75, 0.25])
    assert found["body_1"].per_token == pytest.approx(0.5)


def test_an_answer_of_its_end_alone_and_no_answer_at_all():
    found = token_profile([[([0.5], True), ([], False)]])
    assert (found["end_of_turn"].n_tokens, found["first_token"].n_tokens) == (1, 0)
    assert found["first_token"].per_token is None
    nothing = token_profile([])
    assert nothing["body_1"].share_of_choice is None
    assert nothing["body_1"].mean == 0.0


@given(
    st.lists(
        st.lists(
            st.tuples(st.lists(st.floats(-5, 5).map(lambda x: round(x, 3)), min_size=1, max_size=11), st.booleans()),
            min_size=1,
            max_size=4,
        ),
        min_size=1,
        max_size=4,
    )
)
def test_shares_add_up_and_no_token_is_lost(groups: list):
    found = token_profile(groups)
    rows = [values for group in groups for values, _ in group]
    assert sum(part.n_tokens for part in found.values()) == sum(map(len, rows))
    assert sum(part.mean for part in found.values()) == pytest.approx(sum(map(sum, rows)) / len(rows), abs=1e-6)
    assert found["end_of_turn"].n_tokens == sum(ended for group in groups for _, ended in group)
    sizes = [part.share_of_size for part in found.values()]
    if None not in sizes:
        assert sum(sizes) == pytest.approx(1.0)
    choices = [part.share_of_choice for part in found.values()]
    spread = max((np.var([sum(values) for values, _ in group]) for group in groups), default=0.0)
    if None not in choices and spread > 1e-9:
        assert sum(choices) == pytest.approx(1.0, abs=1e-6)

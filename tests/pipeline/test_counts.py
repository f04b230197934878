"""Tallies over streams say what the plain means over lists say."""

import math
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.store.strategies import SAMPLED, prompts

from crossward.core.pairing import PairingRules, Survey
from crossward.core.records import PreferencePair, Response, SampledPrompt, ScoredPrompt, ScoredResponse
from crossward.pipeline.counts import Mean, PairTally, sampled_counts, scored_counts

LOGPROB = st.floats(-1e4, 0)
SCORED_RESPONSES = st.builds(
    ScoredResponse,
    response=st.builds(Response, text=st.sampled_from(["", " ", "a", "bb", "ccc"])),
    policy_logprob=LOGPROB,
    reference_logprob=LOGPROB,
    n_tokens=st.integers(0, 9),
)
SCORED = st.builds(
    ScoredPrompt,
    prompt=prompts(),
    view=st.just("crosslingual"),
    judged_under=st.just(""),
    responses=st.lists(SCORED_RESPONSES, max_size=4).map(tuple),
)


@given(st.lists(st.floats(-1e9, 1e9)))
def test_a_running_mean_is_the_mean(values: list[float]):
    mean = Mean()
    for value in values:
        mean.add(value)
    assert mean.value == (pytest.approx(math.fsum(values) / len(values), rel=1e-12, abs=1e-9) if values else None)


@settings(max_examples=50, deadline=None)
@given(st.lists(SAMPLED, max_size=6))
def test_sampled(groups: list[SampledPrompt]):
    responses = [response for group in groups for response in group.responses]
    assert sampled_counts(iter(groups)) == {
        "prompts": len(groups),
        "responses": len(responses),
        "truncated": sum(response.finish_reason == "length" for response in responses),
        "tokens": sum(len(response.token_ids or ()) for response in responses),
        "mean_chars": round(fmean(len(response.text) for response in responses), 2) if responses else 0.0,
    }


@settings(max_examples=100, deadline=None)
@given(st.lists(SCORED, max_size=6), st.integers(0, 3))
def test_scored(groups: list[ScoredPrompt], n_too_long: int):
    responses = [response for group in groups for response in group.responses]
    ratios = [[response.log_ratio for response in group.responses] for group in groups if group.responses]
    counts = scored_counts(iter(groups), n_sampled=len(responses) + n_too_long)
    assert (counts["prompts"], counts["responses"], counts["too_long"]) == (len(groups), len(responses), n_too_long)
    assert counts["empty"] == sum(not response.response.text.strip() for response in responses)
    assert counts["tokens"] == sum(response.n_tokens for response in responses)
    if ratios:
        assert counts["mean_log_ratio"] == pytest.approx(fmean(r for group in ratios for r in group), abs=1e-9)
        assert counts["mean_spread"] == pytest.approx(fmean(max(group) - min(group) for group in ratios), abs=1e-9)
    else:
        assert counts["mean_log_ratio"] is counts["mean_spread"] is None


@settings(max_examples=100, deadline=None)
@given(st.lists(SCORED, min_size=1, max_size=6))
def test_pairs(groups: list[ScoredPrompt]):
    survey, tally = Survey(PairingRules(length_unit="none")), PairTally()
    for group in groups:
        survey.add(group)
    outcomes = [tally.counted(outcome) for outcome in survey.outcomes(groups, 0.0)]
    pairs = [outcome for outcome in outcomes if isinstance(outcome, PreferencePair)]
    counts = tally.counts(survey, survey.control())
    assert counts["n_groups"] == len(groups) == counts["n_pairs"] + sum(counts["skipped"].values())
    assert counts["n_pairs"] == len(pairs)
    if pairs:
        assert counts["mean_margin"] == pytest.approx(fmean(pair.margin for pair in pairs), abs=1e-9)
        gap = fmean(pair.chosen.n_chars - pair.rejected.n_chars for pair in pairs)
        assert counts["length_gap_before"] == pytest.approx(gap, abs=1e-9)

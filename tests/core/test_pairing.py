"""Pairing: best against worst by hand, every filter by its reason, counts that add up, and the published rules."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.live import counting

from crossward.core.language import Identification
from crossward.core.pairing import NEAREST_IS_WORST, PairingRules, Survey, pair_groups, published_rules
from crossward.core.records import (
    FinishReason,
    PreferencePair,
    Prompt,
    RatedPrompt,
    RatedResponse,
    Response,
    ScoredPrompt,
    ScoredResponse,
    Skipped,
)

PLAIN = PairingRules(length_unit="none")


def response(text: str, score: float, *, n_tokens: int = 3, finish: FinishReason = "stop") -> ScoredResponse:
    return ScoredResponse(
        response=Response(text=text, finish_reason=finish),
        policy_logprob=score,
        reference_logprob=0.0,
        n_tokens=n_tokens,
    )


def group(*responses: ScoredResponse, id: str = "1", language: str = "es") -> ScoredPrompt:
    prompt = Prompt(id=id, language=language, instruction="hola", english_instruction="hello")
    return ScoredPrompt(prompt=prompt, view="crosslingual", judged_under="hello", responses=responses)


def texts(outcome: PreferencePair | Skipped) -> tuple[str, str] | str:
    if isinstance(outcome, Skipped):
        return outcome.reason
    return outcome.chosen.response.text, outcome.rejected.response.text


def test_best_against_worst():
    made = pair_groups([group(response("a", 1.0), response("b", 3.0), response("c", -2.0))], PLAIN)
    (pair,) = made.pairs
    assert texts(pair) == ("b", "c")
    assert (pair.chosen_score, pair.rejected_score, pair.margin, pair.alpha) == (3.0, -2.0, 5.0, 0.0)
    assert (made.skipped, made.removed_responses) == ({}, {})


def test_length_control_changes_the_choice():
    """Two prompts, each a long response with log-ratio 2 and 1 and two short ones: uncontrolled, the long ones win by
    10 and 10 characters; α between 0.1 and 0.2 makes the second prompt choose a short one, so D = (10 + 0) / 2."""
    groups = [
        group(response("x" * 11, 3.0), response("b", 1.0), response("c", 0.9), id="1"),
        group(response("y" * 11, 2.0), response("e", 1.0), response("f", 0.9), id="2"),
        group(response("short", 2.0), response("z" * 15, 1.0), id="3"),
    ]
    made = pair_groups(groups, PairingRules(length_unit="characters"))
    assert made.control is not None
    assert made.control.gap_before == pytest.approx((10 + 10 - 10) / 3)
    assert abs(made.control.gap_after) < abs(made.control.gap_before)
    assert {pair.alpha for pair in made.pairs} == {made.control.alpha}


def test_tokens_and_characters_are_different_lengths():
    """In tokens the best response is the short one (2 against 9), in characters the long one: α has opposite signs."""
    groups = [
        group(
            response("x" * 30, 2.0, n_tokens=2), response("y", 1.0, n_tokens=9), response("w", 0.5, n_tokens=3), id="1"
        ),
        group(
            response("v" * 30, 2.0, n_tokens=2), response("u", 1.9, n_tokens=9), response("t", 0.1, n_tokens=9), id="2"
        ),
    ]
    characters = pair_groups(groups, PairingRules(length_unit="characters")).control
    tokens = pair_groups(groups, PairingRules(length_unit="tokens")).control
    assert characters is not None
    assert tokens is not None
    assert characters.gap_before > 0 > tokens.gap_before


def test_tokens_need_token_counts():
    with pytest.raises(ValueError, match="n_tokens"):
        pair_groups([group(response("a", 1, n_tokens=0), response("b", 2))], PairingRules(length_unit="tokens"))


def test_every_filter_has_its_reason():
    spanish, english = Identification(language="es", confidence=1.0), Identification(language="en", confidence=0.95)
    groups = [
        group(response("", 1), response(" \n", 2), id="empty"),
        group(response("a", 1, finish="length"), response("b", 2, finish="length"), id="truncated"),
        group(response("a", 1), response("a", 2), response("a", 3), id="duplicate"),
        group(response("a", 1), response("b", 2), id="wrong-language"),
        group(response("a", 1), id="too-few-responses"),
        group(response("", 1), response("b", 2, finish="length"), id="too-few-responses (two causes)"),
        group(response("a", 1), response("b", 1), id="tie"),
        group(response("a", 1.0), response("b", 1.5), id="below-margin"),
        group(response("a", 20), response("b", 30), id="above-upper-bound"),
        group(response("a", 1), response("b", 5), id="pair"),
    ]
    languages = [[english if g.prompt.id == "wrong-language" else spanish] * len(g.responses) for g in groups]
    rules = PairingRules(length_unit="none", min_margin=1.0, upper_bound=20.0)
    made = pair_groups(groups, rules, languages=languages)
    for outcome in made.outcomes:
        expected = outcome.prompt.id.split(" ")[0]
        assert (outcome.reason if isinstance(outcome, Skipped) else "pair") == expected
    assert len(made.pairs) + sum(made.skipped.values()) == len(groups)
    assert made.removed_responses == {"empty": 3, "truncated": 3, "duplicate": 2, "wrong-language": 2}


def test_bounds_on_length_are_inclusive_and_counted():
    groups = [
        group(response("abc", 1), response("abcd", 2), response("abcdef", 3), response("abcdefg", 9), id="pair"),
        group(response("a", 1), response("b", 2), id="too-short"),
        group(response("x" * 7, 1), response("y" * 8, 2), id="too-long"),
    ]
    made = pair_groups(groups, replace(PLAIN, min_characters=4, max_characters=6))
    assert [texts(outcome) for outcome in made.outcomes] == [("abcdef", "abcd"), "too-short", "too-long"]
    assert made.removed_responses == {"too-short": 3, "too-long": 3}


def test_an_unsure_identification_removes_nothing():
    unsure = [[Identification(language="en", confidence=0.5), Identification(language=None, confidence=0.0)]]
    assert pair_groups([group(response("a", 1), response("b", 2))], PLAIN, languages=unsure).pairs


def test_upper_bound_forbids_choosing_but_not_rejecting():
    """Scores 150, 90, −1 under a bound of 100: 90 is chosen, −1 rejected."""
    made = pair_groups(
        [group(response("a", 150), response("b", 90), response("c", -1))],
        PairingRules(length_unit="none", upper_bound=100),
    )
    assert [texts(pair) for pair in made.pairs] == [("b", "c")]


def test_the_bound_is_reached_not_passed():
    rules = PairingRules(length_unit="none", upper_bound=3.0)
    assert texts(
        pair_groups([group(response("a", 3.0), response("b", 2.0), response("c", 1.0))], rules).outcomes[0]
    ) == (
        "b",
        "c",
    )


def test_published_rules_keep_ties_and_fall_on_the_first():
    """# paper: argmax = argmin = 0 on a tie; and when every score reaches the bound the argmax of −∞ is index 0."""
    tie = group(response("a", 1), response("b", 1))
    assert texts(pair_groups([tie], published_rules()).outcomes[0]) == ("a", "a")
    over = group(response("a", 7), response("b", 9), response("c", 6))
    assert texts(pair_groups([over], published_rules(upper_bound=5.0)).outcomes[0]) == ("a", "c")


def test_random_choice_ignores_scores_and_order_of_prompts():
    groups = [group(*(response(f"{i}{k}", float(k)) for k in range(6)), id=str(i)) for i in range(200)]
    rules = PairingRules(length_unit="characters", choice="random", seed=7)
    made = pair_groups(groups, rules)
    assert made.control is None
    better = sum(pair.chosen_score > pair.rejected_score for pair in made.pairs)
    assert 70 < better < 130
    backwards = {pair.prompt.id: texts(pair) for pair in pair_groups(groups[::-1], rules).pairs}
    assert backwards == {pair.prompt.id: texts(pair) for pair in made.pairs}


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.lists(
            st.tuples(
                st.sampled_from(["", "a", "bb", "ccc", "dddd"]), st.floats(-9, 9), st.sampled_from(["stop", "length"])
            ),
            min_size=1,
            max_size=5,
        ),
        min_size=1,
        max_size=8,
    ),
    st.floats(0, 3),
)
def test_counts_add_up_and_pairs_keep_the_rules(rows: list, min_margin: float):
    groups = [group(*(response(t, s, finish=f) for t, s, f in row), id=str(i)) for i, row in enumerate(rows)]
    made = pair_groups(groups, PairingRules(length_unit="characters", min_margin=min_margin))
    assert [outcome.prompt.id for outcome in made.outcomes] == [str(i) for i in range(len(groups))]
    assert len(made.pairs) + sum(made.skipped.values()) == len(groups)
    for pair in made.pairs:
        assert pair.margin >= min_margin
        assert pair.chosen.response.text != pair.rejected.response.text
        assert "length" not in (pair.chosen.response.finish_reason, pair.rejected.response.finish_reason)


def test_response_order_is_irrelevant_without_ties():
    responses = [response("a", 1.0), response("bbbb", 3.0), response("cc", -2.0), response("ddd", 0.5)]
    made = {
        texts(pair_groups([group(*order)], PairingRules(length_unit="characters")).outcomes[0])
        for order in itertools.permutations(responses)
    }
    assert len(made) == 1


ROWS = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from(["", "a", "bb", "ccc", "dddd"]), st.floats(-9, 9), st.sampled_from(["stop", "length"])
        ),
        max_size=5,
    ),
    min_size=1,
    max_size=8,
)
RULES = st.one_of(
    st.builds(
        PairingRules,
        length_unit=st.sampled_from(["characters", "tokens", "none"]),
        choice=st.sampled_from(["reward", "random"]),
        upper_bound=st.none() | st.floats(-5, 5),
        min_margin=st.floats(0, 2),
    ),
    st.builds(published_rules, upper_bound=st.none() | st.floats(-5, 5)),
)


@settings(max_examples=300, deadline=None)
@given(ROWS, RULES)
def test_two_passes_over_a_stream_give_the_pairing_in_memory(rows: list, rules: PairingRules):
    groups = [group(*(response(t, s, finish=f) for t, s, f in row), id=str(i)) for i, row in enumerate(rows)]
    expected = pair_groups(groups, rules)
    survey = Survey(rules)
    for one in iter(groups):
        survey.add(one)
    control = survey.control()
    assert (control is None) == (expected.control is None)
    if control is not None and expected.control is not None:
        assert (control.alpha, control.gap_after) == (expected.control.alpha, expected.control.gap_after)
    assert tuple(survey.outcomes(iter(groups), control.alpha if control else 0.0)) == expected.outcomes
    assert dict(survey.removed) == expected.removed_responses
    assert survey.n_groups == len(groups)


def made(n: int) -> Iterator[ScoredPrompt]:
    for i in range(n):
        yield group(*(response("x" * (i + k), float(k)) for k in range(4)), id=str(i))


def test_no_group_is_held_between_or_in_the_passes():
    with counting(ScoredPrompt) as live:
        survey = Survey(PairingRules(length_unit="characters"))
        for one in made(50):
            survey.add(one)
            assert live() == 1
        del one
        control = survey.control()
        assert control is not None
        for _ in survey.outcomes(made(50), control.alpha):
            assert live() == 1


def test_groups_that_change_between_the_passes_are_refused():
    survey = Survey(PLAIN)
    survey.add(group(response("a", 1), response("b", 2), id="7"))
    with pytest.raises(ValueError, match=r"prompt '7' \(es\) has 1 responses, had 2 when α was found"):
        list(survey.outcomes([group(response("a", 1), id="7")], 0.0))


CROCO = PairingRules(length_unit="none", choice="mean-2sd")


def test_rejected_near_two_standard_deviations_below_the_mean():
    """Scores 6, 5, 5, 5, 0, −9: mean 2, sd √(168/6) = 5.29, so −8.58 is wanted, and −9 is nearest; without it 0."""
    responses = [response(name, score) for name, score in zip("abcdef", (6, 5, 5, 5, 0, -9), strict=True)]
    (pair,) = pair_groups([group(*responses)], CROCO).pairs
    assert texts(pair) == ("a", "f")
    # 20 equal scores of 1, one 2 and an outlier of −40: mean −.86, sd 8.5; wanted −17.9, and 1 is nearer than −40.
    many = [response(f"m{k}", 1.0) for k in range(20)] + [response("best", 2.0), response("far", -40.0)]
    (pair,) = pair_groups([group(*many)], CROCO).pairs
    assert texts(pair) == ("best", "m0")


@settings(max_examples=300)
@given(st.lists(st.integers(-50, 50), min_size=2, max_size=NEAREST_IS_WORST))
def test_of_ten_responses_the_nearest_is_the_worst(scores: list[int]):
    responses = [response(str(k), float(score)) for k, score in enumerate(scores)]
    croco, plain = (pair_groups([group(*responses)], rules) for rules in (CROCO, PLAIN))
    assert [texts(outcome) for outcome in croco.outcomes] == [texts(outcome) for outcome in plain.outcomes]


def test_of_eleven_responses_another_can_be_nearer():
    """2, eight of 1, −2.4, −4.3: mean .3, sd 1.79, so −3.28 is wanted; −4.3 is 1.02 away from it, −2.4 only .88."""
    responses = [response(str(k), 1.0 + (k == 0)) for k in range(9)] + [response("near", -2.4), response("far", -4.3)]
    (pair,) = pair_groups([group(*responses)], CROCO).pairs
    assert texts(pair) == ("0", "near")


def test_croco_rejects_only_what_is_below_the_chosen():
    made = pair_groups([group(response("a", 1.0), response("b", 1.0))], CROCO)
    assert made.skipped == {"tie": 1}
    # 20 scores of 1 and one of −40: −18.8 is wanted, to which the equals of the best are nearer.
    equal = [response(f"m{k}", 1.0) for k in range(20)]
    (pair,) = pair_groups([group(*equal, response("far", -40.0))], CROCO).pairs
    assert texts(pair) == ("m0", "far")


def rated(*ratings: tuple[str, tuple[float, ...]]) -> RatedPrompt:
    """Responses with what several views say of them; the rating is the mean."""
    return RatedPrompt(
        prompt=Prompt(id="1", language="es", instruction="hola", english_instruction="hello"),
        rated_by="ensemble",
        judged_under="hello",
        responses=tuple(
            RatedResponse(response=Response(text=text), rating=sum(parts) / len(parts), n_tokens=3, parts=parts)
            for text, parts in ratings
        ),
    )


def test_ratings_are_paired_as_log_ratios_are():
    (pair,) = pair_groups([rated(("a", (0.0, 1.0)), ("b", (-1.0, 0.0)), ("c", (2.0, 2.0)))], PLAIN).pairs
    assert (texts(pair), pair.margin) == (("c", "b"), 2.5)


def test_agreement_asks_every_view():
    agreed = PairingRules(length_unit="none", agreement=True)
    groups = [rated(("a", (3.0, 0.1)), ("b", (-3.0, 0.2))), rated(("c", (3.0, 0.3)), ("d", (-3.0, 0.2)))]
    made = pair_groups(groups, agreed)
    assert [texts(outcome) for outcome in made.outcomes] == ["views-disagree", ("c", "d")]
    assert pair_groups(groups, PLAIN).skipped == {}


def test_the_grid_is_a_search_of_its_own():
    """One α of the published grid (0 to .999 by .001) where the exact one is negative: shorter answers are liked."""
    groups = [group(response("x" * 9, 0.0), response("b", 1.0)), group(response("c", 0.3), response("y" * 4, 0.2))]
    exact, grid = (
        pair_groups(groups, PairingRules(length_unit="characters", alpha_search=way))
        for way in ("exact", "published-grid")
    )
    assert exact.control is not None
    assert grid.control is not None
    assert exact.control.alpha < 0 <= grid.control.alpha


def penalised(text: str, log_ratio: float, penalty: float, n_tokens: int) -> ScoredResponse:
    return replace(response(text, log_ratio, n_tokens=n_tokens), penalty=penalty)


def test_a_penalty_is_taken_off_and_a_gate_forbids_choosing():
    """Penalties a token: a 1, b .5, c 0, d 0, median .25. Penalised scores: 5 − 4 = 1, 2 − 1 = 1 …: c wins with 1.5."""
    responses = (
        penalised("a", 5.0, 4.0, 4),
        penalised("b", 2.0, 1.0, 2),
        penalised("c", 1.5, 0.0, 3),
        penalised("d", -1.0, 0.0, 3),
    )
    (pair,) = pair_groups([group(*responses)], PLAIN).pairs
    assert (texts(pair), pair.margin) == (("c", "d"), 2.5)
    (pair,) = pair_groups([group(*responses)], PairingRules(length_unit="none", gate=True)).pairs
    assert (texts(pair), pair.margin) == (("c", "d"), 2.5)
    worst = penalised("e", -3.0, 9.0, 3)  # may be rejected, and its bare log-ratio counts
    (pair,) = pair_groups([group(*responses, worst)], PairingRules(length_unit="none", gate=True)).pairs
    assert (texts(pair), pair.rejected_score) == (("b", "e"), -3.0)  # the median is .5 now, so b may be chosen
    without = group(*(response(name, score) for name, score in (("x", 1.0), ("y", 2.0))))
    (pair,) = pair_groups([without], PairingRules(length_unit="none", gate=True)).pairs
    assert texts(pair) == ("y", "x")


def test_a_gate_and_a_bound_that_leave_nobody_are_told():
    responses = penalised("a", 1.0, 0.0, 3), penalised("b", 2.0, 3.0, 3), penalised("c", 0.0, 3.0, 3)
    rules = PairingRules(length_unit="none", gate=True, upper_bound=0.5)
    made = pair_groups([group(responses[0], responses[1])], rules)
    assert made.skipped == {"above-upper-bound": 1}

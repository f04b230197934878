"""Points are read with certainty or not at all; what fills a template is never filled itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossward.core.rating import Template, parse_points, rating_template

READ = {
    "Score: 3": 3.0,
    "It is fine.\nScore: 5": 5.0,
    "score:0": 0.0,
    "SCORE : 2": 2.0,
    "Final score: 4.": 4.0,
    "**Score:** 4": 4.0,
    "**Score: 4**": 4.0,
    "**Score**: **4.5**": 4.5,
    "Score: <4>": 4.0,
    "Score: [4]": 4.0,
    'Score: "4"': 4.0,
    "Score (0-5): 2": 2.0,
    "Score: 3/5": 3.0,
    "Score: **3** / 5": 3.0,
    "Score: 3/5.0": 3.0,
    "Score: 3 out of 5": 3.0,
    "Score: 3 of 5 points": 3.0,
    "Score: 3 points": 3.0,
    "Score: 4,5": 4.5,
    "Score: 4 - clear and right": 4.0,
    "Score: 4 — 5 would be too much": 4.0,
    "Score: 4 (it lacks 1 thing)": 4.0,
    "Score：４／５": 4.0,
    "Score: ٣": 3.0,
    "Score: 1 for this, score: 2 with that. Score: 3": 3.0,
    "Score: 12 would be absurd. Score: 2": 2.0,
}
UNREAD = {
    "": "no-score",
    "4": "no-score",
    "Rating: 4": "no-score",
    "Underscore: 4": "no-score",
    "Scores: 4": "no-score",
    "Score 4": "no-score",
    "Score:": "no-number",
    "Score: <total>": "no-number",
    "Score: four": "no-number",
    "Score: 3. Score: n/a": "no-number",
    "Score:\n1. It is about what was asked": "no-number",
    "Score: 4-5": "no-number",
    "Score: 4–5": "no-number",
    "Score: 3 to 4": "no-number",
    "Score: 3 or 4": "no-number",
    "Score: 1+1+1 = 3": "no-number",
    "Score: 3 = 2 + 1": "no-number",
    "Score: 4th": "no-number",
    "Score: 80%": "no-number",
    "Score: 4.5.1": "no-number",
    "Score: 3½": "no-number",
    "Score: ½": "no-number",
    "Score: 3/5/5": "no-number",
    "Score: 3/5th": "no-number",
    "Score: 7/10": "other-scale",
    "Score: 3/10": "other-scale",
    "Score: 3 out of 100": "other-scale",
    "Score: 6": "out-of-range",
    "Score: 5.1": "out-of-range",
    "Score: -1": "out-of-range",
    "Score: −1": "out-of-range",
    "Score: 45": "out-of-range",
}


@pytest.mark.parametrize(("text", "points"), READ.items())
def test_points_that_are_read(text: str, points: float):
    assert parse_points(text) == points


@pytest.mark.parametrize(("text", "reason"), UNREAD.items())
def test_what_is_no_certain_number_has_a_reason(text: str, reason: str):
    assert parse_points(text) == reason


def test_another_highest():
    assert parse_points("Score: 7/10", highest=10) == 7.0
    assert parse_points("Score: 3/5", highest=10) == "other-scale"


@given(st.text(max_size=60), st.integers(0, 500))
def test_whatever_stands_before_it_the_last_score_is_read(text: str, hundredths: int):
    assert parse_points(f"{text}\nScore: {hundredths / 100}") == hundredths / 100


@given(st.text(alphabet="Scoreф: 0123456789./,-*½%\n٣", max_size=40))
def test_any_text_gives_points_in_range_or_a_reason(text: str):
    found = parse_points(f"Score:{text}")
    assert isinstance(found, str) or 0 <= found <= 5


def test_braces_in_what_is_rated_stay_what_they_are():
    template = rating_template("{instruction}|{response}|{ x }|{}", "t")
    assert template.fill(instruction="{response}", response="{instruction} {0} {x}") == (
        "{response}|{instruction} {0} {x}|{ x }|{}"
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{instruction}", r"template t lacks the placeholder \{response\}: it must hold \{instruction\}, \{response\}"),
        ("{response}", r"lacks the placeholder \{instruction\}"),
        ("{instruction} {response} {answer}", r"template t holds the unknown placeholder \{answer\}: it may hold"),
    ],
)
def test_a_missing_or_unknown_placeholder_is_refused(text: str, problem: str):
    with pytest.raises(ValueError, match=problem):
        rating_template(text, "t")


def test_an_optional_placeholder_may_stand_or_not():
    for text, filled in (("{a} {b}", "1 2"), ("{a}", "1")):
        assert Template(text=text, origin="t", required=("a",), optional=("b",)).fill(a="1", b="2") == filled


def test_a_scale_of_many_digits_is_another_scale():
    assert parse_points("Score: 4/" + "5" * 9000) == "other-scale"
    assert parse_points("Score: 4/05") == 4.0

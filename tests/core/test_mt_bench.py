"""The rating's parser against every trap that a judge sets, and the means against arithmetic by hand."""

import math
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossward.core.mt_bench import NoRating, Question, Rating, clustered_error, parse_rating, reasons, score

RATED = {
    "[[7.5]]": 7.5,
    "[[7/10]]": 7.0,
    "[[ 7 / 10 ]]": 7.0,
    "[[8.5/10]]": 8.5,
    "[[ 7 ]]": 7.0,
    "[[\u00a07\n]]": 7.0,
    "[[8,5]]": 8.5,
    "[[07]]": 7.0,
    "[[8.]]": 8.0,
    "[[1]]": 1.0,
    "[[10]]": 10.0,
    "[[10,0]]": 10.0,
    "[[٧]]": 7.0,  # Arabic-Indic
    "[[٨٫٥]]": 8.5,  # with its own decimal separator
    "[[۷]]": 7.0,  # Persian
    "[[७.५]]": 7.5,  # Devanagari
    "[[৭,৫]]": 7.5,  # Bengali
    "[[๑๐]]": 10.0,  # Thai
    "［［８．５］］": 8.5,  # full width
    "format [[5]] ... Rating: [[9]]": 9.0,
    "Not [[9]]. Rating: [[2]] [[3]]": 2.0,
    "Rating: [[7]] out of [[10]]": 7.0,
    "final: [[8]]\n\nNote: matrix [[2]]": 8.0,
    "see [1] ... Rating: [[8]]": 8.0,
    "Rating: [[8]], as said in [1] and [2].": 8.0,
    "[[1, 2], [3, 4]] has the determinant -2: [[6]]": 6.0,
    "x[[0]] = 3; Rating: [[4]]": 4.0,
    r"Rating: \[\[8\]\]": 8.0,
    "**Rating: [[8]]**": 8.0,
    "Rating: [[**8**]]": 8.0,
    "[[Rating: 8]]": 8.0,
    "[[Puntuación: 8,5]]": 8.5,
    "[[评分：8]]": 8.0,
    "Rating: [8]": 8.0,
    "**Rating:** [8] for its clarity": 8.0,
    "评分：[8]": 8.0,
    "I would give it a [6].": 6.0,
    "[7/10]": 7.0,
}
NOT_RATED = {
    "": "no rating in double brackets",
    "Very good, 9 of 10.": "no rating in double brackets",
    "see [1] ... Rating: 8": "no rating in double brackets",
    "[[15]]": "'15' is outside 1 to 10",
    "[[0]]": "'0' is outside 1 to 10",
    "[[0,9]]": "'0,9' is outside 1 to 10",
    "[[10.01]]": "'10.01' is outside 1 to 10",
    "[[" + "9" * 5000 + "]]": "is outside 1 to 10",
    "[[5]], no: [[15]]": "'15' is outside 1 to 10",
    "[[-3]]": "no number: '-3'",
    "[[]]": "no number: ''",
    "[[rating]]": "no number: 'rating'",
    "[[5]] ... [[rating]]": "no number: 'rating'",
    "[[8/5]]": "no number: '8/5'",
    "[[8-9]]": "no number: '8-9'",
    "[[1,000]]": "no number: '1,000'",
    "[[1e1]]": "no number: '1e1'",
    "[[8.5.1]]": "no number: '8.5.1'",
    "[[nan]]": "no number: 'nan'",
    "[[²]]": "no number: '²'",
    "[15]": "'15' is outside 1 to 10",
}
DIGITS = [chr(c) for c in range(0x110000) if chr(c).isdecimal()]


def question(id: str, category: str = "math", language: str = "es") -> Question:
    return Question(id=id, language=language, category=category, turns=("¿Uno?", "¿Dos?"))


def ratings(values: dict[str, tuple[float | None, float | None]], language: str = "es") -> list[Rating]:
    return [
        Rating(question=question(id, language=language), turn=turn, value=value, reason=None if value else "asked once")
        for id, both in values.items()
        for turn, value in enumerate(both, start=1)
    ]


@pytest.mark.parametrize("text", RATED)
def test_a_rating_is_read_however_it_is_written(text: str):
    assert parse_rating(text) == RATED[text]


@pytest.mark.parametrize("text", NOT_RATED)
def test_what_is_no_rating_is_none_and_says_why(text: str):
    found = parse_rating(text)
    assert isinstance(found, NoRating)
    assert NOT_RATED[text] in found.reason


@given(
    before=st.text(st.characters(exclude_categories=["Cs"])),
    whole=st.integers(0, 30),
    decimals=st.none() | st.integers(0, 99),
    zeros=st.integers(0, 2),
    comma=st.booleans(),
    blanks=st.tuples(*[st.sampled_from(["", " ", "\u00a0", "\n"])] * 2),
    of_ten=st.booleans(),
    after=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="[]［］\\")),
    script=st.sampled_from([digit for digit in DIGITS if unicodedata.decimal(digit) == 0]),
)
def test_the_last_brackets_decide_in_any_script(
    before: str,
    whole: int,
    decimals: int | None,
    zeros: int,
    comma: bool,
    blanks: tuple[str, str],
    of_ten: bool,
    after: str,
    script: str,
):
    number = "0" * zeros + str(whole)
    value = float(whole)
    if decimals is not None:
        number += ("," if comma else ".") + f"{decimals:02d}"
        value += decimals / 100
    number += "/10" if of_ten else ""
    theirs = "".join(chr(ord(script) + int(c)) if c.isdigit() else c for c in number)
    found = parse_rating(f"{before} [[{blanks[0]}{theirs}{blanks[1]}]] {after}")
    if 1 <= value <= 10:
        assert found == pytest.approx(value)
    else:
        assert isinstance(found, NoRating)


@given(st.text())
def test_any_text_gives_a_number_in_the_range_or_a_reason(text: str):
    found = parse_rating(text)
    assert (isinstance(found, NoRating) and found.reason) or 1 <= found <= 10


@given(st.text(st.sampled_from("[]\\8, /10:*五")))
def test_brackets_in_any_disorder_give_a_number_in_the_range_or_a_reason(text: str):
    found = parse_rating(text)
    assert (isinstance(found, NoRating) and found.reason) or 1 <= found <= 10


def test_temperatures_and_references_by_category():
    warmth = {category: question("1", category).temperature for category in ("writing", "stem", "coding", "cooking")}
    assert warmth == {"writing": 0.7, "stem": 0.1, "coding": 0.0, "cooking": 0.0}
    assert question("1", "roleplay").temperature == 0.7
    assert question("1", "humanities").temperature == 0.1
    assert [question("1", c).needs_reference for c in ("math", "reasoning", "coding", "extraction")] == [1, 1, 1, 0]


def test_the_mean_is_over_both_turns_and_its_error_is_clustered_by_question():
    found = score(ratings({"a": (8.0, 6.0), "b": (4.0, 2.0)}))
    # Mean (8 + 6 + 4 + 2) / 4 = 5; residual sums 4 and -4; √(2/1 · (16 + 16)) / 4 = 2.
    assert (found.mean, found.standard_error) == (5.0, 2.0)
    assert (found.n_questions, found.n_rated, found.n_null) == (2, 4, 0)
    assert (found.low, found.high) == (3.0, 7.0)


def test_nulls_are_counted_and_leave_the_mean_to_the_rest():
    rows = ratings({"a": (8.0, None), "b": (4.0, 3.0), "c": (None, None)})
    found = score(rows)
    assert (found.mean, found.n_questions, found.n_rated, found.n_null) == (5.0, 2, 3, 3)
    assert reasons(rows) == {"asked once": 3}
    nothing = score(ratings({"a": (None, None)}))
    assert (nothing.mean, nothing.standard_error, nothing.low, nothing.n_null) == (None, None, None, 2)
    one = score(ratings({"a": (8.0, 6.0)}))
    assert (one.mean, one.standard_error, one.high) == (7.0, None, None)


def test_a_question_in_two_languages_is_one_cluster():
    values = {"a": (8.0, 6.0), "b": (4.0, 2.0)}
    both = score(ratings(values) + ratings(values, "fr"))
    assert both.standard_error == score(ratings(values)).standard_error
    assert both.n_questions == 2


def test_with_one_value_a_cluster_the_error_is_the_usual_one():
    values = [3.0, 4.0, 8.0, 1.0, 5.5]
    mean = sum(values) / 5
    expected = math.sqrt(sum((value - mean) ** 2 for value in values) / 4 / 5)
    assert clustered_error([(str(k), value) for k, value in enumerate(values)]) == pytest.approx(expected)

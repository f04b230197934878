"""What answers show by themselves: by hand, against slow plain definitions, and by invariants."""

import random
from itertools import takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossward.core.answer_measures import (
    LOOP_CHARS,
    LOOP_TIMES,
    AnswerMeasures,
    _own_matches,
    code_switching,
    identified_as,
    is_looping,
    mean_measures,
    measure,
    prose,
    repetition,
    sentences,
)
from crossward.core.language import Identification
from crossward.core.records import Response

TEXT = st.text(alphabet="ab \n`.!。", max_size=60)


def told(language: str | None, confidence: float = 1.0) -> Identification:
    return Identification(language=language, confidence=confidence)


def row(prompt: str, answer: int = 0, **changes: object) -> AnswerMeasures:
    plain = measure(
        Response(text="Hola."), prompt_id=prompt, language="es", answer=answer,
        identified=told("es"), by_sentence=[], chrf=None,
    )  # fmt: skip
    return AnswerMeasures(**{name: getattr(plain, name) for name in AnswerMeasures.__slots__} | changes)


def test_repetition_by_hand():
    """abab has the pairs ab, ba, ab; a row of six equal characters has one triple, four times."""
    assert repetition("abab", n=2) == pytest.approx(1 / 3)
    assert repetition("aaaaaa", n=3) == pytest.approx(3 / 4)
    assert repetition("a  \n b", n=3) == 0.0  # "a b": one triple
    assert repetition("", n=3) == repetition("ab", n=3) == 0.0


def test_repetition_sees_a_loop_without_spaces():
    varied = "".join(chr(0x4E00 + i) for i in range(200))
    assert repetition(varied) == 0.0
    assert repetition("我喜欢苹果。" * 40) > 0.95


@pytest.mark.parametrize(
    ("text", "looping"),
    [
        ("Here it is: " + "and so on, " * 4, True),
        ("Here it is: " + "and so on, " * 3, False),  # three times only
        ("Here it is: " + "and so on, " * 4 + "and s", True),  # the last one was cut
        ("Here it is: " + "and so on, " * 6 + "and then it ended well.", False),  # it came out of it
        ("好的。" * 20, True),
        ("!" * LOOP_CHARS, True),
        ("!" * (LOOP_CHARS - 1), False),
        ("one\n\n" * 8, True),  # white space of any kind
        ("and so on, " * 4, True),  # from its first word on
        ("", False),
    ],
)
def test_looping_by_hand(text: str, looping: bool):
    assert is_looping(text) is looping


@given(st.text(alphabet="ab ", max_size=90), st.integers(1, 9))
def test_looping_is_what_trying_every_period_says(text: str, times: int):
    text = text[:20] + text[20:40] * times
    plain = " ".join(["", *text.split()])

    def repeats(period: int) -> int:
        length = period
        while length < len(plain) and plain[-length - 1] == plain[-length - 1 + period]:
            length += 1
        return length

    slow = any(repeats(p) >= max(LOOP_TIMES * p, LOOP_CHARS) for p in range(1, len(plain)))
    assert is_looping(text) is slow


@given(st.text(alphabet="ab", max_size=40))
def test_own_matches_are_what_comparing_says(text: str):
    slow = [
        sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(text, text[place:], strict=False)))
        for place in range(len(text))
    ]
    assert _own_matches(text) == slow


def test_sentences_of_many_scripts():
    assert sentences("Dr.Who? Yes… no.\nv1.2 is out! ok") == ["Dr.Who?", "Yes…", "no.", "v1.2 is out!", "ok"]
    assert sentences("He left. (Really.) 'So?' Yes") == ["He left.", "(Really.)", "'So?'", "Yes"]
    assert sentences("你好。“再见！”好？是") == ["你好。", "“再见！”", "好？", "是"]
    assert sentences("नमस्ते। आप कैसे हैं? ठीक॥") == ["नमस्ते।", "आप कैसे हैं?", "ठीक॥"]
    assert sentences("كيف حالك؟ بخير.") == ["كيف حالك؟", "بخير."]
    assert sentences(" \n\n ") == []


def test_fenced_code_is_no_prose():
    text = "Before.\n```python\nprint('Hello. World.')\n```\nAfter.\n  ~~~\nopen: to the end"
    assert sentences(text) == ["Before.", "After."]
    assert prose("Use ```x``` here.") == "Use ```x``` here."  # on one line it is no fence
    assert prose("````\n```\ninside\n````\nout").strip() == "out"


@given(TEXT)
def test_no_character_of_prose_is_lost(text: str):
    assert "".join("".join(sentences(text)).split()) == "".join(prose(text).split())


def test_code_switching_by_hand():
    """Of 10 + 30 + 20 told characters 30 are surely English; the unsure sentence and the one not told do not count."""
    parts = [("x" * 10, told("es")), ("x" * 30, told("en", 0.95)), ("x" * 20, told("en", 0.89)), ("x" * 99, told(None))]
    assert code_switching(parts, "es") == pytest.approx(30 / 60)
    assert code_switching(parts[3:], "es") is None
    assert code_switching([], "es") is None
    assert code_switching(parts[1:2], "es") == 1.0


def test_one_answer():
    found = measure(
        Response(text="  \n", finish_reason="length"), prompt_id="1", language="es", answer=2,
        identified=told(None, 0.0), by_sentence=[], chrf=12.5,
    )  # fmt: skip
    assert (found.n_chars, found.empty, found.truncated, found.looping, found.identified) == (
        3,
        True,
        True,
        False,
        "unsure",
    )
    assert (found.faithful, found.code_switching, found.chrf, found.answer) == (None, None, 12.5, 2)
    assert row("1", identified=None).faithful is None
    assert (row("1", identified="en").faithful, row("1", identified="es").faithful) == (False, True)


def test_means_by_hand():
    """Prompt 1 has two answers: the mean is over answers. Fidelity is over the three whose language is known."""
    rows = [
        row("1", 0, n_chars=10),
        row("1", 1, n_chars=20, identified="en"),
        row("2", n_chars=60, identified="unsure"),
        row("3", n_chars=30, truncated=None),
    ]
    found = mean_measures(rows)
    assert (found["n_chars"].interval.estimate, found["n_chars"].n_answers) == (30.0, 4)
    assert found["fidelity"].interval.estimate == pytest.approx(2 / 3)
    assert (found["fidelity"].n_answers, found["truncated"].n_answers) == (3, 3)
    assert found["n_chars"].interval.low >= 10
    assert found["n_chars"].interval.high <= 60
    assert "chrf" not in found
    assert identified_as(rows) == {"en": 1, "es": 2, "unsure": 1}
    assert identified_as([*rows, row("4", identified=None)]) is None
    assert mean_measures([]) == {}


def test_means_know_no_order():
    rows = [row(str(i % 7), i, n_chars=i * i, identified="es" if i % 3 else "en", chrf=float(i)) for i in range(40)]
    mixed = rows.copy()
    random.Random(0).shuffle(mixed)
    first, second = mean_measures(rows), mean_measures(mixed)
    assert first.keys() == second.keys()
    for name, mean in first.items():
        other = second[name].interval
        assert (other.estimate, other.low, other.high) == pytest.approx(
            (mean.interval.estimate, mean.interval.low, mean.interval.high)
        )
    assert identified_as(rows) == identified_as(mixed)


def test_intervals_resample_prompts_and_not_answers():
    """Ten equal answers of one prompt are one observation: ten times the answers, the same interval."""
    once = [row(str(i), n_chars=i) for i in range(20)]
    often = [row(str(i), k, n_chars=i) for i in range(20) for k in range(10)]
    assert mean_measures(once)["n_chars"].interval == mean_measures(often)["n_chars"].interval

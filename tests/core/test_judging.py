"""A judge's question and answer by hand: templates, order, tokens, letters, keys."""

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossward.core.judging import (
    Comparison,
    estimated_tokens,
    from_logprobs,
    from_text,
    model_shown_first,
    named,
    orders,
    parse_template,
    question_key,
)

COMPARISON = Comparison(
    id="1", language="es", instruction="¿Qué?", model="one", baseline="base",
    model_answer="mine {output_1}", baseline_answer="theirs",
)  # fmt: skip
TEMPLATE = parse_template(
    "<|im_start|>system\nBe fair.\n<|im_end|>\n<|im_start|>user\n{instruction} m: {output_1} M: {output_2}\n<|im_end|>",
    "t",
)


def test_the_template_is_filled_in_either_order_and_never_twice():
    first = TEMPLATE.render(COMPARISON, model_first=True)
    assert first == (
        {"role": "system", "content": "Be fair."},
        {"role": "user", "content": "¿Qué? m: mine {output_1} M: theirs"},
    )
    assert TEMPLATE.render(COMPARISON, model_first=False)[1]["content"] == "¿Qué? m: theirs M: mine {output_1}"


def test_a_template_without_blocks_is_one_user_message():
    assert parse_template("{instruction}{output_1}{output_2}", "t").messages == (
        ("user", "{instruction}{output_1}{output_2}"),
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{instruction} {output_1}", r"template t lacks the placeholder \{output_2\}"),
        ("<|im_start|>judge\n{instruction}{output_1}{output_2}\n<|im_end|>", "template t: unknown role 'judge'"),
    ],
)
def test_templates_that_ask_nothing(text: str, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        parse_template(text, "t")


def test_the_order_is_alpaca_evals_draw():
    for instruction in ("What is the sea?", "¿Qué es el mar?", ""):
        draw = random.Random("is_switched_outputs" + instruction + "0").choices([False, True], k=1)[0]
        assert model_shown_first(instruction, 0) is draw
    shown = [model_shown_first(f"instruction {i}", 0) for i in range(2000)]
    assert 0.45 < sum(shown) / 2000 < 0.55
    assert orders("x", "both", 0) == (False, True)
    assert orders("x", "seeded", 7) == (model_shown_first("x", 7),)


def log(**shares: float) -> dict[str, float]:
    return {token: math.log(share) for token, share in shares.items()}


def test_the_preference_is_the_probability_of_a_name_among_both():
    found = from_logprobs([{**log(m=0.1, M=0.3), "▁M": math.log(0.2), "Ġm": math.log(0.1), "The": math.log(0.2)}])
    assert found is not None
    assert found.second_better == pytest.approx(0.5 / 0.7)  # M: .3 + .2, m: .1 + .1
    assert (found.first, found.second, found.source) == (pytest.approx(0.2), pytest.approx(0.5), "logprobs")
    only = from_logprobs([log(M=0.4, The=0.1)])
    assert only is not None
    assert only.second_better == 1.0


def test_what_a_judge_puts_around_the_name_is_passed_over_and_what_it_says_instead_is_not():
    found = from_logprobs([{'"': -0.1, "The": -3.0}, log(m=0.75, M=0.25)])
    assert found is not None
    assert found.second_better == pytest.approx(0.25)
    assert from_logprobs([log(Lo=0.9, siento=0.05), log(m=0.9)]) is None
    assert from_logprobs([]) is None
    assert from_logprobs([{}]) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("m", 0.0), ("M", 1.0), (' "M".', 1.0), ("**m**", 0.0), ("Model M is better", 1.0), ("(M)", 1.0),
        ("m or M", None), ("", None), ("Mm", None), ("I'm sure", None), ("Lo siento", None), ("«M»", 1.0),
    ],
)  # fmt: skip
def test_the_letter_alone(text: str, expected: float | None):
    found = from_text(text)
    assert (None if found is None else found.second_better) == expected
    assert found is None or found.source == "letter"


@given(st.sampled_from("mM"), st.text(alphabet=" \"'*_.▁Ġ()", max_size=6), st.text(alphabet=" \"'*_.()", max_size=6))
def test_nothing_around_a_name_changes_it(name: str, before: str, after: str):
    assert named(before + name + after) == name


def test_the_key_covers_all_that_decides_an_answer():
    shown = TEMPLATE.render(COMPARISON, model_first=True)
    others = [
        ("other judge", shown, {"temperature": 0.0}),
        ("judge", TEMPLATE.render(COMPARISON, model_first=False), {"temperature": 0.0}),
        ("judge", TEMPLATE.render(replace(COMPARISON, model_answer="x"), model_first=True), {"temperature": 0.0}),
        ("judge", TEMPLATE.render(replace(COMPARISON, baseline_answer="x"), model_first=True), {"temperature": 0.0}),
        ("judge", TEMPLATE.render(replace(COMPARISON, instruction="x"), model_first=True), {"temperature": 0.0}),
        ("judge", shown[1:], {"temperature": 0.0}),
        ("judge", shown, {"temperature": 1.0}),
    ]
    keys = {question_key(*asked) for asked in [("judge", shown, {"temperature": 0.0}), *others]}
    assert len(keys) == len(others) + 1
    assert question_key("judge", list(shown), {"temperature": 0.0}) in keys


def test_the_estimate_is_a_quarter_of_the_bytes():
    assert estimated_tokens([{"role": "user", "content": "ab" * 20}, {"role": "user", "content": "ж" * 20}]) == 28

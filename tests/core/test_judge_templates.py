"""Templates hold their placeholders and no other; what fills them is never filled itself."""

from typing import Any

import pytest

from crossward.core.judge_templates import REQUIRED, JudgeTemplates
from crossward.core.mt_bench import Question

TEXTS = {name: "{language}|" + "|".join(f"{{{place}}}" for place in places) for name, places in REQUIRED.items()}
ANSWERS = ("A1 {question_2}", "A2 {reference_1}")


def templates(**changes: str) -> JudgeTemplates:
    return JudgeTemplates(texts=TEXTS | changes, origins={name: f"t/{name}.txt" for name in TEXTS})


def question(category: str, references: tuple[str, str] | None) -> Question:
    return Question(id="81", language="sw", category=category, turns=("Q1 {answer_1}", "Q2"), references=references)


@pytest.mark.parametrize(
    ("category", "references", "turn", "expected"),
    [
        ("writing", None, 1, "Swahili|Q1 {answer_1}|A1 {question_2}"),
        ("writing", ("R1", "R2"), 1, "Swahili|Q1 {answer_1}|A1 {question_2}"),
        ("math", ("R1", "R2"), 1, "Swahili|Q1 {answer_1}|A1 {question_2}|R1"),
        ("math", None, 2, "Swahili|Q1 {answer_1}|A1 {question_2}|Q2|A2 {reference_1}"),
        ("math", ("R1", "R2"), 2, "Swahili|Q1 {answer_1}|A1 {question_2}|Q2|A2 {reference_1}|R1|R2"),
    ],
)
def test_each_turn_has_its_template_and_math_its_reference(category: str, references: Any, turn: int, expected: str):
    assert templates().render(question(category, references), ANSWERS, turn) == expected


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_or_unknown_placeholder_is_refused(name: str):
    for place in REQUIRED[name]:
        with pytest.raises(ValueError, match=rf"template t/{name}.txt lacks the placeholder \{{{place}\}}: it must"):
            templates(**{name: TEXTS[name].replace(f"{{{place}}}", "")})
    with pytest.raises(ValueError, match=rf"template t/{name}.txt holds the unknown placeholder \{{quesiton_1\}}"):
        templates(**{name: TEXTS[name] + "{quesiton_1}"})
    if not name.endswith("reference"):
        with pytest.raises(ValueError, match=r"unknown placeholder \{reference_1\}"):
            templates(**{name: TEXTS[name] + "{reference_1}"})


def test_other_braces_are_text_and_the_language_may_be_left_out():
    text = 'Answer {"rating": {}} {{x}} {question_1} {answer_1}'.replace("{{x}}", "{ x }")
    filled = templates(**{"turn-1": text}).render(question("writing", None), ANSWERS, 1)
    assert filled == 'Answer {"rating": {}} { x } Q1 {answer_1} A1 {question_2}'

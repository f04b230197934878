"""Under which instruction a response is judged: every view, and every way to steer."""

import pytest

from crossward.core.instructions import PAPERS, STEERING_LINE, TARGET_LINES, Steering, judged_under
from crossward.core.language import language_name
from crossward.core.records import Prompt

SPANISH = Prompt(id="1", language="es", instruction="Di hola.", english_instruction="Say hello.")
ENGLISH = Prompt(id="1", language="en", instruction="Say hello.", english_instruction="Say hello.")


def test_the_papers_line_stands_before_the_english_twin():
    line, empty, twin = judged_under(SPANISH, "crosslingual").split("\n")
    assert line == STEERING_LINE.replace("{language}", "Spanish")
    assert (empty, twin) == ("", "Say hello.")


@pytest.mark.parametrize("view", ["crosslingual", "multilingual", "translated"])
@pytest.mark.parametrize("steering", [PAPERS, Steering(place="after"), Steering(language="target")])
def test_english_is_judged_as_it_is(view, steering: Steering):
    assert judged_under(ENGLISH, view, steering) == "Say hello."


def test_the_line_moves_goes_and_speaks_the_language():
    assert judged_under(SPANISH, "crosslingual", Steering(place="none")) == "Say hello."
    after = judged_under(SPANISH, "crosslingual", Steering(place="after", line="Only {language}!"))
    assert after == "Say hello.\n\nOnly Spanish!"
    target = judged_under(SPANISH, "crosslingual", Steering(language="target"))
    assert target == f"{TARGET_LINES['es']}\n\nSay hello."
    own = judged_under(SPANISH, "crosslingual", Steering(lines={"es": "¡En español!"}))
    assert own == "¡En español!\n\nSay hello."


def test_other_braces_in_a_line_are_text():
    line = Steering(line="Reply in {language} as {json}.")
    assert judged_under(SPANISH, "crosslingual", line).startswith("Reply in Spanish as {json}.")


def test_a_language_without_a_line_of_its_own_is_told():
    prompt = Prompt(id="1", language="fi", instruction="Sano hei.", english_instruction="Say hello.")
    with pytest.raises(ValueError, match=r"in Finnish \(fi\): give one as reward.steering.lines.fi"):
        judged_under(prompt, "crosslingual", Steering(language="target"))


def test_every_target_line_is_of_a_known_language_and_its_own():
    assert len({language_name(code) for code in TARGET_LINES}) == len(set(TARGET_LINES.values())) == 12

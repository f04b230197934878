"""Pairs by the direction of translation: who wins on which prompt, and every reason for none."""

import pytest

from crossward.core.direction import english_pair, native_pair
from crossward.core.records import PreferencePair, Prompt, Response, Skipped

SPANISH = Prompt(id="1", language="es", instruction="Di hola.", english_instruction="Say hello.")
ENGLISH = Prompt(id="1", language="en", instruction="Say hello.", english_instruction="Say hello.")


def test_english_answers_win_on_both_prompts():
    native = native_pair(SPANISH, Response(text="Hola, amigo."), Response(text="Hola.", token_ids=(4, 5)))
    assert isinstance(native, PreferencePair)
    assert (native.prompt, native.chosen.response.text, native.rejected.response.text) == (
        SPANISH,
        "Hola, amigo.",
        "Hola.",
    )
    assert (native.chosen.score, native.rejected.score, native.rejected.n_response_tokens) == (1.0, 0.0, 2)
    english = english_pair(ENGLISH, Response(text="Hello, friend."), Response(text="Hello."))
    assert isinstance(english, PreferencePair)
    assert (english.prompt, english.chosen.response.text) == (ENGLISH, "Hello, friend.")


CUT = Response(text="Hola, am", finish_reason="length")


@pytest.mark.parametrize(
    ("translated", "answer", "reason"),
    [
        (Response(text=""), Response(text="Hola."), "untranslated"),
        (Response(text="Hola."), Response(text=" "), "empty"),
        (Response(text="Hola."), CUT, "truncated"),
        (Response(text="Hola."), Response(text="Hola."), "tie"),
    ],
)
def test_every_reason_for_no_pair(translated: Response, answer: Response, reason: str):
    assert native_pair(SPANISH, translated, answer) == Skipped(prompt=SPANISH, reason=reason)
    assert english_pair(ENGLISH, answer, translated) == Skipped(prompt=ENGLISH, reason=reason)

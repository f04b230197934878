"""Rounds, checks and what is kept: duplicates once, retries differ, a stop loses a window at most."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from crossward.core.language import Identification
from crossward.core.translation import Translation
from crossward.engines.protocols import Advance, no_progress
from crossward.pipeline.translating import TranslationTally, rounds, translate_texts
from crossward.store.keyed_lines import KeyedLines

GOOD = {"One 1": "Uno 1", "Two 2": "Dos 2", "Three 3": "Tres 3", "Four 4": "Cuatro 4", "Five 5": "Cinco 5"}


class Scripted:
    """A translator that says what it is told to, attempt by attempt, and remembers what it was asked."""

    name = "scripted"

    def __init__(
        self, script: Mapping[str, Sequence[str | Translation]], identity: str = "a", dies_at: int = -1
    ) -> None:
        self.identity = identity
        self.asked: list[tuple[int, list[str]]] = []
        self._script = script
        self._dies_at = dies_at

    def translate(
        self, texts: Sequence[str], *, source: str, target: str, attempt: int = 0, advance: Advance = no_progress
    ) -> list[Translation]:
        if len(self.asked) == self._dies_at:
            raise KeyboardInterrupt
        self.asked.append((attempt, list(texts)))
        advance(len(texts))
        said = [self._script.get(text, [GOOD.get(text, text)]) for text in texts]
        chosen = [one[min(attempt, len(one) - 1)] for one in said]
        return [one if isinstance(one, Translation) else Translation(text=one) for one in chosen]

    def close(self) -> None:
        """Nothing is held."""


class German:
    """An identifier that calls every text with "der" German, and is asked for prose alone."""

    def __init__(self, unsupported: tuple[str, ...] = ()) -> None:
        self.unsupported = unsupported
        self.asked: list[str] = []

    def identify(self, texts: Sequence[str]) -> list[Identification]:
        self.asked += texts
        return [Identification(language="de" if "der" in text else "es", confidence=1.0) for text in texts]


def translated(translator: Scripted, texts: Sequence[str] = tuple(GOOD), **more: Any) -> list[Translation]:
    settings: dict[str, Any] = {"attempts": 3} | more
    return translate_texts(translator, texts, source="en", target="es", **settings)


def test_equal_texts_are_asked_once_and_blank_ones_never():
    translator, told = Scripted({}), []
    found = translated(translator, ["One 1", "Two 2", "One 1", " ", ""], advance=told.append)
    assert [one.text for one in found] == ["Uno 1", "Dos 2", "Uno 1", " ", ""]
    assert translator.asked == [(0, ["One 1", "Two 2"])]
    assert sum(told) == 5


def test_a_text_in_the_target_language_is_its_own_translation():
    translator = Scripted({})
    found = translate_texts(translator, ["One 1"], source="en", target="en", attempts=3)
    assert (found, translator.asked) == ([Translation(text="One 1")], [])


def test_what_has_a_problem_is_asked_again_and_nothing_else():
    no_tags = Translation(text=None, problem="no-tags", draft="Eins")
    translator = Scripted({"One 1": [no_tags, "Uno", "Uno 1"], "Two 2": ["Dos"], "Three 3": ["Tres", "Tres 3"]})
    told: list[int] = []
    found = translated(translator, advance=told.append)
    assert translator.asked == [
        (0, list(GOOD)),
        (1, ["One 1", "Two 2", "Three 3"]),
        (2, ["One 1", "Two 2"]),
    ]
    assert [one.text for one in found] == ["Uno 1", None, "Tres 3", "Cuatro 4", "Cinco 5"]
    assert found[1] == Translation(text=None, problem="number-lost", draft="Dos")
    assert sum(told) == 5


@pytest.mark.parametrize("reason", ["too-long", "refused"])
def test_what_would_end_the_same_way_is_not_asked_again(reason: Any):
    translator = Scripted({"One 1": [Translation(text=None, problem=reason)]})
    assert translated(translator)[0].problem == reason
    assert [attempt for attempt, _ in translator.asked] == [0]


def test_checks_can_be_left_out():
    translator = Scripted({"Two 2": ["Dos"]})
    assert translated(translator, checks=False)[1].text == "Dos"
    assert len(translator.asked) == 1


def test_the_language_is_asked_of_the_prose_and_not_where_it_is_unknown():
    script = {"Two 2": ["der `der` 2", "Dos 2"]}
    identifier = German()
    found = translated(Scripted(script), ["Two 2"], identifier=identifier)
    assert found[0].text == "Dos 2"
    assert [text.split() for text in identifier.asked] == [["der", "2"], ["Dos", "2"]]
    blind = translated(Scripted(script), ["Two 2"], identifier=German(unsupported=("es",)))
    assert blind[0].text == "der `der` 2"


def test_further_problems_are_told_too():
    (found,) = translated(Scripted({"Two 2": ["der"]}), ["Two 2"], identifier=German(), attempts=1)
    assert found == Translation(text=None, problem="wrong-language", draft="der", also=("number-lost",))


def test_a_stop_loses_one_window_and_the_rest_is_never_asked_again(tmp_path: Path):
    script = {"One 1": ["Uno", "Uno 1"], "Five 5": ["Cinco", "Cinco 5"]}
    undisturbed = translated(Scripted(script))
    with KeyedLines(tmp_path / "kept") as kept:
        dying = Scripted(script, dies_at=2)
        with pytest.raises(KeyboardInterrupt):
            translated(dying, kept=kept, window=2)
    assert dying.asked == [(0, ["One 1", "Two 2"]), (0, ["Three 3", "Four 4"])]
    with KeyedLines(tmp_path / "kept") as kept:
        second, told = Scripted(script), []
        assert translated(second, kept=kept, window=2, advance=told.append) == undisturbed
        assert second.asked == [(0, ["Five 5"]), (1, ["One 1", "Five 5"])]
        assert sum(told) == 5
        size = (tmp_path / "kept").stat().st_size
        third = Scripted(script)
        assert translated(third, kept=kept, window=2) == undisturbed
        assert third.asked == []
        assert (tmp_path / "kept").stat().st_size == size


def test_another_translator_language_or_attempt_is_another_question(tmp_path: Path):
    with KeyedLines(tmp_path / "kept") as kept:
        for identity, target in (("a", "es"), ("b", "es"), ("a", "de")):
            translator = Scripted({}, identity=identity)
            translate_texts(translator, ["One 1"], source="en", target=target, attempts=1, kept=kept)
            assert len(translator.asked) == 1
        assert len(kept) == 3


def test_a_window_is_asked_whole_where_one_of_it_is_missing(tmp_path: Path):
    with KeyedLines(tmp_path / "kept") as kept:
        translated(Scripted({}), ["One 1"], kept=kept, window=1)
        second = Scripted({})
        translated(second, ["One 1", "Two 2", "Three 3"], kept=kept, window=2)
        assert second.asked == [(0, ["One 1", "Two 2"]), (0, ["Three 3"])]


def test_counts_by_the_last_reason_and_by_every_attempt():
    tally = TranslationTally()
    lost, wrong = (Translation(text=None, problem=reason) for reason in ("number-lost", "wrong-language"))
    for tried in ([Translation(text="a")], [lost, Translation(text="a")], [lost, wrong], [wrong, wrong]):
        tally.add(tried)
    assert tally.counts() == {
        "n_prompts": 4,
        "n_translated": 2,
        "n_retried": 1,
        "n_failed": 2,
        "failed": {"wrong-language": 2},
        "failed_attempts": {"wrong-language": 3, "number-lost": 2},
    }


def test_rounds_end_when_nothing_is_left():
    asked: list[int] = []

    def ask(pending: Sequence[str], attempt: int) -> list[Translation]:
        asked.append(attempt)
        return [Translation(text=text) for text in pending]

    assert rounds(["a", "b"], 5, ask) == {"a": [Translation(text="a")], "b": [Translation(text="b")]}
    assert rounds([], 5, ask) == {}
    assert asked == [0]

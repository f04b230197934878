"""Languages of lists, by hand; and that every word for a thing is told apart."""

import pytest

from crossward.core.language import Identification
from crossward.engines.protocols import LanguageIdentifier
from crossward.tinyworld.identifier import VocabularyIdentifier
from crossward.tinyworld.vocabulary import CATEGORIES, LANGUAGES, items
from crossward.tinyworld.world import requests


@pytest.fixture(scope="module")
def identifier() -> LanguageIdentifier:
    return VocabularyIdentifier(LANGUAGES)


@pytest.mark.parametrize(
    ("text", "language", "confidence"),
    [
        ("1 perro 2 gato 3 vaca .", "es", 1.0),
        ("perro , gato , dog ...", "es", 2 / 3),
        ("1 dog 2 cat 3 vaca 4 Hund .", "en", 0.5),  # no majority is needed, only more than every other
        ("perro , dog .", None, 0.5),  # as many of each
        ("perro gato gato dog", "es", 0.75),  # not a list: its words tell all the same
        ("1 2 3 .", None, 0.0),
        ("", None, 0.0),
        ("six", None, 0.0),  # English and French
        ("xyz perro", "es", 1.0),  # a word that no language has says nothing
    ],
)
def test_by_hand(identifier: LanguageIdentifier, text: str, language: str | None, confidence: float):
    (found,) = identifier.identify([text])
    assert found == Identification(language=language, confidence=confidence)


def test_every_word_for_a_thing_tells_its_language(identifier: LanguageIdentifier):
    for language in LANGUAGES:
        words = [word for category in CATEGORIES for word in items(category, language)]
        assert {(found.language, found.confidence) for found in identifier.identify(words)} == {(language, 1.0)}


def test_every_request_is_in_its_language(identifier: LanguageIdentifier):
    for language in LANGUAGES:
        found = identifier.identify([request.text(language) for request in requests()])
        assert {each.language for each in found} == {language}


def test_the_order_of_texts_is_kept_and_of_words_does_not_matter(identifier: LanguageIdentifier):
    texts = ["gato , dog , perro .", "Hund .", "perro , gato , dog ."]
    assert [found.language for found in identifier.identify(texts)] == ["es", "de", "es"]
    first, _, third = identifier.identify(texts)
    assert first == third


def test_languages_from_elsewhere_are_said_to_be_unsupported():
    assert VocabularyIdentifier(["es", "it", "th", "en"]).unsupported == ("it", "th")
    assert VocabularyIdentifier(LANGUAGES).unsupported == ()

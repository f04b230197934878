"""Language identification on sentences written for this test, and where it says nothing."""

import pytest

from crossward.engines.lingua_identifier import LinguaIdentifier, is_too_short

SENTENCES = {
    "en": "The quick answer is that nobody really knows how long it will take.",
    "de": "Die kurze Antwort lautet, dass niemand wirklich weiß, wie lange es dauert.",
    "es": "La respuesta corta es que nadie sabe realmente cuánto tiempo tardará.",
    "sw": "Jibu fupi ni kwamba hakuna mtu anayejua itachukua muda gani kweli.",
    "th": "คำตอบสั้นๆ คือไม่มีใครรู้ว่าจะใช้เวลานานแค่ไหน",
    "zh": "简单的回答是没有人真正知道需要多长时间。",
}


@pytest.fixture(scope="module")
def identifier() -> LinguaIdentifier:
    return LinguaIdentifier(["de", "es", "sw", "th", "zh"])


def test_each_language_is_named_with_confidence(identifier: LinguaIdentifier):
    found = identifier.identify(list(SENTENCES.values()))
    assert [each.language for each in found] == list(SENTENCES)
    assert all(0.9 < each.confidence <= 1 for each in found)
    assert identifier.unsupported == ()


def test_english_is_always_a_candidate_and_no_other_language_is(identifier: LinguaIdentifier):
    french = "La réponse courte est que personne ne sait vraiment combien de temps cela prendra."
    english, other = LinguaIdentifier(["de"]).identify([SENTENCES["en"], french])
    assert english.language == "en"
    assert other.language in ("de", "en")
    (alone,) = LinguaIdentifier(["en"]).identify([SENTENCES["de"]])
    assert alone.language == "de"


@pytest.mark.parametrize("text", ["", "  \n", "Manzana.", "Hola, amigo.", "a b c d", "1234567890 + 42 = ???", "苹果。"])
def test_short_texts_are_nobodys(identifier: LinguaIdentifier, text: str):
    assert is_too_short(text)
    (found,) = identifier.identify([text])
    assert (found.language, found.confidence) == (None, 0.0)


def test_order_is_kept_around_short_texts(identifier: LinguaIdentifier):
    found = identifier.identify(["no", SENTENCES["sw"], "", SENTENCES["es"]])
    assert [each.language for each in found] == [None, "sw", None, "es"]


def test_unknown_languages_are_listed():
    identifier = LinguaIdentifier(["jv", "de", "am", "no"])
    assert identifier.unsupported == ("am", "jv")
    norwegian = "Det korte svaret er at ingen egentlig vet hvor lang tid det kommer til å ta."
    (found,) = identifier.identify([norwegian])
    assert found.language == "no"

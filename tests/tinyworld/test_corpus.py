"""The corpus: its shares, that each example is answered rightly, and which requests English preferences may use."""

import random
from collections import Counter

import pytest

from crossward.core.instructions import STEERING_LINE
from crossward.tinyworld.corpus import (
    KIND_SHARES,
    NATIVE_SHARES,
    SMALLEST_GOLD_GAP,
    corrupted_preferences,
    examples,
    preference,
    template_preferences,
    translation_request,
)
from crossward.tinyworld.tokenizer import build_tokenizer
from crossward.tinyworld.vocabulary import CATEGORIES, LANGUAGES, items
from crossward.tinyworld.world import Request, gold, requests

N = 20_000


def word_languages(text: str) -> set[str]:
    table = {word: language for c in CATEGORIES for language in LANGUAGES for word in items(c, language)}
    return {table[word] for word in text.split() if word in table}


@pytest.fixture(scope="module")
def corpus() -> list[tuple[str, str, str]]:
    """(kind, instruction, answer), the kind told from the instruction."""
    steering = STEERING_LINE.split("{")[0]
    found = []
    for example in examples(N, random.Random(0)):
        if example.instruction.startswith(steering):
            kind = "crosslingual"
        elif example.instruction.startswith("Translate into"):
            kind = "translation"
        else:
            kind = "native"
        found.append((kind, example.instruction, example.answer))
    return found


def test_kinds_and_languages_have_their_shares(corpus: list[tuple[str, str, str]]):
    kinds = Counter(kind for kind, _, _ in corpus)
    total = sum(KIND_SHARES.values())
    assert kinds["native"] / N == pytest.approx(KIND_SHARES["native"] / total, abs=0.015)
    assert kinds["crosslingual"] / N == pytest.approx(KIND_SHARES["crosslingual"] / total, abs=0.015)
    native = Counter(language for kind, _, answer in corpus if kind == "native" for language in word_languages(answer))
    for language, share in NATIVE_SHARES.items():
        expected = share / sum(NATIVE_SHARES.values())
        assert native[language] / sum(native.values()) == pytest.approx(expected, abs=0.015)


def test_an_answer_is_in_the_language_that_is_asked_for(corpus: list[tuple[str, str, str]]):
    by_text = {request.text(language): language for request in requests() for language in LANGUAGES}
    names = {"Spanish": "es", "German": "de", "French": "fr", "Swahili": "sw"}
    for kind, instruction, answer in corpus:
        if kind == "native":
            assert word_languages(answer) == {by_text[instruction]}
        elif kind == "crosslingual":
            (asked,) = (code for name, code in names.items() if f"only {name}," in instruction)
            assert word_languages(answer) == {asked}


def test_every_word_is_known_to_the_tokenizer(corpus: list[tuple[str, str, str]]):
    vocabulary = build_tokenizer().get_vocab()
    words = {word for _, instruction, answer in corpus for word in (*instruction.split(), *answer.split())}
    assert words <= vocabulary.keys()
    assert len(set(vocabulary.values())) == len(vocabulary)


def test_translations_are_right_by_hand():
    assert translation_request("1 gato .", "sw") == "Translate into Swahili : 1 gato ."
    found = {e.instruction: e.answer for e in examples(N, random.Random(2))}
    assert found.get("Translate into English : gato", "cat") == "cat"
    assert found.get("Translate into German : perro", "Hund") == "Hund"
    lists = [(i, a) for i, a in found.items() if i.startswith("Translate") and i.endswith(("...", " .")) and "," in i]
    assert lists
    for instruction, answer in lists:
        assert answer.count(",") == instruction.count(",")


def test_preferences_are_english_of_their_split_and_ordered_by_gold():
    allowed = requests("english-preferences")
    by_text = {request.text("en"): request for request in allowed}
    rng = random.Random(4)
    for pair in template_preferences(300, allowed, rng):
        prompt = by_text[pair.instruction].prompt("en")
        assert gold(prompt, pair.chosen) - gold(prompt, pair.rejected) >= SMALLEST_GOLD_GAP
    for pair in corrupted_preferences(300, allowed, rng):
        prompt = by_text[pair.instruction].prompt("en")
        assert pair.chosen != pair.rejected
        assert gold(prompt, pair.chosen) > gold(prompt, pair.rejected)


def test_answers_of_like_gold_give_no_preference():
    request = Request(category="animals", count=3, template=0)
    assert preference(request, "dog , cat , cow .", "cat , dog , cow .") is None
    better = preference(request, "dog , cat .", "dog , cat , cow .")
    assert better is not None
    assert better.chosen == "dog , cat , cow ."

"""Hard mode's mixing: by hand where all or nothing is mixed, its shares, what it leaves alone; and plain mode."""

import hashlib
import random
from collections import Counter

import pytest

from crossward.tinyworld.corpus import (
    Example,
    Preference,
    corrupted_preferences,
    examples,
    template_preferences,
)
from crossward.tinyworld.mixing import HARD, Mixing, mixed, mixing_of, translation
from crossward.tinyworld.vocabulary import CATEGORIES, LANGUAGES, Language, items
from crossward.tinyworld.world import Answer, Habits, features, parse, requests, write_answer

NEVER: dict[Language, float] = dict.fromkeys(LANGUAGES, 0.0)
ALWAYS: dict[Language, float] = dict.fromkeys(LANGUAGES, 1.0)
LANGUAGE_OF = {word: language for c in CATEGORIES for language in LANGUAGES for word in items(c, language)}
SPANISH = Answer(words=("perro", "gato", "gato", "vaca"), numbered=True, tidy=False)


def languages(answer: Answer) -> list[str]:
    return [LANGUAGE_OF[word] for word in answer.words]


def test_whole_lists_are_the_same_list_in_english():
    rule = Mixing(mixed=NEVER, whole=ALWAYS, item=0.5, english=1.0)
    found = mixed(SPANISH, "es", rule, random.Random(0))
    assert found.text() == "1 dog 2 cat 3 cat 4 cow ..."


def test_an_item_at_least_is_mixed_and_a_word_said_twice_stays_said_twice():
    rule = Mixing(mixed=ALWAYS, whole=NEVER, item=0.0, english=1.0)
    found = {mixed(SPANISH, "es", rule, random.Random(seed)).text() for seed in range(40)}
    assert found == {
        "1 dog 2 gato 3 gato 4 vaca ...",
        "1 perro 2 cat 3 cat 4 vaca ...",
        "1 perro 2 gato 3 gato 4 cow ...",
    }


def test_of_a_mixed_list_every_word_is_mixed_with_the_same_probability():
    rule = Mixing(mixed=ALWAYS, whole=NEVER, item=0.5, english=1.0)
    plain = Answer(words=("perro", "gato", "vaca"), numbered=False, tidy=True)
    rng = random.Random(7)
    found = [languages(mixed(plain, "es", rule, rng)) for _ in range(3000)]
    for k in range(3):  # a half, and a third of the eighth where none was drawn
        assert sum(each[k] == "en" for each in found) / 3000 == pytest.approx(1 / 2 + 1 / 24, abs=0.03)


def test_nothing_is_mixed_where_nothing_mixes():
    rule = Mixing(mixed=NEVER, whole=NEVER, item=1.0, english=1.0)
    assert all(mixed(SPANISH, "es", rule, random.Random(seed)) == SPANISH for seed in range(40))


def test_english_takes_words_of_all_others_and_others_not_of_themselves():
    rule = Mixing(mixed=NEVER, whole=ALWAYS, item=0.5, english=0.0)
    english = Answer(words=("dog", "cat"), numbered=False, tidy=True)
    rng = random.Random(1)
    assert {languages(mixed(english, "en", rule, rng))[0] for _ in range(200)} == {"es", "de", "fr", "sw"}
    assert {languages(mixed(SPANISH, "es", rule, rng))[0] for _ in range(200)} == {"de", "fr", "sw"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_hard_mode_mixes_as_often_as_it_says(language: Language):
    rng = random.Random(2)
    n, everything = 4000, requests()
    counts: Counter[str] = Counter()
    for _ in range(n):
        request = rng.choice(everything)
        plain = write_answer(request, language, Habits(), rng)
        answer = mixed(plain, language, HARD, rng)
        found = set(languages(answer))
        counts["touched"] += found != {language}
        counts["english"] += "en" in found
        assert len(found) <= 2
        assert [translation(word, language) for word in answer.words] == list(plain.words)
        assert (answer.numbered, answer.tidy) == (plain.numbered, plain.tidy)
        before, after = (features(request.prompt(language), each.text()) for each in (plain, answer))
        assert before.count == after.count
        assert (before.no_duplicates, before.category) == (after.no_duplicates, after.category)
    touched = HARD.mixed[language] + HARD.whole[language]
    assert counts["touched"] / n == pytest.approx(touched, abs=0.02)
    if language != "en":
        assert counts["english"] / counts["touched"] == pytest.approx(HARD.english, abs=0.06)


def test_rarer_languages_mix_more():
    shares = [HARD.mixed[language] + HARD.whole[language] for language in ("es", "de", "fr", "sw")]
    assert shares == sorted(shares)


def test_answers_mix_and_translations_do_not():
    found = list(examples(4000, random.Random(3), HARD))
    mixing = 0
    for example in found:
        answer = parse(example.answer)
        if answer is None:
            continue
        kinds = len(set(languages(answer)))
        if example.instruction.startswith("Translate"):
            assert kinds == 1
        else:
            mixing += kinds > 1
    assert mixing > 100


def test_english_preferences_say_something_about_foreign_words():
    allowed = requests("english-preferences")
    by_text = {request.text("en"): request for request in allowed}
    pairs = list(template_preferences(2000, allowed, random.Random(4), HARD))
    shares = [
        [features(by_text[pair.instruction].prompt("en"), text).language for text in (pair.chosen, pair.rejected)]
        for pair in pairs
    ]
    chosen, rejected = (sum(share[i] for share in shares) / len(shares) for i in (0, 1))
    assert 0.02 < chosen - rejected < 0.1
    corrupted = list(corrupted_preferences(500, allowed, random.Random(5), HARD))
    assert any(set(map(LANGUAGE_OF.get, pair.chosen.split())) - {None, "en"} for pair in corrupted)


def test_the_same_draws_give_the_same_corpus():
    assert list(examples(300, random.Random(6), HARD)) == list(examples(300, random.Random(6), HARD))
    assert mixing_of("plain") is None
    assert mixing_of("hard") is HARD


# Plain mode is what it was before there were modes: folders made then stay valid. -------------------------------------

FIRST = [
    Example(
        instruction="Translate into Spanish : oreille , pied , épaule , bouche ...",
        answer="oreja , pie , hombro , boca ...",
    ),
    Example(
        instruction="Please answer the following instruction using only Spanish, unless explicitly instructed "
        "to respond in a different language.\n\nPlease list six body parts .",
        answer="hombro , cabeza , oreja , boca , cuello , nariz ...",
    ),
    Example(instruction="Name three body parts .", answer="ear , tooth , mouth ."),
    Example(instruction="Name two tools .", answer="spoon ..."),
]


def digest(rows: list[tuple[str, ...]]) -> str:
    return hashlib.sha256("\n".join(map(repr, rows)).encode()).hexdigest()[:16]


def in_full(pairs: list[Preference]) -> list[tuple[str, ...]]:
    return [(pair.instruction, pair.chosen, pair.rejected) for pair in pairs]


def test_the_plain_corpus_is_the_recorded_one():
    found = list(examples(2000, random.Random(0)))
    assert found[: len(FIRST)] == FIRST
    assert digest([(each.instruction, each.answer) for each in found]) == "c69d86cf4ef7a41b"
    allowed = requests("english-preferences")
    assert digest(in_full(list(template_preferences(500, allowed, random.Random(1))))) == "63e36b84015c08ad"
    assert digest(in_full(list(corrupted_preferences(500, allowed, random.Random(2))))) == "ddb189eff0d80abf"

"""The world's words, splits and gold: by hand, and that nothing leaks from one split or language to another."""

import random

import pytest

from crossward.core.records import Prompt
from crossward.tinyworld.vocabulary import CATEGORIES, COUNTS, ITEMS, LANGUAGES, items
from crossward.tinyworld.world import (
    POINTS,
    SPLITS,
    Answer,
    Habits,
    Request,
    corrupt,
    features,
    gold,
    parse,
    prompts,
    request_of,
    requests,
    write_answer,
)

THREE_ANIMALS = Request(category="animals", count=3, template=0)


def test_every_word_for_a_thing_means_one_thing_in_one_language():
    words = [word for category in CATEGORIES for language in LANGUAGES for word in items(category, language)]
    assert len(words) == len(set(words)) == len(CATEGORIES) * len(LANGUAGES) * 10
    assert all(len(items(category, language)) == 10 for category in CATEGORIES for language in ITEMS[category])


def test_requests_of_one_language_differ_from_each_other():
    for language in LANGUAGES:
        texts = [request.text(language) for request in requests()]
        assert len(texts) == len(set(texts)) == len(CATEGORIES) * len(COUNTS) * 3


def test_splits_part_the_requests_by_category_and_count():
    found = [{(r.category, r.count) for r in requests(split)} for split in SPLITS]
    assert sum(map(len, found)) == len(CATEGORIES) * len(COUNTS) == len(set().union(*found))
    for split in found:
        assert {category for category, _ in split} == set(CATEGORIES)
        assert {count for _, count in split} == set(COUNTS)


def test_ids_are_parallel_and_lead_back_to_the_request():
    english, swahili = prompts("icr", "en", repeats=2), prompts("icr", "sw", repeats=2)
    assert [p.id for p in english] == [p.id for p in swahili]
    assert len({p.id for p in english}) == len(english)
    assert [p.english_instruction for p in swahili] == [p.instruction for p in english]
    assert {request_of(p) for p in swahili} == set(requests("icr"))


@pytest.mark.parametrize("name", ["17", "animals-3-t1", "planets-3-t1-r1", "animals-x-t1-r1"])
def test_an_id_from_elsewhere_is_refused(name: str):
    with pytest.raises(ValueError, match=name):
        request_of(Prompt(id=name, language="en", instruction="?", english_instruction="?"))


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("1 perro 2 gato 3 vaca .", 7.0),  # all of it
        ("perro , gato , vaca .", 6.0),  # not numbered
        ("perro , gato , vaca ...", 5.5),  # and untidy
        ("perro , gato ...", 5.5 - 2.0 - 0.25),  # one too few
        ("perro , perro , vaca ...", 5.5 - 1.5),  # one twice
        ("perro , gato , rojo ...", 5.5 - 1 / 3),  # one of three off the topic
        ("perro , gato , dog ...", 5.5 - 1 / 3),  # one of three in English
        ("perro gato vaca .", 0.0),  # no list
        ("", 0.0),
    ],
)
def test_gold_by_hand(text: str, points: float):
    assert gold(THREE_ANIMALS.prompt("es"), text) == pytest.approx(points / POINTS)


def test_gold_is_one_rule_for_all_languages():
    """The same answer, word for word in another language, has the same gold."""
    rng = random.Random(3)
    for request in requests("tuning"):
        written = write_answer(request, "en", Habits(stray_item=0), rng)
        places = [items(request.category, "en").index(word) for word in written.words]
        found = set()
        for language in LANGUAGES:
            words = tuple(items(request.category, language)[place] for place in places)
            text = Answer(words=words, numbered=written.numbered, tidy=written.tidy).text()
            found.add(round(gold(request.prompt(language), text), 9))
        assert len(found) == 1


def test_answers_have_the_qualities_that_habits_ask_for():
    rng = random.Random(0)
    answers = [(request, write_answer(request, "fr", Habits(), rng)) for request in requests() for _ in range(20)]
    found = [features(request.prompt("fr"), answer.text()) for request, answer in answers]
    assert all(item.parsed and item.language == 1 for item in found)

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    assert mean([item.numbered for item in found]) == pytest.approx(0.3, abs=0.03)
    assert mean([item.count for item in found]) == pytest.approx(0.4, abs=0.03)
    assert mean([item.tidy for item in found]) == pytest.approx(0.4, abs=0.03)
    assert mean([item.no_duplicates for item in found]) == pytest.approx(0.65, abs=0.05)


def test_text_and_answer_are_each_other_and_corrupted_text_is_worse():
    rng = random.Random(1)
    for request in requests():
        answer = write_answer(request, "de", Habits(), rng)
        assert parse(answer.text()) == answer
        prompt = request.prompt("de")
        assert gold(prompt, corrupt(answer.text(), rng)) < gold(prompt, answer.text())

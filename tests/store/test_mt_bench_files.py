"""FastChat's files: what is right is read by id, and each mistake is one sentence with file and line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crossward.core.mt_bench import Question, Rating
from crossward.store.mt_bench_files import (
    file_of,
    read_answers,
    read_questions,
    read_references,
    require_pattern,
    write_answers,
    write_ratings,
)

QUESTION = {"question_id": 101, "category": "math", "turns": ["¿Uno?", "¿Dos?"], "reference": ["Sí.", "No."]}
ANSWER = {"question_id": 101, "answer_id": "x", "choices": [{"index": 0, "turns": ["Sí.", ""]}], "tstamp": 1.5}


def written(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_questions_with_and_without_their_own_reference(tmp_path: Path):
    rows = [
        QUESTION,
        QUESTION | {"question_id": "b", "reference": ["only one"]},
        QUESTION | {"question_id": 3, "reference": ["", "No."]},
        {"question_id": 4, "category": "writing", "turns": ["a", "b"]},
        {"question_id": 5, "category": "writing", "turns": ["a", "b"], "reference": None},
    ]
    found = read_questions(written(tmp_path / "q.jsonl", *rows), "es")
    assert found[0] == Question(
        id="101", language="es", category="math", turns=("¿Uno?", "¿Dos?"), references=("Sí.", "No.")
    )
    assert [(question.id, question.references) for question in found[1:]] == [(id, None) for id in ("b", "3", "4", "5")]


def test_answers_survive_a_round_trip_and_references_are_read_from_the_same_format(tmp_path: Path):
    path = tmp_path / "deep" / "a.jsonl"
    answers = {"101": ("Sí.\u2028", ""), "b": ("1", "2"), "007": ("3", "4")}
    write_answers(path, answers, model="m", cut={"101": [False, True], "b": [False] * 2, "007": [False] * 2})
    assert read_answers(path) == answers
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert [row["question_id"] for row in rows] == [101, "b", "007"]
    assert rows[0]["choices"] == [{"index": 0, "turns": ["Sí.\u2028", ""]}]
    assert (rows[0]["model_id"], rows[0]["cut"]) == ("m", [False, True])
    with pytest.raises(ValueError, match="line 1: field 'turns' must hold two texts that are not empty, got ''"):
        read_references(path)
    reference = written(tmp_path / "gpt-4.jsonl", ANSWER | {"choices": [{"index": 0, "turns": ["Sí.", "No."]}]})
    assert read_references(reference) == {"101": ("Sí.", "No.")}


WRONG_QUESTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "one turn": ({"turns": ["¿Uno?"]}, "line 1: field 'turns' must hold two texts, one for each turn, got 1"),
    "three turns": ({"turns": ["a", "b", "c"]}, "must hold two texts, one for each turn, got 3"),
    "empty turn": ({"turns": ["a", " "]}, "must hold two texts that are not empty, got ' '"),
    "number": ({"turns": ["a", 2]}, "must hold two texts that are not empty, got 2"),
    "no list": ({"turns": "a"}, "field 'turns' must be a list, got 'a'"),
    "no turns": ({"turns": None}, "field 'turns' is missing"),
    "no id": ({"question_id": None}, "'question_id' must be a text or a whole number, got None"),
    "odd id": ({"question_id": 1.5}, "'question_id' must be a text or a whole number, got 1.5"),
    "no category": ({"category": ""}, "field 'category' must be a text that is not empty, got ''"),
    "odd reference": ({"reference": "Sí."}, "field 'reference' must be a list of texts, got 'Sí.'"),
}


@pytest.mark.parametrize("wrong", WRONG_QUESTIONS)
def test_a_wrong_question_is_one_sentence(tmp_path: Path, wrong: str):
    change, sentence = WRONG_QUESTIONS[wrong]
    with pytest.raises(ValueError, match=r"q\.jsonl, line 1: ") as caught:
        read_questions(written(tmp_path / "q.jsonl", QUESTION | change), "es")
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        ([], "must hold one object with both turns, got []"),
        (["a"], "must hold one object with both turns"),
        (ANSWER["choices"] * 2, "one answer is graded, so keep one"),
        ([{"turns": ["a"]}], "must hold two texts, one for each turn, got 1"),
        ([{"turns": ["a", None]}], "must hold two texts, got None"),
        (None, "field 'choices' is missing"),
    ],
)
def test_a_wrong_answer_is_one_sentence(tmp_path: Path, choices: Any, sentence: str):
    path = written(tmp_path / "a.jsonl", ANSWER, ANSWER | {"question_id": 2, "choices": choices})
    with pytest.raises(ValueError, match=r"a\.jsonl, line 2: ") as caught:
        read_answers(path)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("read", [read_answers, lambda path: read_questions(path, "es")])
def test_an_id_may_stand_there_once(tmp_path: Path, read: Callable[[Path], Any]):
    row = QUESTION | ANSWER
    path = written(tmp_path / "x.jsonl", row, row | {"question_id": 2}, row | {"question_id": "101"})
    with pytest.raises(ValueError, match="question_id '101' stands on lines 1 and 3: each may occur once"):
        read(path)


def test_a_path_for_several_languages_names_the_language():
    assert file_of("q/{language}/{language}.jsonl", "es") == Path("q/es/es.jsonl")
    require_pattern("q.jsonl", ["es"], "--questions")
    with pytest.raises(ValueError, match=r"--questions must hold \{language\} where there are several"):
        require_pattern("q.jsonl", ["es", "en"], "--questions")


def test_every_rating_is_written_null_or_not(tmp_path: Path):
    question = Question(id="101", language="es", category="math", turns=("a", "b"))
    ratings = [
        Rating(question=question, turn=1, value=8.5),
        Rating(question=question, turn=2, value=None, reason="asked once: why"),
    ]
    write_ratings(tmp_path / "r.jsonl", ratings, ["Bien. [[8,5]]", None], judge="J")
    rows = [json.loads(line) for line in (tmp_path / "r.jsonl").read_bytes().splitlines()]
    assert [(row["turn"], row["rating"], row["reason"], row["judgement"]) for row in rows] == [
        (1, 8.5, None, "Bien. [[8,5]]"),
        (2, None, "asked once: why", None),
    ]
    assert {(row["question_id"], row["language"], row["category"], row["judge"]) for row in rows} == {
        ("101", "es", "math", "J")
    }

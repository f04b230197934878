"""MT-Bench's files as FastChat writes them: questions, reference answers and model answers, one file a language.

Joined by question_id, never by line, and never by a judge's name. Files of another set of answers serve as well: what
is read is `question_id` and `choices[0].turns`. Every mistake is a ValueError with file and line.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from crossward.core.mt_bench import Question, Rating
from crossward.store.json_fields import list_of, shown, text_of
from crossward.store.json_lines import Row, read_json_lines, write_json_lines

PLACE = "{language}"
Turns = tuple[str, str]
Value = TypeVar("Value")


def file_of(pattern: str, language: str) -> Path:
    """The file of one language: `pattern` with {language} filled in."""
    return Path(pattern.replace(PLACE, language))


def require_pattern(pattern: str, languages: Sequence[str], option: str) -> None:
    """Raises ValueError where one file would be read as that of several languages."""
    if len(languages) > 1 and PLACE not in pattern:
        raise ValueError(
            f"{option} must hold {PLACE} where there are several languages, got {pattern!r}: "
            f"for instance 'questions/{PLACE}.jsonl'"
        )


def read_questions(path: Path, language: str) -> list[Question]:
    """`question_id`, `category`, `turns` (two texts) and, if it is there, `reference` (two texts), in file order."""

    def question(row: Row, where: str) -> Question:
        return Question(
            id=_id(row, where),
            language=language,
            category=text_of(row, "category", where),
            turns=_two(row, "turns", where, may_be_empty=False),
            references=_own_references(row, where),
        )

    return list(_by_id(path, question).values())


def read_references(path: Path) -> dict[str, Turns]:
    """Right answers to both turns, by question id."""
    return _by_id(path, lambda row, where: _choice(row, where, may_be_empty=False))


def read_answers(path: Path) -> dict[str, Turns]:
    """A model's answers to both turns, by question id; an answer may be empty, and is judged as that."""
    return _by_id(path, lambda row, where: _choice(row, where, may_be_empty=True))


def write_answers(path: Path, answers: Mapping[str, Turns], *, model: str, cut: Mapping[str, list[bool]]) -> None:
    """Write answers as `read_answers` and FastChat's judges read them. `cut`: turns that ended at their length."""
    write_json_lines(
        path,
        (
            {
                "question_id": int(id) if id.isdecimal() and id == str(int(id)) else id,
                "answer_id": f"{model}/{id}",
                "model_id": model,
                "choices": [{"index": 0, "turns": list(turns)}],
                "cut": cut[id],
            }
            for id, turns in answers.items()
        ),
    )


def write_ratings(path: Path, ratings: Iterable[Rating], texts: Iterable[str | None], *, judge: str) -> None:
    """Every rating a line, those that are null with their reason; `texts` are the judge's whole answers."""
    write_json_lines(
        path,
        (
            {
                "question_id": rating.question.id,
                "language": rating.question.language,
                "category": rating.question.category,
                "turn": rating.turn,
                "judge": judge,
                "rating": rating.value,
                "reason": rating.reason,
                "judgement": text,
            }
            for rating, text in zip(ratings, texts, strict=True)
        ),
    )


def _by_id(path: Path, value_of: Callable[[Row, str], Value]) -> dict[str, Value]:
    values: dict[str, Value] = {}
    lines: dict[str, int] = {}
    for number, row in read_json_lines(path):
        where = f"{path}, line {number}"
        id = _id(row, where)
        if id in lines:
            raise ValueError(
                f"{path}: question_id {shown(id)} stands on lines {lines[id]} and {number}: each may occur once, "
                "so remove or rename one"
            )
        lines[id] = number
        values[id] = value_of(row, where)
    return values


def _id(row: Row, where: str) -> str:
    value = row.get("question_id")
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise ValueError(f"{where}: field 'question_id' must be a text or a whole number, got {shown(value)}")
    return str(value)


def _choice(row: Row, where: str, *, may_be_empty: bool) -> Turns:
    choices = list_of(row, "choices", where)
    if len(choices) != 1 or not isinstance(choices[0], dict):
        raise ValueError(
            f"{where}: field 'choices' must hold one object with both turns, got {shown(choices)}: "
            "one answer is graded, so keep one"
        )
    return _two(choices[0], "turns", where, may_be_empty=may_be_empty)


def _two(row: Row, field: str, where: str, *, may_be_empty: bool) -> Turns:
    values = list_of(row, field, where)
    if len(values) != 2:
        raise ValueError(
            f"{where}: field {field!r} must hold two texts, one for each turn, got {len(values)}: "
            "MT-Bench asks two questions"
        )
    if wrong := [value for value in values if not isinstance(value, str) or not (may_be_empty or value.strip())]:
        empty = "" if may_be_empty else " that are not empty"
        raise ValueError(f"{where}: field {field!r} must hold two texts{empty}, got {shown(wrong[0])}")
    return values[0], values[1]


def _own_references(row: Row, where: str) -> Turns | None:
    """References that stand beside the question; None where one of the two is missing or empty."""
    values = row.get("reference")
    if values is None:
        return None
    if not isinstance(values, list) or not all(value is None or isinstance(value, str) for value in values):
        raise ValueError(f"{where}: field 'reference' must be a list of texts, got {shown(values)}")
    if len(values) != 2 or not all(value and value.strip() for value in values):
        return None
    return values[0], values[1]

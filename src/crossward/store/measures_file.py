"""The measures of answers, one line an answer: so that two policies can be compared without measuring again."""

from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from crossward.core.answer_measures import AnswerMeasures
from crossward.core.plain_text import listed
from crossward.store.json_lines import read_json_lines, write_json_lines

_MEASURES = TypeAdapter(AnswerMeasures)
_FIELDS = {field.name for field in fields(AnswerMeasures)}


def write_measures(path: Path, rows: Iterable[AnswerMeasures]) -> None:
    """Write the measures of one language's answers, in their order."""
    write_json_lines(path, (asdict(row) for row in rows))


def read_measures(path: Path) -> list[AnswerMeasures]:
    """Read them again. Raises ValueError for a line that holds other fields."""
    rows: list[AnswerMeasures] = []
    for number, row in read_json_lines(path):
        if row.keys() != _FIELDS:
            other = listed(sorted(row.keys() ^ _FIELDS))
            raise ValueError(f"{path}, line {number} holds no measures of an answer ({other}): delete it and run again")
        try:
            rows.append(_MEASURES.validate_python(row))
        except ValidationError as error:
            first = error.errors()[0]
            why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            raise ValueError(f"{path}, line {number} holds no measures of an answer ({why}): delete it") from None
    return rows

"""Answers that other answers are held against: a JSON list or JSON lines of {"id", "output"}.

Also alpaca_eval's model_outputs.json, whose rows may have no id: those are known by their instruction, word for word.
Never joined by position. Knows no measure.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossward.core.plain_text import listed
from crossward.core.records import Prompt
from crossward.store.json_fields import field_of, id_of, shown, text_of
from crossward.store.manifest import content_hash
from crossward.store.rows import Source, located_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceAnswers:
    """The answers of one file: those with an id by their id, the others by their instruction."""

    by_id: dict[str, str]
    by_instruction: dict[str, str]

    def of(self, prompt: Prompt) -> str | None:
        """The answer to a prompt; None where the file has none."""
        return self.by_id.get(prompt.id, self.by_instruction.get(prompt.instruction))

    @property
    def content_hash(self) -> str:
        """Hex sha256 of all answers, whatever their order."""
        return content_hash([self.by_id, self.by_instruction])


def read_reference_answers(path: Path) -> ReferenceAnswers:
    """Read a file. Raises ValueError for a row without "output", or with the same id (or instruction) as another."""
    if not path.is_file():
        raise ValueError(f"file {path} does not exist: expected reference answers, rows of 'id' and 'output'")
    found = ReferenceAnswers(by_id={}, by_instruction={})
    places: dict[tuple[bool, str], str] = {}
    for place, row in located_rows(Source(path=str(path))):
        where = f"{path}, {place}"
        by_id = row.get("id") is not None
        key = id_of(row, where) if by_id else _instruction(row, where)
        if (by_id, key) in places:
            name = "id" if by_id else "instruction"
            raise ValueError(f"{where}: {name} {shown(key)} stands on {places[by_id, key]} too: each may occur once")
        places[by_id, key] = place
        (found.by_id if by_id else found.by_instruction)[key] = output_of(row, where)
    return found


def output_of(row: dict[str, Any], where: str) -> str:
    """The answer in a row; it may be empty."""
    value = field_of(row, "output", where)
    if not isinstance(value, str):
        raise ValueError(f"{where}: field 'output' must be a text, got {shown(value)}")
    return value


def _instruction(row: dict[str, Any], where: str) -> str:
    if row.get("instruction") is None:
        raise ValueError(f"{where}: expected a field 'id' (or 'instruction' as alpaca_eval has), got {listed(row)}")
    return text_of(row, "instruction", where)

"""Annotations as alpaca_eval writes them, read whole: instruction, both answers, who gave them, who judged, how.

verdict_file.py reads the same files for what a win rate needs. A mistake is a ValueError that names file and row.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from crossward.store.json_fields import shown, text_of
from crossward.store.json_lines import Row, parse_json, read_file


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """One comparison; `preference` is 1 to 2 (2: output_2 is better), None where the judge gave none."""

    id: str | None
    language: str
    instruction: str
    output_1: str
    generator_1: str
    output_2: str
    generator_2: str
    annotator: str
    preference: float | None


def read_annotation_rows(path: Path) -> list[Annotation]:
    """The rows of one file."""
    try:
        text = read_file(path).decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not valid UTF-8: save the file as UTF-8") from None
    rows = parse_json(text, where=str(path))
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path}: expected a list of annotations, got {shown(rows)}")
    return [_annotation(row, f"{path}, row {number}") for number, row in enumerate(rows, start=1)]


def _annotation(row: Row, where: str) -> Annotation:
    for field in ("output_1", "output_2"):
        if not isinstance(row.get(field), str):
            raise ValueError(f"{where}: field {field!r} must be a text, got {shown(row.get(field))}")
    preference = row.get("preference")
    number = isinstance(preference, int | float) and not isinstance(preference, bool)
    if preference is not None and not (number and 1 <= preference <= 2):
        raise ValueError(f"{where}: field 'preference' must be 1 to 2 or null, got {shown(preference)}")
    return Annotation(
        id=None if row.get("id") is None else json.dumps(row["id"]) if not isinstance(row["id"], str) else row["id"],
        language=text_of(row, "language", where),
        instruction=text_of(row, "instruction", where),
        output_1=row["output_1"],
        generator_1=text_of(row, "generator_1", where),
        output_2=row["output_2"],
        generator_2=text_of(row, "generator_2", where),
        annotator=text_of(row, "annotator", where),
        preference=None if preference is None else float(preference),
    )

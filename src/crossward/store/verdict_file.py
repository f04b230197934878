"""Verdicts on disk: one a line, and alpaca_eval's annotations in and out.

    {"id", "language", "model", "baseline", "preference": 0…1 or null, "model_length", "baseline_length"}

A verdict file may carry more fields (how the verdict came about); they are not read. Knows no judge and no statistics.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from crossward.core.verdicts import Verdict
from crossward.store.edges import UNKNOWN_LANGUAGE
from crossward.store.files import write_text
from crossward.store.json_fields import id_of, shown, text_of
from crossward.store.json_lines import Row, parse_json, read_file, read_json_lines, write_json_lines

_LONGEST = 10**12


def read_verdicts(path: Path, *, language: str | None = None) -> list[Verdict]:
    """Verdicts of a JSON Lines file, or of alpaca_eval's annotations.json (a list).

    `language` is that of rows that name none, as alpaca_eval's do not. Raises ValueError naming file and line.
    """
    if path.is_file() and read_file(path).lstrip().startswith(b"["):
        return _annotations(path, language or UNKNOWN_LANGUAGE)
    return [_verdict(row, f"{path}, line {number}", language) for number, row in read_json_lines(path)]


def write_verdicts(path: Path, rows: Iterable[tuple[Verdict, Mapping[str, Any]]]) -> None:
    """Verdicts with what else is known of each, as `read_verdicts` reads them."""
    write_json_lines(path, (verdict_row(verdict) | dict(more) for verdict, more in rows))


def verdict_row(verdict: Verdict) -> Row:
    """A verdict as a row."""
    return {
        "id": verdict.id,
        "language": verdict.language,
        "model": verdict.model,
        "baseline": verdict.baseline,
        "preference": verdict.preference,
        "model_length": verdict.model_length,
        "baseline_length": verdict.baseline_length,
    }


def write_annotations(path: Path, rows: Iterable[Row]) -> None:
    """Rows as alpaca_eval's annotations.json: a list whose preferences are 1 to 2 (2: the model's answer is better)."""
    write_text(path, json.dumps(list(rows), ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def _verdict(row: Row, where: str, language: str | None) -> Verdict:
    if "preference" not in row:
        raise ValueError(f"{where}: field 'preference' is missing: expected 0 to 1, or null where the judge gave none")
    known = row if row.get("language") is not None or language is None else row | {"language": language}
    return Verdict(
        id=id_of(row, where),
        language=text_of(known, "language", where),
        model=text_of(row, "model", where),
        baseline=text_of(row, "baseline", where),
        preference=_preference(row["preference"], where),
        model_length=_length(row, "model_length", where),
        baseline_length=_length(row, "baseline_length", where),
    )


def _preference(value: Any, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(
            f"{where}: field 'preference' must be 0 to 1 (1: the model's answer is better) or null, got {shown(value)}"
        )
    return float(value)


def _length(row: Row, field: str, where: str) -> int:
    value = row.get(field)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LONGEST:
        raise ValueError(f"{where}: field {field!r} must be a number of characters, 0 or more, got {shown(value)}")
    return value


def _annotations(path: Path, language: str) -> list[Verdict]:
    """alpaca_eval's rows: output_1 is the baseline's. Its preference 0 means a draw, −1 and null that there is none.

    Rows carry no id: "id" or "index" if there is one, else a hash of the instruction, the same for every model.
    """
    try:
        text = read_file(path).decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not valid UTF-8: save the file as UTF-8") from None
    rows = parse_json(text, where=str(path))
    found = []
    for number, row in enumerate(rows, start=1):
        where = f"{path}, item {number}"
        if not isinstance(row, dict):
            raise ValueError(f"{where}: expected a JSON object, got {shown(row)}")
        instruction = text_of(row, "instruction", where)
        id = next((str(row[key]) for key in ("id", "index") if row.get(key) is not None), None)
        found.append(
            Verdict(
                id=id or hashlib.sha256(instruction.encode()).hexdigest()[:16],
                language=text_of(row, "language", where) if row.get("language") else language,
                model=text_of(row, "generator_2", where),
                baseline=text_of(row, "generator_1", where),
                preference=_published_preference(row.get("preference"), where),
                model_length=_output_length(row, "output_2", where),
                baseline_length=_output_length(row, "output_1", where),
            )
        )
    if not found:
        raise ValueError(f"file {path} holds no annotations: expected a list of objects")
    return found


def _published_preference(value: Any, where: str) -> float | None:
    if value is None or value == -1:
        return None
    if value == 0 and not isinstance(value, bool):
        return 0.5
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 2:
        raise ValueError(f"{where}: field 'preference' must be 1 to 2 (2: output_2 is better), got {shown(value)}")
    return float(value) - 1


def _output_length(row: Row, field: str, where: str) -> int:
    value = row.get(field)
    if not isinstance(value, str):
        raise ValueError(f"{where}: field {field!r} must be a text, got {shown(value)}")
    return len(value)

"""Reference answers are found by id, or where rows have none by instruction; never by place."""

import json
from pathlib import Path
from typing import Any

import pytest

from crossward.core.records import Prompt
from crossward.store.reference_answers import read_reference_answers

ROWS = [{"id": 7, "output": "siete"}, {"id": "8", "output": "", "instruction": "Cuenta."}]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    text = json.dumps(rows) if path.suffix == ".json" else "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return path


def prompt(id: str, instruction: str = "Di.") -> Prompt:
    return Prompt(id=id, language="es", instruction=instruction, english_instruction="Say.")


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_by_id_whatever_the_order(tmp_path: Path, name: str):
    found = read_reference_answers(write(tmp_path / name, ROWS))
    turned = read_reference_answers(write(tmp_path / f"turned-{name}", ROWS[::-1]))
    assert found.of(prompt("7")) == "siete"
    assert found.of(prompt("8")) == ""
    assert found.of(prompt("1", "Cuenta.")) is None  # a row that has an id is known by it alone
    assert found.content_hash == turned.content_hash
    other = read_reference_answers(write(tmp_path / f"other-{name}", [ROWS[0] | {"output": "8"}, ROWS[1]]))
    assert other.content_hash != found.content_hash


def test_rows_without_id_are_known_by_their_instruction(tmp_path: Path):
    rows = [{"instruction": "Di.", "output": "hola", "generator": "m"}, {"instruction": "7", "output": "otra"}]
    found = read_reference_answers(write(tmp_path / "model_outputs.json", rows))
    assert found.of(prompt("any")) == "hola"
    assert found.of(prompt("7", "Otra cosa.")) is None  # an instruction is no id


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([{"id": 1}], "row 1: field 'output' is missing"),
        ([{"id": 1, "output": 3}], "row 1: field 'output' must be a text, got 3"),
        ([{"output": "x"}], "row 1: expected a field 'id'"),
        ([{"id": 1, "output": "x"}, {"id": "1", "output": "y"}], "row 2: id '1' stands on row 1 too"),
        ([{"instruction": "a", "output": "x"}] * 2, "row 2: instruction 'a' stands on row 1 too"),
        ([], "is empty"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, rows: list[dict[str, Any]], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        read_reference_answers(write(tmp_path / "a.json", rows))


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"none\.json does not exist"):
        read_reference_answers(tmp_path / "none.json")

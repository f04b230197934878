"""Answers are read as they stand; what a file does not say is known to be unknown."""

import json
from pathlib import Path
from typing import Any

import pytest

from crossward.store.answer_file import read_answers

GROUP = {"id": "1", "language": "es", "instruction": "Di.", "responses": ["a", "b"]}
OUTPUT = {"instruction": "Di.", "output": "a", "generator": "m"}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    text = json.dumps(rows) if path.suffix == ".json" else "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["groups.jsonl", "groups.json", "groups"])
def test_groups(tmp_path: Path, name: str):
    rows = [
        GROUP | {"finish_reasons": ["stop", "length"]},
        GROUP | {"id": 2, "language": "en", "finish_reasons": ["stop"] * 2},
    ]
    found = read_answers(write(tmp_path / name, rows), language=None)
    assert {code: [group.prompt.id for group in groups] for code, groups in found.groups.items()} == {
        "es": ["1"],
        "en": ["2"],
    }
    assert [response.finish_reason for response in found.groups["es"][0].responses] == ["stop", "length"]
    assert (found.has_ids, found.has_endings) == (True, True)


def test_model_outputs_with_ids_and_without(tmp_path: Path):
    rows = [OUTPUT, OUTPUT | {"instruction": "Cuenta.", "output": ""}]
    found = read_answers(write(tmp_path / "model_outputs.json", rows), language="es")
    assert [group.prompt.id for group in found.groups["es"]] == ["Di.", "Cuenta."]
    assert (found.has_ids, found.has_endings) == (False, False)
    named = [row | {"id": i} for i, row in enumerate(rows)]
    found = read_answers(write(tmp_path / "named.json", named), language="es")
    assert [group.prompt.id for group in found.groups["es"]] == ["0", "1"]
    assert found.has_ids
    assert [group.prompt.id for group in found.by_instruction().groups["es"]] == ["Di.", "Cuenta."]
    assert not found.by_instruction().has_ids


def test_one_row_without_id_and_all_go_by_their_instruction(tmp_path: Path):
    rows = [OUTPUT | {"id": 1}, OUTPUT | {"instruction": "Cuenta."}]
    found = read_answers(write(tmp_path / "mixed.json", rows), language="es")
    assert [group.prompt.id for group in found.groups["es"]] == ["Di.", "Cuenta."]


def test_the_same_instruction_under_two_ids_cannot_go_by_it(tmp_path: Path):
    rows = [OUTPUT | {"id": 1}, OUTPUT | {"id": 2}]
    found = read_answers(write(tmp_path / "twice.json", rows), language="es")
    with pytest.raises(ValueError, match=r"twice\.json: 'es' has 'Di\.' twice"):
        found.by_instruction()

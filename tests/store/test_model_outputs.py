"""Answers as alpaca_eval keeps them: read, written, and joined by id or instruction, never by position."""

import json
from pathlib import Path
from typing import Any

import pytest

from crossward.store.model_outputs import joined, read_model_outputs, write_model_outputs


def file(folder: Path, name: str, *rows: dict[str, Any]) -> Path:
    path = folder / name
    path.write_text(json.dumps(list(rows)), encoding="utf-8")
    return path


def row(id: Any, text: str, output: str = "answer", **more: Any) -> dict[str, Any]:
    return ({} if id is None else {"id": id}) | {"instruction": text, "output": output, "generator": "g"} | more


def test_a_round_trip_keeps_everything(tmp_path: Path):
    path = file(tmp_path, "a.json", row(1, "¿Qué?", dataset="d"), row("b", "Wie?", output=""))
    found = read_model_outputs(path)
    assert found.generator == "g"
    assert [(o.id, o.instruction, o.output, o.dataset) for o in found.outputs] == [
        ("1", "¿Qué?", "answer", "d"), ("b", "Wie?", "", None),
    ]  # fmt: skip
    write_model_outputs(tmp_path / "again.json", found.outputs)
    assert read_model_outputs(tmp_path / "again.json").outputs == found.outputs


def test_groups_give_their_first_response(tmp_path: Path):
    path = tmp_path / "groups.jsonl"
    path.write_text('{"id": "1", "language": "es", "instruction": "Di", "responses": ["uno", "dos"]}\n')
    (output,) = read_model_outputs(path).outputs
    assert (output.output, output.generator) == ("uno", None)


def test_files_join_by_id_whatever_their_order(tmp_path: Path):
    ours = read_model_outputs(file(tmp_path, "a.json", row(1, "x"), row(2, "y", "two")))
    base = read_model_outputs(file(tmp_path, "b.json", row("2", "y", "base two"), row("1", "x")))
    rows, left_out = joined(ours, base)
    assert left_out == 0
    assert [(id, a.output, b.output) for id, a, b in rows] == [("1", "answer", "answer"), ("2", "two", "base two")]


def test_a_file_without_ids_joins_by_instruction_and_takes_the_others_ids(tmp_path: Path):
    ours = read_model_outputs(file(tmp_path, "a.json", row(7, "x"), row(8, "y")))
    base = read_model_outputs(file(tmp_path, "b.json", row(None, "y"), row(None, "x")))
    for first, second in ((ours, base), (base, ours)):
        rows, _ = joined(first, second)
        assert {(id, a.instruction) for id, a, _ in rows} == {("7", "x"), ("8", "y")}
    alone, _ = joined(base, base)
    assert {id for id, _, _ in alone} == {"x", "y"}


def test_other_instructions_are_named_or_counted(tmp_path: Path):
    ours = read_model_outputs(file(tmp_path, "a.json", row(1, "x"), row(2, "y"), row(3, "z")))
    base = read_model_outputs(file(tmp_path, "b.json", row(3, "z"), row(4, "w")))
    with pytest.raises(ValueError, match=r"2 are only in .*a.json, first '1', '2'; 1 are only in .*b.json, first '4'"):
        joined(ours, base)
    rows, left_out = joined(ours, base, allow_missing=True)
    assert ([id for id, _, _ in rows], left_out) == (["3"], 3)
    other = read_model_outputs(file(tmp_path, "c.json", row(9, "q")))
    with pytest.raises(ValueError, match="have no instruction in common"):
        joined(ours, other, allow_missing=True)
    wrong = read_model_outputs(file(tmp_path, "d.json", row(1, "not x"), row(2, "y"), row(3, "z")))
    with pytest.raises(ValueError, match=r"id '1' names another instruction in .*a.json than in .*d.json"):
        joined(ours, wrong)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([row(1, "x"), row(1, "y")], r"a.json, row 2: id '1' stands on row 1 too"),
        ([row(None, "x"), row(None, "x")], r"instruction 'x' stands on row 1 too"),
        ([{"id": 1, "instruction": "x"}], "field 'output' is missing"),
        ([row(1, "x", output=None)], "field 'output'"),
        ([row(1, "")], "field 'instruction' must be a text that is not empty"),
    ],
)
def test_mistakes(tmp_path: Path, rows: list[dict[str, Any]], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        read_model_outputs(file(tmp_path, "a.json", *rows))


def test_a_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(ValueError, match="does not exist: expected answers"):
        read_model_outputs(tmp_path / "none.json")

"""Groups with gold and pairs with their choice, read as the same thing."""

import json
from pathlib import Path
from typing import Any

import pytest

from crossward.store.labelled import read_labelled

GROUP = {"id": "1", "language": "es", "instruction": "Di.", "english_instruction": "Say.", "responses": ["a", "b"]}
PAIR = {"prompt": [{"role": "user", "content": "Di."}], "chosen": "a", "rejected": "b", "language": "es"}


def write(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_groups_with_gold_and_without(tmp_path: Path):
    first, second = read_labelled(write(tmp_path, GROUP | {"gold": [1, 0.5]}, GROUP | {"id": "2"}), twin_needed=True)
    assert (first.truths, second.truths) == ((1.0, 0.5), None)
    assert [response.text for response in first.group.responses] == ["a", "b"]


def test_pairs_are_groups_of_two_whose_truths_are_one_and_zero(tmp_path: Path):
    (found,) = read_labelled(write(tmp_path, PAIR | {"english_instruction": "Say."}), twin_needed=True)
    assert found.truths == (1.0, 0.0)
    assert [response.text for response in found.group.responses] == ["a", "b"]
    assert found.group.prompt.english_instruction == "Say."
    (own,) = read_labelled(write(tmp_path, PAIR), twin_needed=False)
    assert own.group.prompt.instruction == "Di."
    (english,) = read_labelled(write(tmp_path, PAIR | {"language": "en"}), twin_needed=True)
    assert english.group.prompt.english_instruction == "Di."


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (PAIR, "line 1: field 'english_instruction' is missing"),
        (GROUP | {"gold": [1]}, "line 1: field 'gold' has 1 items for 2 responses"),
        (GROUP | {"gold": [1, None]}, "line 1: field 'gold' must hold finite numbers, got None"),
        ({"id": "1", "language": "es"}, "line 1: field 'instruction' is missing"),
    ],
)
def test_rows_that_say_too_little(tmp_path: Path, row: dict[str, Any], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        read_labelled(write(tmp_path, row), twin_needed=True)

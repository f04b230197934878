"""Groups with gold and pairs with their choice, read as the same thing."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
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


# Preference sets

ENGLISH = [
    {"id": 3, "prompt": "Say.", "chosen": "a", "rejected": "b", "subset": "hep-go"},
    {"id": 3, "prompt": "Count.", "chosen": "c", "rejected": "d", "subset": "hep-js"},
]
SPANISH = [
    {"id": 3, "prompt": "Cuenta.", "chosen": "c", "rejected": "d", "language": "spa_Latn", "source": "hep-js"},
    {"id": 3, "prompt": "Di.", "chosen": "a", "rejected": "b", "language": "spa_Latn", "source": "hep-go",
     "category": "Reasoning"},
]  # fmt: skip


def write_as(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
def test_rewardbench_is_english_and_knows_its_sections(tmp_path: Path, suffix: str):
    rows = [*ENGLISH, ENGLISH[0] | {"id": 4, "subset": "donotanswer"}]
    found = read_labelled(write_as(tmp_path / f"set.{suffix}", rows), twin_needed=True)
    assert [(item.label, item.subset, item.section) for item in found] == [
        ("en", "hep-go", "Reasoning"), ("en", "hep-js", "Reasoning"), ("en", "donotanswer", "Safety")
    ]  # fmt: skip
    assert [item.group.prompt.english_instruction for item in found] == ["Say.", "Count.", "Say."]
    assert {item.truths for item in found} == {(1.0, 0.0)}


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_twins_are_joined_by_subset_and_id(tmp_path: Path, suffix: str):
    """The same id stands in two subsets, and the files are in another order."""
    english = write_as(tmp_path / f"en.{suffix}", ENGLISH)
    found = read_labelled(write_as(tmp_path / f"es.{suffix}", SPANISH), twin_needed=True, english=english)
    assert [item.group.prompt.english_instruction for item in found] == ["Count.", "Say."]
    assert {(item.label, item.group.prompt.language, item.section) for item in found} == {
        ("spa_Latn", "es", "Reasoning")
    }


def test_twins_without_subsets_are_joined_by_id(tmp_path: Path):
    english = write_as(tmp_path / "en.json", [{"id": "7", "instruction": "Two."}, {"id": 3, "instruction": "Say."}])
    (found,) = read_labelled(write_as(tmp_path / "es.json", SPANISH[1:]), twin_needed=True, english=english)
    assert found.group.prompt.english_instruction == "Say."
    (group,) = read_labelled(
        write(tmp_path, {"id": "7", "language": "es", "instruction": "Dos.", "responses": ["a"]}),
        twin_needed=True, english=english,
    )  # fmt: skip
    assert group.group.prompt.english_instruction == "Two."
    (own,) = read_labelled(write(tmp_path, GROUP | {"id": "7"}), twin_needed=True, english=english)
    assert own.group.prompt.english_instruction == "Say."  # what the row says comes first


@pytest.mark.parametrize(
    ("rows", "english", "sentence"),
    [
        (SPANISH, ENGLISH[:1], "row 1: id '3' of 'hep-js' has no English twin"),
        ([SPANISH[0] | {"id": None}], ENGLISH, "row 1: field 'id' is missing"),
        (SPANISH, [*ENGLISH, ENGLISH[0] | {"prompt": "Other."}], "row 3: id '3' stands there twice"),
        (SPANISH, [{"id": 3, "chosen": "a"}], "row 1: expected a field 'prompt' or 'instruction'"),
    ],
)
def test_twins_that_cannot_be_joined(tmp_path: Path, rows: list, english: list, sentence: str):
    files = [write_as(tmp_path / name, content) for name, content in (("es.json", rows), ("en.json", english))]
    with pytest.raises(ValueError, match=sentence):
        read_labelled(files[0], twin_needed=True, english=files[1])


def test_other_pairs_do_not_become_english(tmp_path: Path):
    with pytest.raises(ValueError, match="'english_instruction' is missing"):
        read_labelled(write(tmp_path, PAIR | {"language": None, "source": "evol_instruct"}), twin_needed=True)
    (found,) = read_labelled(write(tmp_path, PAIR | {"language": "xyz_Latn"}), twin_needed=False)
    assert found.group.prompt.language == "xyz_Latn"

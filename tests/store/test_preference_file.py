"""What is left out is counted by its reason, what stays is told whole, and the same file has the same hash."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from crossward.store.preference_file import read_preferences

Row = dict[str, Any]
GOOD = {"prompt": "Hi?", "chosen": "Yes.", "rejected": "No."}


def user(text: str) -> Row:
    return {"role": "user", "content": text}


def assistant(text: str) -> Row:
    return {"role": "assistant", "content": text}


def write(path: Path, *rows: Row) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


CHAT = {"prompt": [user("Hi?")], "chosen": [assistant("Yes.")], "rejected": [assistant("No.")]}


@pytest.mark.parametrize(
    ("reason", "row"),
    [
        ("tie", CHAT | {"rejected": [assistant(" Yes.\n")]}),
        ("empty", CHAT | {"rejected": [assistant(" ")]}),
        ("empty", CHAT | {"prompt": [user(" ")]}),
        ("empty", CHAT | {"chosen": [{"role": "assistant", "content": None}]}),
        ("duplicate", CHAT | {"id": "another"}),
        ("system message", CHAT | {"prompt": [{"role": "system", "content": "Be brief."}, user("Hi?")]}),
        ("system message", CHAT | {"system": "Be brief."}),
        ("several turns", CHAT | {"prompt": [user("Hi?"), assistant("Yes."), user("Why?")]}),
        ("other roles", CHAT | {"prompt": [user("Hi?"), {"role": "tool", "content": "4"}]}),
        ("no answer at the end", CHAT | {"chosen": [assistant("Yes."), user("Why?")]}),
        ("different prompts", CHAT | {"chosen": [user("Ho?"), assistant("Yes.")]}),
    ],
)
def test_rows_that_are_not_trained_on_are_counted(tmp_path: Path, reason: str, row: Row):
    read = read_preferences(write(tmp_path / "p.jsonl", CHAT, row, row))
    assert read.left_out == {reason: 2}
    assert (len(read.pairs), read.n_rows) == (1, 3)


def test_an_empty_system_message_is_none(tmp_path: Path):
    rows = CHAT, CHAT | {"prompt": [{"role": "system", "content": ""}, user("Ho?")]}
    read = read_preferences(write(tmp_path / "p.jsonl", *rows))
    assert [pair.instruction for pair in read.pairs] == ["Hi?", "Ho?"]


def test_the_same_pair_the_other_way_round_is_no_duplicate(tmp_path: Path):
    read = read_preferences(write(tmp_path / "p.jsonl", GOOD, GOOD | {"chosen": "No.", "rejected": "Yes."}))
    assert len(read.pairs) == 2


def test_transcripts_of_several_turns_are_counted_and_single_ones_read(tmp_path: Path):
    long = "\n\nHuman: Hi?\n\nAssistant: Yes.\n\nHuman: Why?\n\nAssistant: "
    rows = (
        {"chosen": long + "So.", "rejected": long + "No."},
        {"chosen": "\n\nHuman: A\n\nB\n\nAssistant: C\n\nD", "rejected": "\n\nHuman: A\n\nB\n\nAssistant: E"},
        {"chosen": "\n\nHuman: A\n\nAssistant:", "rejected": "\n\nHuman: A\n\nAssistant: E"},
    )
    read = read_preferences(write(tmp_path / "p.jsonl", *rows))
    assert [(p.instruction, p.chosen.text, p.rejected.text) for p in read.pairs] == [("A\n\nB", "C\n\nD", "E")]
    assert read.left_out == {"several turns": 1, "empty": 1}


def test_nothing_to_train_on_says_why(tmp_path: Path):
    row = CHAT | {"system": "Be brief."}
    with pytest.raises(
        ValueError, match=r"none of 2 rows \(TRL conversational\) can be trained on \(system message 2\)"
    ):
        read_preferences(write(tmp_path / "p.jsonl", row, row))


def test_a_limit_counts_rows_that_can_be_trained_on(tmp_path: Path):
    path = write(tmp_path / "p.jsonl", GOOD, GOOD, GOOD | {"prompt": "Ho?"}, GOOD | {"prompt": "Ha?"})
    read = read_preferences(path, limit=2)
    assert [pair.instruction for pair in read.pairs] == ["Hi?", "Ho?"]
    assert (read.n_rows, read.left_out) == (3, {"duplicate": 1})
    with pytest.raises(ValueError, match="limit must be 1 or more"):
        read_preferences(path, limit=0)


def test_the_hash_is_the_files_or_for_a_dataset_that_of_its_rows(tmp_path: Path):
    from datasets import Dataset

    path = write(tmp_path / "p.jsonl", GOOD)
    assert read_preferences(path).sha256 == hashlib.sha256(Path(path).read_bytes()).hexdigest()
    hashes = []
    for name, row in (("a", GOOD), ("b", GOOD), ("c", GOOD | {"chosen": "Sure."})):
        Dataset.from_list([row]).save_to_disk(str(tmp_path / name))
        read = read_preferences(str(tmp_path / name))
        assert len(read.pairs) == 1
        hashes.append(read.sha256)
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_split_of_a_folder_of_files_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "train.jsonl", GOOD)
    write(tmp_path / "data" / "test.jsonl", GOOD | {"prompt": "Ho?"})
    (pair,) = read_preferences(str(tmp_path / "data"), split="test").pairs
    assert pair.instruction == "Ho?"

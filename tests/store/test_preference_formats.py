"""Each published form, as its own documentation shows it, is told apart and gives the same pair."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crossward.store.preference_file import read_preferences

Row = dict[str, Any]
USER, YES, NO = (
    {"role": role, "content": text} for role, text in (("user", "Hi?"), ("assistant", "Yes."), ("assistant", "No."))
)
PAIRS: dict[str, tuple[str, Row]] = {
    "trl": ("TRL conversational", {"prompt": [USER], "chosen": [YES], "rejected": [NO]}),
    "trl-whole": ("TRL conversational", {"prompt": [USER], "chosen": [USER, YES], "rejected": [USER, NO]}),
    "trl-implicit": ("TRL implicit prompt", {"chosen": [USER, YES], "rejected": [USER, NO]}),
    "texts": ("plain text", {"prompt": "Hi?", "chosen": "Yes.", "rejected": "No."}),
    "ultrafeedback": (
        "UltraFeedback-binarized",
        {
            "prompt": "Hi? ", "prompt_id": "a1", "chosen": [USER, YES], "rejected": [USER, NO],
            "messages": [USER, YES], "score_chosen": 8.5, "score_rejected": 7.0,
        },
    ),
    "rewardbench": (
        "RewardBench",
        {
            "prompt": "Hi?", "chosen": "Yes.", "chosen_model": "m", "rejected": "No.", "rejected_model": "n",
            "subset": "alpacaeval-easy", "id": 30,
        },
    ),
    "hh": ("HH-RLHF", {"chosen": "\n\nHuman: Hi?\n\nAssistant: Yes.", "rejected": "\n\nHuman: Hi?\n\nAssistant: No."}),
    "openrlhf-texts": ("OpenRLHF", {"input": "Hi?", "chosen": "Yes.", "rejected": "No."}),
    "openrlhf-messages": ("OpenRLHF", {"input": [USER], "chosen": [YES], "rejected": [NO]}),
    "sharegpt": (
        "LLaMA-Factory sharegpt",
        {
            "conversations": [{"from": "human", "value": "Hi?"}],
            "chosen": {"from": "gpt", "value": "Yes."},
            "rejected": {"from": "gpt", "value": "No."},
        },
    ),
    "alpaca": ("LLaMA-Factory alpaca", {"instruction": "Hi?", "input": "", "chosen": "Yes.", "rejected": "No."}),
    "alpaca-outputs": ("LLaMA-Factory alpaca", {"instruction": "Hi?", "input": "", "output": ["Yes.", "No."]}),
}  # fmt: skip
ANSWERS: dict[str, tuple[str, Row]] = {
    "trl": ("TRL unpaired", {"prompt": [USER], "completion": [YES], "label": True}),
    "trl-texts": ("TRL unpaired", {"prompt": "Hi?", "completion": "Yes.", "label": True}),
    "factory-alpaca": ("LLaMA-Factory KTO", {"instruction": "Hi?", "input": "", "output": "Yes.", "kto_tag": True}),
    "factory-messages": ("LLaMA-Factory KTO", {"messages": [USER, YES], "label": True}),
    "factory-sharegpt": (
        "LLaMA-Factory KTO",
        {"conversations": [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Yes."}], "kto_tag": True},
    ),
}


def write(path: Path, *rows: Row) -> str:
    """The rows in the format that the file's name says."""
    match path.suffix:
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        case ".json":
            path.write_text(json.dumps(rows), encoding="utf-8")
        case ".parquet":
            pq.write_table(pa.Table.from_pylist(list(rows)), path)
        case _:
            import csv

            with path.open("w", newline="", encoding="utf-8") as handle:
                writer = csv.DictWriter(handle, list(rows[0]))
                writer.writeheader()
                for row in rows:
                    cells = {key: json.dumps(v) if isinstance(v, list | dict) else v for key, v in row.items()}
                    writer.writerow(cells)
    return str(path)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet", ".csv"])
@pytest.mark.parametrize("name", PAIRS)
def test_pairs_of_every_form_in_every_file_format(tmp_path: Path, name: str, suffix: str):
    form, row = PAIRS[name]
    read = read_preferences(write(tmp_path / f"p{suffix}", row))
    (pair,) = read.pairs
    assert (read.format, read.unpaired, read.left_out) == (form, (), {})
    assert (pair.instruction.strip(), pair.chosen.text, pair.rejected.text) == ("Hi?", "Yes.", "No.")
    assert (pair.chosen.finish_reason, pair.chosen.token_ids) == ("stop", None)
    assert pair.id == {"ultrafeedback": "a1", "rewardbench": "30"}.get(name, "1")


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet", ".csv"])
@pytest.mark.parametrize("name", ANSWERS)
def test_answers_with_a_verdict_in_every_form(tmp_path: Path, name: str, suffix: str):
    form, row = ANSWERS[name]
    tag = "kto_tag" if "kto_tag" in row else "label"
    read = read_preferences(write(tmp_path / f"p{suffix}", row, row | {tag: False}))
    assert (read.format, read.pairs, read.left_out) == (form, (), {})
    assert [(a.instruction, a.response.text, a.desirable) for a in read.unpaired] == [
        ("Hi?", "Yes.", True),
        ("Hi?", "Yes.", False),
    ]


def test_alpaca_joins_instruction_and_input_by_a_line(tmp_path: Path):
    row = PAIRS["alpaca"][1] | {"instruction": "Translate:", "input": "Hola"}
    (pair,) = read_preferences(write(tmp_path / "p.jsonl", row)).pairs
    assert pair.instruction == "Translate:\nHola"


def test_an_answer_that_is_json_itself_stays_a_text(tmp_path: Path):
    row = {"prompt": "Give JSON", "chosen": '[{"a": 1}]', "rejected": "{broken"}
    (pair,) = read_preferences(write(tmp_path / "p.csv", row)).pairs
    assert (pair.chosen.text, pair.rejected.text) == ('[{"a": 1}]', "{broken")
    row |= {"chosen": '["red", "blue"]', "rejected": "[]"}
    (pair,) = read_preferences(write(tmp_path / "q.csv", row)).pairs
    assert (pair.chosen.text, pair.rejected.text) == ('["red", "blue"]', "[]")


def test_crosswards_own_pairs_keep_ids_and_what_was_cut(tmp_path: Path):
    row = PAIRS["trl"][1] | {"id": "p", "language": "es", "chosen_token_ids": [5], "rejected_finish_reason": "length"}
    (pair,) = read_preferences(write(tmp_path / "p.jsonl", row)).pairs
    assert (pair.id, pair.language, pair.chosen.token_ids, pair.rejected.finish_reason) == ("p", "es", (5,), "length")


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"prompt": "x", "chosen": "y", "b": 1}, r"fields prompt, chosen, b\); .*; nearest is .* lacks rejected"),
        ({"question": "x", "answer": "y"}, r"question, answer\); read are TRL conversational, .*KTO; nearest is"),
        ({"chosen": "a", "rejected": "b"}, r"nearest is .*, which lacks a prompt"),
        ({"instruction": "x", "completions": [{"overall_score": 3}]}, r"several rated answers .* --split train_prefs"),
        ({"id": "1", "instruction": "x", "responses": ["a"]}, r"make pairs of them with crossward score and crossward"),
        ({"prompt": "x", "completion": "y", "label": "good"}, r"'label' must be true \(desirable\) or false, got 'go"),
        ({"prompt": "x", "chosen": "y", "rejected": None}, r"field 'rejected' is missing"),
        ({"prompt": "x", "chosen": ["y"], "rejected": ["z"]}, r"expected a text or messages .*, got 'y'"),
        ({"instruction": "x", "output": ["only"]}, r"'output' must hold two texts, the better first"),
        ({"chosen": [YES], "rejected": [NO]}, r"there is no prompt"),
        ({"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "c"}, r"'rejected' must be a transcript"),
    ],
)  # fmt: skip
def test_what_is_of_no_known_form_is_one_sentence_with_the_line(tmp_path: Path, row: Row, sentence: str):
    with pytest.raises(ValueError, match=rf"p\.jsonl, line 1: .*{sentence}"):
        read_preferences(write(tmp_path / "p.jsonl", row))

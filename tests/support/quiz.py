"""A small multiple-choice task of our own for lm-evaluation-harness: a YAML and a JSONL file, nothing from a hub."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

Question = dict[str, Any]

QUESTIONS: tuple[Question, ...] = tuple(
    {"id": f"q{i}", "question": question, "options": options, "answer": i % len(options)}
    for i, (question, options) in enumerate(
        [
            ("The sea is", ["blue", "a house by the sea", "Manzana"]),
            ("An apple is the", ["fruit", "door", "the thing in the hand"]),
            ("Hola means", ["the", "good day and good night", "an apple"]),
            ("One and one is", ["two", "three hundred"]),
            ("The man in the house is", ["a man", "the sea", "Hola the Hola", "an"]),
            ("Ana sings in the", ["morning", "in", "thing"]),
            ("Thin is not", ["thick", "thin in the thing", "a"]),
            ("Manzana is the", ["apple", "other", "man"]),
            ("There is an inn in the", ["town", "in"]),
            ("A thing on the", ["table", "the", "an an an an", "Hola"]),
        ]
    )
)


def write_quiz(folder: Path, name: str, questions: Sequence[Question] = QUESTIONS, **changes: Any) -> Path:
    """Write the task `name`; `changes` go into its YAML (None takes a key out). Returns the data file."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(question) + "\n" for question in questions), encoding="utf-8")
    config = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{options}}",
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
        "metadata": {"version": 1.0},
    } | changes
    kept = {key: value for key, value in config.items() if value is not None}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(kept), encoding="utf-8")
    return data

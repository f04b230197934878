"""Measures come back from their file as they were."""

from pathlib import Path

import pytest

from crossward.core.answer_measures import AnswerMeasures
from crossward.store.measures_file import read_measures, write_measures

ROW = AnswerMeasures(
    prompt_id="p\u20281", language="es", answer=1, n_chars=7, empty=False, truncated=None, repetition=0.125,
    looping=True, identified=None, code_switching=1 / 3, chrf=None,
)  # fmt: skip


def test_there_and_back(tmp_path: Path):
    write_measures(tmp_path / "es.jsonl", [ROW, ROW])
    assert read_measures(tmp_path / "es.jsonl") == [ROW, ROW]


def test_another_file_is_named(tmp_path: Path):
    (tmp_path / "es.jsonl").write_text('{"prompt_id": "1", "fluency": 1}\n')
    with pytest.raises(
        ValueError, match=r"es\.jsonl, line 1 holds no measures of an answer \(.*fluency.*\): delete it"
    ):
        read_measures(tmp_path / "es.jsonl")

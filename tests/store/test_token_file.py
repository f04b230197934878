"""Tokens with their terms come back as they were; anything else is named."""

from pathlib import Path

import pytest

from crossward.store.token_file import TokenTerms, read_token_terms, write_token_terms


def test_a_round_trip_by_prompt_and_place(tmp_path: Path):
    rows = [
        TokenTerms(id="p/1", place=0, pieces=("Ho", "la", ""), log_ratios=(0.5, -0.25, 0.0)),
        TokenTerms(id="p/1", place=1, pieces=(), log_ratios=()),
    ]
    path = tmp_path / "es.jsonl"
    write_token_terms(path, rows)
    assert read_token_terms(path) == {("p/1", 0): rows[0], ("p/1", 1): rows[1]}
    assert read_token_terms(tmp_path / "none.jsonl") == {}


@pytest.mark.parametrize(
    "line",
    [
        '{"id": "a", "place": 0, "pieces": ["x"], "log_ratios": []}',
        '{"id": "a", "place": 0}',
        '{"id": "a", "place": 0, "pieces": "x", "log_ratios": [1]}',
        '{"pieces": ["x"], "log_ratios": [1.0]}',
        '{"id": "a", "place": 0, "pieces": ["x"], "log_ratios": ["y"]}',
        "[]",
    ],
)
def test_other_lines_are_refused(tmp_path: Path, line: str):
    path = tmp_path / "es.jsonl"
    path.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"es\.jsonl"):
        read_token_terms(path)

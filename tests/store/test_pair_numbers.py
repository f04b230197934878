"""Margins and lengths read without records are those of the records."""

from pathlib import Path

import pytest

from crossward.core.records import PreferencePair, Prompt, RatedResponse, Response, ScoredResponse, Skipped
from crossward.store.pair_numbers import read_pair_numbers
from crossward.store.tables import write_outcomes


def prompt(i: int) -> Prompt:
    return Prompt(id=f"p{i}", language="zh", instruction="i", english_instruction="e")


def pair(i: int, chosen: str, rejected: str, margin: float) -> PreferencePair:
    sides = [
        ScoredResponse(response=Response(text=text), policy_logprob=-1.0, reference_logprob=-2.0, n_tokens=3)
        for text in (chosen, rejected)
    ]
    return PreferencePair(
        prompt=prompt(i), chosen=sides[0], rejected=sides[1], alpha=0.0, chosen_score=margin, rejected_score=0.5
    )


def test_pairs_are_read_and_skips_are_not(tmp_path: Path):
    rated = [RatedResponse(response=Response(text=text), rating=1.0, n_tokens=0) for text in ("ab", "c")]
    by_rating = PreferencePair(
        prompt=prompt(9), chosen=rated[0], rejected=rated[1], alpha=0.0, chosen_score=5.0, rejected_score=1.0
    )
    rows = [pair(1, "苹果", "a" * 5, 2.0), Skipped(prompt=prompt(2), reason="tie"), pair(3, "", "b", -0.5), by_rating]
    write_outcomes(tmp_path / "zh.parquet", rows)
    found = read_pair_numbers(tmp_path / "zh.parquet")
    pairs = [row for row in rows if isinstance(row, PreferencePair)]
    assert list(found.margins) == [row.margin for row in pairs] == [1.5, -1.0, 4.0]
    assert list(found.chosen_chars) == [row.chosen.n_chars for row in pairs] == [2, 0, 2]
    assert list(found.rejected_chars) == [row.rejected.n_chars for row in pairs] == [5, 1, 1]


def test_what_is_no_table_of_pairs_is_one_sentence(tmp_path: Path):
    with pytest.raises(ValueError, match="does not exist: run again"):
        read_pair_numbers(tmp_path / "none.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="is damaged or foreign"):
        read_pair_numbers(tmp_path / "bad.parquet")

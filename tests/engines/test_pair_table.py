"""Pairs on the disk as token ids: in their order, the long ones left out and counted, read back by mapping."""

from pathlib import Path

import pytest
from tests.support.families import make_family

from crossward.core.records import Response
from crossward.engines import pair_table
from crossward.engines.pair_table import open_pairs, write_pairs
from crossward.engines.protocols import ModelSpec, TrainingPair
from crossward.engines.tokens import ChatTokens, load_tokens


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> ChatTokens:
    folder = make_family("chatml", tmp_path_factory.mktemp("chatml"))
    return load_tokens(ModelSpec(path=str(folder), dtype="float32", device="cpu"))


def pair(k: int, chosen: str = "the Manzana") -> TrainingPair:
    return TrainingPair(
        instruction=f"Di {k}",
        chosen=Response(text=chosen),
        rejected=Response(text="ana"),
        reference_chosen_logprob=-1.0 - k / 7,
        reference_rejected_logprob=-2.0,
    )


def test_rows_come_back_and_long_ones_are_counted(tokens: ChatTokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pair_table, "PORTION", 2)
    pairs = [pair(0), pair(1, "Manzana " * 60), pair(2), pair(3)]
    counts = write_pairs(tmp_path / "work" / "pairs.arrow", iter(pairs), tokens, max_length=60)
    table = open_pairs(tmp_path / "work" / "pairs.arrow")
    kept = [pairs[k] for k in (0, 2, 3)]
    assert [row["prompt_ids"] for row in table] == [list(tokens.prompt_ids(each.instruction)) for each in kept]
    assert [row["chosen_ids"] for row in table] == [list(tokens.response_ids(each.chosen)) for each in kept]
    assert [row["ref_chosen_logps"] for row in table] == [each.reference_chosen_logprob for each in kept]
    assert (counts.pairs, counts.dropped_too_long) == (3, 1)
    assert counts.tokens == sum(
        2 * len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in table
    )


def test_nothing_that_fits_is_an_error(tokens: ChatTokens, tmp_path: Path):
    with pytest.raises(ValueError, match=r"none of 2 pairs fits into max_length 3 tokens: raise train\.max_length"):
        write_pairs(tmp_path / "pairs.arrow", [pair(0), pair(1)], tokens, max_length=3)

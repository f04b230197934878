"""Counts by reason beside a shard: added up over shards, no shard of the stage, refused where damaged."""

from pathlib import Path

import pytest

from crossward.store.run_dir import RunDir
from crossward.store.shard_reasons import read_reasons, write_reasons


def test_counts_of_several_shards_are_added_up_and_the_later_writing_counts(tmp_path: Path):
    stage = RunDir(tmp_path).iteration(1).stage("rate")
    files = [stage.reasons_file("es", index) for index in range(3)]
    write_reasons(files[0], {"failures": {"empty": 9}})
    write_reasons(files[0], {"failures": {"empty": 1, "cut": 2}, "left_out": {}})
    write_reasons(files[1], {"failures": {"cut": 3}, "left_out": {"blank": 1}})
    found = read_reasons(files, "failures", "left_out")
    assert found == {"failures": {"empty": 1, "cut": 5}, "left_out": {"blank": 1}}
    assert stage.shards() == []
    assert files[0].parent == stage.shard("es", 0).parent


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"failures": 3}', b'{"failures": {"cut": "many"}}'])
def test_a_damaged_file_says_what_to_do(tmp_path: Path, content: bytes):
    (tmp_path / "part.reasons.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"part\.reasons\.json is damaged .* delete it and the shard beside it"):
        read_reasons([tmp_path / "part.reasons.json"], "failures")

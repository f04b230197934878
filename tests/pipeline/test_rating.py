"""The rate stage cut at every place and run again, and the lengths of responses that came without token ids."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.support.sampled_stages import SHARDS, Cut, CutAtTheEnd, write_sampled_stage

from crossward.core.instructions import PAPERS
from crossward.core.records import Response
from crossward.engines.protocols import Advance, ToRate, no_progress
from crossward.pipeline.progress import Progress, Silent
from crossward.pipeline.rating import rate
from crossward.pipeline.stage_files import stream_ranked
from crossward.store.run_dir import IterationDir


class Choosy:
    """Rates no response 0, leaves something out of every 3; is cut when it is asked `most` times."""

    name = "choosy"

    def __init__(self, most: int = 99) -> None:
        self.failures: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self.left = most

    def rate(self, groups: Sequence[ToRate], *, advance: Advance = no_progress) -> list[tuple[float | None, ...]]:
        if not self.left:
            raise Cut
        self.left -= 1
        return [tuple(self._rating(response) for response in group.responses) for group in groups]

    def _rating(self, response: Response) -> float | None:
        self.left_out["a draw"] += response.text.endswith("3")
        if response.text.endswith("0"):
            self.failures["no-score"] += 1
            return None
        return 1.0

    def close(self) -> None:
        pass


def words(response: Response) -> int:
    if response.text == "es 0 1":
        raise ValueError("it spells a special token")
    return len(response.text.split())


def go(here: IterationDir, rater: Choosy, progress: Progress) -> dict[str, Any]:
    return rate(
        here.stage("rate"),
        here.stage("sample"),
        source="given",
        view="multilingual",
        steering=PAPERS,
        translated=None,
        open_rater=lambda: rater,
        count_tokens=words,
        settings={},
        inputs={},
        progress=progress,
    ).counts


@pytest.mark.parametrize("whole", range(2 * SHARDS + 1))
def test_a_stage_that_was_cut_counts_every_reason(tmp_path: Path, whole: int):
    expected = go(write_sampled_stage(tmp_path / "a"), Choosy(), Silent())
    assert expected["failures"] == {"no-score": 12}
    assert expected["left_out"] == {"a draw": 12}
    here = write_sampled_stage(tmp_path / "b")
    with pytest.raises(Cut):
        go(here, Choosy(most=whole), Silent() if whole < 2 * SHARDS else CutAtTheEnd())
    assert len(here.stage("rate").shards()) == whole
    assert go(here, Choosy(), Silent()) == expected


def test_a_shard_that_is_done_again_counts_once(tmp_path: Path):
    here = write_sampled_stage(tmp_path)
    expected = go(here, Choosy(), Silent())
    here.stage("rate").shard("es", 1).unlink()
    assert go(here, Choosy(), Silent()) == expected


def test_responses_without_ids_are_counted_by_the_tokenizer(tmp_path: Path):
    here = write_sampled_stage(tmp_path)
    go(here, Choosy(), Silent())
    found = {r.response.text: r.n_response_tokens for g in stream_ranked(here.stage("rate"), "es") for r in g.responses}
    assert found.pop("es 0 1") == 0  # not known
    assert set(found.values()) == {3}

"""log π_ref by windows: the same rows however they were cut, none computed twice, and those of other pairs refused."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from crossward.core.records import Response, ResponseLogprob
from crossward.engines.protocols import Advance, Judged, no_progress
from crossward.pipeline import reference_windows
from crossward.pipeline.progress import Silent
from crossward.pipeline.reference_windows import score_windows, scored_pairs
from crossward.store.run_dir import StageDir

PAIRS = [
    Judged(instruction=f"Di {k}.", responses=(Response(text="a" * k), Response(text="b")), name=f"prompt '{k}' (es)")
    for k in range(1, 8)
]


class Counting:
    """Scores texts of at most five characters by their length, and says which windows it was asked for."""

    def __init__(self, *, cut_at: int = 99) -> None:
        self.asked: list[list[str]] = []
        self._cut_at = cut_at

    def score(
        self, groups: Sequence[Judged], *, per_token: bool = False, advance: Advance = no_progress
    ) -> list[tuple[ResponseLogprob | None, ...]]:
        if len(self.asked) == self._cut_at:
            raise KeyboardInterrupt
        self.asked.append([group.instruction for group in groups])
        return [tuple(self._one(response.text) for response in group.responses) for group in groups]

    def _one(self, text: str) -> ResponseLogprob | None:
        return ResponseLogprob(logprob=-float(len(text)), n_tokens=1) if len(text) <= 5 else None

    def close(self) -> None:
        return None


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StageDir:
    monkeypatch.setattr(reference_windows, "WINDOW", 3)
    return StageDir(tmp_path / "iteration-1" / "train")


def test_windows_that_are_there_are_not_scored_again(stage: StageDir):
    first = Counting(cut_at=2)
    with pytest.raises(KeyboardInterrupt):
        score_windows(stage, iter(PAIRS), 7, lambda: first, Silent())  # pyright: ignore[reportArgumentType]
    assert first.asked == [["Di 1.", "Di 2.", "Di 3."], ["Di 4.", "Di 5.", "Di 6."]]
    second = Counting()
    assert score_windows(stage, iter(PAIRS), 7, lambda: second, Silent()) == 5  # pyright: ignore[reportArgumentType]
    assert second.asked == [["Di 7."]]
    ready = list(scored_pairs(stage, iter(PAIRS)))
    assert [(pair.instruction, pair.reference_chosen_logprob, pair.reference_rejected_logprob) for pair in ready] == [
        (f"Di {k}.", -float(k), -1.0) for k in range(1, 6)
    ]


def test_nothing_is_opened_where_all_is_there(stage: StageDir):
    score_windows(stage, iter(PAIRS), 7, Counting, Silent())  # pyright: ignore[reportArgumentType]

    def opened() -> Counting:
        raise AssertionError("the reference was loaded for nothing")

    assert score_windows(stage, iter(PAIRS), 7, opened, Silent()) == 5  # pyright: ignore[reportArgumentType]


def test_windows_of_other_pairs_are_refused(stage: StageDir):
    score_windows(stage, iter(PAIRS), 7, Counting, Silent())  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"window-00000\.parquet is of other pairs than those of this stage"):
        list(scored_pairs(stage, iter(PAIRS[1:])))


def test_none_left_is_an_error(stage: StageDir):
    with pytest.raises(ValueError, match="iteration-1/train: 2 of 2 pairs are too long for the reference's context"):
        score_windows(stage, iter(PAIRS[5:]), 2, Counting, Silent())  # pyright: ignore[reportArgumentType]

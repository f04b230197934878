"""log π_ref of pairs in windows: each pair once, in order, nothing computed twice, whoever does the windows."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from crossward.core.records import PreferencePair, Prompt, RatedResponse, Response, ResponseLogprob, Skipped
from crossward.engines.protocols import Advance, Judged, no_progress
from crossward.engines.workers import IN_PROCESS
from crossward.pipeline import reference_windows
from crossward.pipeline.progress import Silent
from crossward.pipeline.reference_windows import Windows, score_pairs, scored_pairs
from crossward.store import tables
from crossward.store.run_dir import IterationDir, StageDir


class Counting:
    """log π_ref is minus the length; a text of more than 5 characters is too long. Dies after `most` windows."""

    def __init__(self, asked: list[str], most: int) -> None:
        self.asked = asked
        self.most = most

    def score(
        self, groups: Sequence[Judged], *, per_token: bool = False, advance: Advance = no_progress
    ) -> list[tuple[ResponseLogprob | None, ...]]:
        if not self.most:
            raise KeyboardInterrupt
        self.most -= 1
        self.asked += [group.instruction for group in groups]
        return [tuple(self._one(response.text) for response in group.responses) for group in groups]

    def _one(self, text: str) -> ResponseLogprob | None:
        return ResponseLogprob(logprob=-float(len(text)), n_tokens=1) if len(text) <= 5 else None

    def close(self) -> None:
        return None


def rated(text: str) -> RatedResponse:
    return RatedResponse(response=Response(text=text), rating=0.0, n_tokens=1)


def outcome(language: str, i: int) -> PreferencePair | Skipped:
    """Every third prompt is skipped, the whole second window of es too; es-6 is too long for the reference."""
    prompt = Prompt(id=f"p{i}", language=language, instruction=f"{language}-{i}", english_instruction=f"en-{i}")
    if i % 3 == 2 or (language == "es" and 4 <= i < 6):
        return Skipped(prompt=prompt, reason="tie")
    chosen = "much too long" if (language, i) == ("es", 6) else "a" * (1 + i % 4)
    return PreferencePair(
        prompt=prompt, chosen=rated(chosen), rejected=rated("bb"), alpha=0.0, chosen_score=1.0, rejected_score=0.0
    )


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IterationDir:
    monkeypatch.setattr(reference_windows, "WINDOW", 2)
    here = IterationDir(tmp_path)
    for language, n in {"es": 9, "de": 3}.items():
        tables.write_outcomes(here.stage("pair").language_file(language), [outcome(language, i) for i in range(n)])
    return here


def offline(n: int) -> list[Judged]:
    return [
        Judged(instruction=f"offline-{i}", responses=(Response(text="c"), Response(text="dd")), name=f"offline {i}")
        for i in range(n)
    ]


def ready(here: IterationDir, asked: list[str], *, most: int = 99) -> tuple[int, list[str], list[float]]:
    train: StageDir = here.stage("train")
    windows = Windows(offline=offline(3))
    pieces = [*windows.pieces(train, here.stage("pair")), *windows.pieces(train)]
    opened: Callable[[], Counting] = lambda: Counting(asked, most)  # noqa: E731
    n = score_pairs(pieces, windows, title="train", open_reference=opened, workers=IN_PROCESS, progress=Silent())
    pairs = list(scored_pairs(pieces, windows))
    return n, [pair.instruction for pair in pairs], [pair.reference_chosen_logprob for pair in pairs]


def test_every_pair_comes_once_in_the_order_of_files_and_offline_ones_last(here: IterationDir):
    asked: list[str] = []
    n, names, chosen = ready(here, asked)
    assert asked == ["de-0", "de-1", "es-0", "es-1", "es-3", "es-6", "es-7", *(f"offline-{i}" for i in range(3))]
    assert names == [name for name in asked if name != "es-6"], "too long for the reference"
    assert n == len(names) == 9
    assert chosen == [-1, -2, -1, -2, -4, -4, -1, -1, -1]


def test_windows_that_are_there_are_not_scored_again(here: IterationDir):
    first: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        ready(here, first, most=3)
    again: list[str] = []
    undisturbed = ready(here, again)
    assert len(first) + len(again) == 10
    assert not set(first) & set(again)
    assert undisturbed[1] == [name for name in [*first, *again] if name != "es-6"]


def test_a_window_of_other_pairs_is_refused(here: IterationDir):
    ready(here, [])
    (here.stage("pair").language_file("de")).unlink()
    tables.write_outcomes(here.stage("pair").language_file("de"), [outcome("de", i) for i in (3, 4, 5)])
    with pytest.raises(ValueError, match=r"window-00000\.parquet is of other pairs than those of this stage"):
        ready(here, [])

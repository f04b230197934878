"""log π_ref of the pairs of a train stage, a window of pairs at a time: memory does not grow with the pairs.

Windows are of one size whatever was cut, so that a run that was killed computes what an undisturbed one does; those
that are on the disk are not computed again.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path

from crossward.engines.protocols import Judged, Scorer, TrainingPair
from crossward.pipeline.progress import Progress
from crossward.store.reference_file import ReferenceRow, read_reference, write_reference
from crossward.store.run_dir import StageDir

WINDOW = 2048  # pairs that are scored together

OpenReference = Callable[[], Scorer]


def score_windows(
    stage: StageDir, pairs: Iterable[Judged], n: int, open_reference: OpenReference, progress: Progress
) -> int:
    """Score (chosen, rejected) of `n` pairs, and keep it; returns how many have both. The reference opens if needed.

    Pairs with a response that is too long for the reference are told. Raises ValueError where all are.
    """
    ready = 0
    title = f"{stage.title}: reference log-probabilities"
    with ExitStack() as opened, progress.task(title, 2 * n) as advance:
        reference: Scorer | None = None
        for index, window in enumerate(in_windows(pairs)):
            file = stage.reference_file(index)
            if file.exists():
                rows = _checked(file, window)
                advance(2 * len(window))
            else:
                reference = reference or opened.enter_context(closing(open_reference()))
                scored = reference.score(window, advance=advance)
                rows = [
                    ReferenceRow(
                        name=pair.name,
                        chosen=None if chosen is None else chosen.logprob,
                        rejected=None if rejected is None else rejected.logprob,
                    )
                    for pair, (chosen, rejected) in zip(window, scored, strict=True)
                ]
                write_reference(file, rows)
            ready += sum(_both(row) is not None for row in rows)
    tell_left_out(n, ready, f"{stage.title}: ", progress)
    return ready


def scored_pairs(stage: StageDir, pairs: Iterable[Judged]) -> Iterator[TrainingPair]:
    """The pairs that `score_windows` scored whole, with log π_ref of both responses."""
    for index, window in enumerate(in_windows(pairs)):
        for pair, row in zip(window, _checked(stage.reference_file(index), window), strict=True):
            if (both := _both(row)) is not None:
                yield TrainingPair(
                    instruction=pair.instruction,
                    chosen=pair.responses[0],
                    rejected=pair.responses[1],
                    reference_chosen_logprob=both[0],
                    reference_rejected_logprob=both[1],
                )


def tell_left_out(n: int, ready: int, title: str, progress: Progress) -> None:
    """Say how many pairs are too long for the reference. Raises ValueError where none is left."""
    if ready == n:
        return
    said = f"{title}{n - ready} of {n} pairs are too long for the reference's context"
    if not ready:
        raise ValueError(f"{said}: none is left to train on, so sample shorter responses")
    progress.say(f"{said} and are left out")


def in_windows(pairs: Iterable[Judged]) -> Iterator[tuple[Judged, ...]]:
    """WINDOW pairs at a time, and the rest."""
    left = iter(pairs)
    while window := tuple(islice(left, WINDOW)):
        yield window


def _both(row: ReferenceRow) -> tuple[float, float] | None:
    return None if row.chosen is None or row.rejected is None else (row.chosen, row.rejected)


def _checked(file: Path, window: tuple[Judged, ...]) -> list[ReferenceRow]:
    rows = read_reference(file)
    if [row.name for row in rows] != [pair.name for pair in window]:
        raise ValueError(f"{file} is of other pairs than those of this stage: delete its folder and run again")
    return rows

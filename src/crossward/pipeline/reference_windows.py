"""log π_ref of the pairs of a train stage, a window of pairs at a time: memory does not grow with the pairs.

A window is what so many prompts of one language gave, whatever was cut, so that a run that was killed computes what an
undisturbed one does. Windows are pieces of work (engines/workers.py); those on the disk are not computed again.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from crossward.core.records import PreferencePair, ResponseLogprob
from crossward.engines.protocols import Advance, Judged, Scorer, TrainingPair
from crossward.engines.workers import Piece, Step, Workers
from crossward.pipeline.progress import Progress
from crossward.store import tables
from crossward.store.parquet_files import count_rows
from crossward.store.reference_file import ReferenceRow, read_reference, write_reference
from crossward.store.run_dir import StageDir

WINDOW = 2048  # prompts whose pairs are scored together: two row groups of their file
OFFLINE = "replay"  # in the place of a language

OpenReference = Callable[[], Scorer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """The windows of a train stage's own pairs, read from their files when needed, and of `offline` ones."""

    offline: Sequence[Judged] = ()

    def pieces(self, stage: StageDir, paired: StageDir | None = None) -> Iterator[Piece]:
        """The windows of `paired` that hold pairs, language by language, or the offline ones; `n` counts responses."""
        sizes = [(OFFLINE, None, len(self.offline))]
        if paired is not None:
            sizes = [(path.stem, path, count_rows(path)) for path in paired.language_files()]
        for name, source, size in sizes:
            for index in range(-(-size // WINDOW)):
                target = stage.reference_file(name, index)
                piece = Piece(language=name, index=index, source=source, target=target)
                if pairs := self.of(piece):
                    yield replace(piece, n=2 * len(pairs))

    def of(self, piece: Piece) -> list[Judged]:
        """(chosen, rejected) of every pair of a window."""
        places = range(piece.index * WINDOW, (piece.index + 1) * WINDOW)
        if piece.source is None:
            return list(self.offline[places.start : places.stop])
        return [
            Judged(
                instruction=outcome.prompt.instruction,
                responses=(outcome.chosen.response, outcome.rejected.response),
                name=f"prompt {outcome.prompt.id!r} ({outcome.prompt.language})",
            )
            for outcome in tables.stream_outcomes(piece.source, places=places)
            if isinstance(outcome, PreferencePair)
        ]


def score_pairs(
    pieces: Sequence[Piece],
    windows: Windows,
    *,
    title: str,
    open_reference: OpenReference,
    workers: Workers,
    progress: Progress,
) -> int:
    """Score the windows that are missing, and keep them; returns how many pairs have both log-probabilities.

    Pairs with a response that is too long for the reference are told. Raises ValueError where all are.
    """
    missing = [piece for piece in pieces if not piece.target.exists()]
    if missing:
        step = Step(name="reference", open=open_reference, do=partial(_score_window, windows))
        n = sum(piece.n for piece in missing)
        with (
            progress.task(f"{title}: reference log-probabilities", n) as advance,
            workers.crew([step]) as crew,
        ):
            for piece, scored in crew.stream(missing, advance_of=lambda piece: advance):
                write_reference(piece.target, _rows(windows.of(piece), scored))
    ready = sum(_both(row) is not None for piece in pieces for row in read_reference(piece.target))
    tell_left_out(sum(piece.n for piece in pieces) // 2, ready, f"{title}: ", progress)
    return ready


def scored_pairs(pieces: Iterable[Piece], windows: Windows) -> Iterator[TrainingPair]:
    """The pairs that `score_pairs` scored whole, with log π_ref of both responses."""
    for piece in pieces:
        pairs = windows.of(piece)
        for pair, row in zip(pairs, _checked(piece, pairs), strict=True):
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


def _score_window(
    windows: Windows, reference: Scorer, piece: Piece, nothing: None, advance: Advance
) -> list[tuple[ResponseLogprob | None, ...]]:
    return reference.score(windows.of(piece), advance=advance)


def _rows(pairs: Sequence[Judged], scored: Sequence[Sequence[ResponseLogprob | None]]) -> Iterator[ReferenceRow]:
    for pair, (chosen, rejected) in zip(pairs, scored, strict=True):
        yield ReferenceRow(
            name=pair.name,
            chosen=None if chosen is None else chosen.logprob,
            rejected=None if rejected is None else rejected.logprob,
        )


def _both(row: ReferenceRow) -> tuple[float, float] | None:
    return None if row.chosen is None or row.rejected is None else (row.chosen, row.rejected)


def _checked(piece: Piece, pairs: Sequence[Judged]) -> list[ReferenceRow]:
    rows = read_reference(piece.target)
    if [row.name for row in rows] != [pair.name for pair in pairs]:
        raise ValueError(f"{piece.target} is of other pairs than those of this stage: delete its folder and run again")
    return rows

"""Who does a stage's pieces: one engine after another in this process, or many replicas of each in a cluster.

A piece is a shard: it is made as a whole by the same call wherever it is made, so that results are equal. A step is one
engine's part of the work on it; steps stream, so that a piece is in its second step while others are in their first.
What a piece has become is handed back to the driver, which alone writes into a run. Knows no stages and no files.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from crossward.engines.protocols import Advance, Scorer, no_progress

AdvanceOf = Callable[["Piece"], Advance]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A shard to make: `target`, of what `source` holds. `n` counts what a step advances by when it has done it."""

    language: str
    index: int
    target: Path
    source: Path | None = None
    n: int = 0

    @property
    def made_from(self) -> Path:
        """`source`, where there must be one."""
        assert self.source is not None, f"the shard {self.target} is made from another"
        return self.source


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One engine's part: `open` makes the engine, `do(engine, piece, value, advance)` what the next step gets as value.

    The first step's value is None. Both functions are pickled where the engine is in another process. An engine has
    `close()`. `name` is what people call it: sampler, policy, reference.
    """

    name: str
    open: Callable[[], Any]
    do: Callable[[Any, Piece, Any, Advance], Any]


class Crew(Protocol):
    """The engines of some steps, open."""

    def stream(
        self, pieces: Iterable[Piece], *, advance_of: AdvanceOf = lambda piece: no_progress
    ) -> Iterator[tuple[Piece, Any]]:
        """Every piece with what its last step made of it, in any order, each exactly once.

        Raises what a step raised: ValueError as it was, for what the user can mend.
        """
        ...

    def scorer(self, place: int) -> Scorer:
        """The engine of one step, a scorer, to be asked by itself. The crew closes it."""
        ...


class Workers(Protocol):
    @property
    def here(self) -> bool:
        """Whether steps are done in this process."""
        ...

    def crew(self, steps: Sequence[Step]) -> AbstractContextManager[Crew]:
        """Open the engines of steps when the first piece comes; close them at the end of the block."""
        ...

    def scorer(self, open: Callable[[], Scorer]) -> Scorer:
        """A scorer by itself, where a stage asks for one. Who asks closes it."""
        ...


class InProcess:
    """Workers of this process: one engine a step, one piece at a time, in their order."""

    here = True

    @contextmanager
    def crew(self, steps: Sequence[Step]) -> Iterator["InProcessCrew"]:
        with ExitStack() as opened:
            yield InProcessCrew(steps, opened)

    def scorer(self, open: Callable[[], Scorer]) -> Scorer:
        return open()


class InProcessCrew:
    """A `Crew` in this process; an engine is opened when it is first needed."""

    def __init__(self, steps: Sequence[Step], opened: ExitStack) -> None:
        self._steps = steps
        self._opened = opened
        self._engines: list[Any] = []

    def stream(
        self, pieces: Iterable[Piece], *, advance_of: AdvanceOf = lambda piece: no_progress
    ) -> Iterator[tuple[Piece, Any]]:
        for piece in pieces:
            value: Any = None
            for step, engine in zip(self._steps, self._all(), strict=True):
                value = step.do(engine, piece, value, advance_of(piece))
            yield piece, value

    def scorer(self, place: int) -> Scorer:
        return self._all()[place]

    def _all(self) -> list[Any]:
        for step in self._steps[len(self._engines) :]:
            engine = step.open()
            self._opened.callback(engine.close)
            self._engines.append(engine)
        return self._engines


IN_PROCESS: Workers = InProcess()

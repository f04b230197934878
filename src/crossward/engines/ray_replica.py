"""What runs in a cluster's processes: one engine of a step that does pieces, and the record of who began what.

A replica writes nothing and raises nothing: what it made, or why it could not, goes back as a row of bytes. A process
that is killed says nothing at all, so it tells the record before it begins what may kill it: a piece or an opening that
was begun too often without an end is refused in words.
"""

import os
import pickle
import threading
import time
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crossward.core.records import ResponseLogprob
from crossward.engines.protocols import Judged, Work, no_progress
from crossward.engines.workers import Piece, Step

LOOK_S = 1.0  # between two looks of a replica at whether it is needed
SHOWN_S = 10.0  # within which a node must see what another wrote on a shared file system
Row = dict[str, Any]  # place: of the piece; piece, value, failure: pickled


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What a step raised: the error itself where its reader can mend it, else its text with the traceback."""

    error: Exception | None
    told: str
    step: str
    piece: str
    node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Where the driver works, for a replica to work as it does: its folder, variables, node, and restarts allowed."""

    folder: str
    variables: Mapping[str, str]
    node: str
    restarts: int


class Record:
    """What was begun and has not ended, by step; an actor beside the driver."""

    def __init__(self) -> None:
        self._begun: Counter[tuple[str, str]] = Counter()
        self._dead_openings: Counter[tuple[str, str]] = Counter()
        self._opening: set[tuple[str, str]] = set()
        self._events = 0

    def opening(self, step: str, replica: str) -> int:
        """How many openings of this replica were killed since the last that went well."""
        if (step, replica) in self._opening:
            self._dead_openings[step, replica] += 1
        self._opening.add((step, replica))
        self._events += 1
        return self._dead_openings[step, replica]

    def opened(self, step: str, replica: str) -> None:
        self._opening.discard((step, replica))
        self._dead_openings[step, replica] = 0
        self._events += 1

    def begin(self, step: str, piece: str) -> int:
        """How often a step began a piece before and was killed."""
        self._begun[step, piece] += 1
        self._events += 1
        return self._begun[step, piece] - 1

    def end(self, step: str, piece: str) -> None:
        self._begun[step, piece] -= 1
        self._events += 1

    def idle(self) -> int | None:
        """None where something is at work; else a number that grows with everything that happens."""
        return None if self._opening or self._begun.total() else self._events


class Replica:
    """One engine of one step; Ray Data calls it with a row and gives what it returns to the next step."""

    def __init__(self, step: bytes, around: Surroundings, record: Any) -> None:
        self._around, self._record = around, record
        self._name = "a step"
        self._identity = _identity()
        self._failure: Failure | None = None
        self._engine: Any = None
        self._at_work = False
        threading.Thread(target=self._leave_with_record, daemon=True).start()
        try:
            settle_here(around)
            self._step: Step = pickle.loads(step)
            self._name = self._step.name
            killed = _asked(record.opening.remote(self._name, self._identity))
            if killed > around.restarts:
                raise ValueError(
                    f"the {self._name} cannot be opened on the cluster: its process was killed {killed} times while "
                    "it opened (out of memory?): give a replica more memory, or start fewer of them on a node"
                )
            self._engine = self._step.open()
            _asked(record.opened.remote(self._name, self._identity))
        except Exception as error:
            self._failure = failure_of(error, step=self._name, piece="", around=around)

    def __call__(self, row: Row) -> Row:
        """The row with what the step made of its piece; rows that failed pass through."""
        if row["failure"]:
            return row
        if self._failure is not None:
            return {**row, "failure": pickle.dumps(self._failure)}
        piece: Piece = pickle.loads(row["piece"])
        name = f"piece {piece.index} of {piece.language}"
        try:
            killed = _asked(self._record.begin.remote(self._name, name))
            if killed > self._around.restarts:
                raise ValueError(
                    f"{name} killed the process of the {self._name} {killed} times (out of memory?): give a replica "
                    "more memory, or make pieces smaller (shard_size)"
                )
            self._at_work = True
            value = self._step.do(self._engine, piece, pickle.loads(row["value"]), no_progress)
            made = {**row, "value": pickle.dumps(value)}
            self._record.end.remote(self._name, name)
            return made
        except Exception as error:
            self._record.end.remote(self._name, name)
            return {**row, "failure": pickle.dumps(failure_of(error, step=self._name, piece=name, around=self._around))}
        finally:
            self._at_work = False

    def _leave_with_record(self) -> None:
        """End when the record does, which is when the stream is over: Ray Data alone would keep what a replica holds of
        its node for as long as something in the driver remembers it.
        """
        import ray  # pyright: ignore[reportMissingImports]
        from ray.exceptions import ActorDiedError, RayError  # pyright: ignore[reportMissingImports]

        while True:
            time.sleep(LOOK_S)
            try:
                _asked(self._record.idle.remote())
            except ActorDiedError:
                break
            except RayError:  # it is being started again
                continue
        if self._engine is not None and not self._at_work:
            self._engine.close()
        ray.kill(ray.get_runtime_context().current_actor)


class ScorerReplica:
    """The engine of one step, a scorer, by itself. An answer brings what the scorer did for it."""

    def __init__(self, step: bytes, around: Surroundings) -> None:
        settle_here(around)
        self._around = around
        self._step: Step = pickle.loads(step)
        self._engine: Any = None

    def score(
        self, groups: Sequence[Judged], per_token: bool
    ) -> tuple[list[tuple[ResponseLogprob | None, ...]], Work] | Failure:
        try:
            if self._engine is None:
                self._engine = self._step.open()
            before = replace(self._engine.work)
            found = self._engine.score(groups, per_token=per_token)
            return found, self._engine.work.since(before)
        except Exception as error:
            return failure_of(error, step=self._step.name, piece="", around=self._around)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a node says of itself: versions, and whether it sees the driver's folder."""

    python: str
    ray: str
    crossward: str
    problem: str


def look_around(folder: str, shared: str, expected: str) -> Look:
    """Of the node that this runs on: `shared` names a file which holds `expected` where the file system is shared."""
    import platform

    import ray  # pyright: ignore[reportMissingImports]

    from crossward import __version__

    problem = "" if Path(folder).is_dir() else f"it has no folder {folder}"
    deadline = time.monotonic() + SHOWN_S
    while shared and not problem:
        try:
            found = Path(shared).read_text(encoding="utf-8")
        except OSError:
            found = ""
        if found == expected:
            break
        if time.monotonic() > deadline:
            problem = f"it does not see the driver's files in {Path(shared).parent}"
        time.sleep(0.2)
    return Look(
        python=platform.python_version(),
        ray=ray.__version__,
        crossward=__version__,
        problem=problem,
    )


def settle_here(around: Surroundings) -> None:
    """Work in the driver's folder and with its variables. Raises ValueError where the folder is not there."""
    try:
        os.chdir(around.folder)
    except OSError as error:
        raise ValueError(
            f"node {_node()} has no folder {around.folder} ({error.strerror}): every node must see the driver's "
            "files under the same path"
        ) from None
    os.environ.update(around.variables)


def failure_of(error: Exception, *, step: str, piece: str, around: Surroundings) -> Failure:
    """What can be mended goes back as it is, other errors as text: their class may need what the driver lacks.

    The node is named where it is not the driver's.
    """
    match error:
        case ValueError():
            kept: Exception | None = ValueError(str(error))
        case ModuleNotFoundError():
            kept = ModuleNotFoundError(str(error), name=error.name)
        case OSError():
            kept = OSError(error.errno, error.strerror, error.filename) if error.errno else OSError(str(error))
        case _:
            kept = None
    told, node = "".join(traceback.format_exception(error)), _node()
    return Failure(error=kept, told=told, step=step, piece=piece, node="" if node == around.node else node)


def error_of(failure: Failure) -> Exception:
    """What a step raised, to be raised at the driver: for the user as it was, else with the traceback from there."""
    where = f" ({failure.step}, node {failure.node})" if failure.node else ""
    match failure.error:
        case ValueError() as error:
            return ValueError(f"{error}{where}")
        case None:
            return RuntimeError(
                f"the {failure.step} failed{f' at {failure.piece}' if failure.piece else ''}{where}; there:\n"
                f"{failure.told}"
            )
        case error:
            return error


def _node() -> str:
    """This node's address."""
    import ray  # pyright: ignore[reportMissingImports]

    return ray.util.get_node_ip_address()


def _identity() -> str:
    """Who this process is: the same for a replica that was started again."""
    import ray  # pyright: ignore[reportMissingImports]

    return ray.get_runtime_context().get_actor_id() or ""


def _asked(reference: Any) -> Any:
    import ray  # pyright: ignore[reportMissingImports]

    return ray.get(reference)

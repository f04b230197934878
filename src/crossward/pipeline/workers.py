"""Pieces of work in several processes, one failure not the others': each process does whole pieces, one after another.

A process that dies (killed, out of memory) fails its piece alone; a new one takes the next. When the parent dies,
however it ends, its processes end at once, so that what they had locked is free. Knows nothing of the pieces.
"""

import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Literal, TypeVar

Piece = TypeVar("Piece")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a piece was not done. `kind` as exit codes: 2 where the user can mend it, 1 our fault (with traceback)."""

    kind: Literal[1, 2]
    sentence: str
    traceback: str = ""


def do_all(
    pieces: Sequence[Piece],
    work: Callable[[Piece], None],
    *,
    jobs: int,
    ended: Callable[[Piece, Failure | None], None],
) -> None:
    """`work` on every piece, in their order, in this process (`jobs` 1) or in `jobs` others; tells of each that ended.

    With several, pieces and `work` are pickled, and `work` runs in a fresh interpreter.
    """
    if jobs == 1:
        for piece in pieces:
            ended(piece, _attempt(work, piece))
        return
    waiting, workers = deque(pieces), [_Worker(work) for _ in range(min(jobs, len(pieces)))]
    busy: dict[Any, tuple[_Worker, Piece]] = {}  # by connection
    try:
        while waiting or busy:
            while workers and waiting:
                worker = workers.pop()
                busy[worker.connection] = worker, waiting.popleft()
                worker.connection.send(busy[worker.connection][1])
            for connection in wait(list(busy)):
                worker, piece = busy.pop(connection)
                try:
                    failure = worker.connection.recv()
                except (EOFError, ConnectionError):
                    failure = worker.death()
                    worker = _Worker(work)
                workers.append(worker)
                ended(piece, failure)
    finally:
        for worker in [*workers, *(worker for worker, _ in busy.values())]:
            worker.end()


class _Worker:
    """A process that does one piece at a time."""

    def __init__(self, work: Callable[[Piece], None]) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would share the threads of torch, which then hang
        self.connection, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(target=_serve, args=(theirs, work))
        self._process.start()
        theirs.close()

    def death(self) -> Failure:
        """What its exit code says."""
        self._process.join()
        code = self._process.exitcode or 0
        how = f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exit code {code}"
        more = ": is there too little memory for so many jobs?" if code == -signal.SIGKILL else ""
        return Failure(kind=1, sentence=f"its process ended with {how}{more}")

    def end(self) -> None:
        self._process.kill()
        self._process.join()


def _serve(connection: Connection, work: Callable[[Piece], None]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches every process of a terminal: end, say nothing
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            piece = connection.recv()
        except EOFError:
            return
        connection.send(_attempt(work, piece))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _attempt(work: Callable[[Piece], None], piece: Piece) -> Failure | None:
    try:
        work(piece)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        return Failure(kind=2, sentence=" ".join(str(error).split()), traceback=traceback.format_exc())
    except Exception as error:
        return Failure(kind=1, sentence=f"{type(error).__name__}: {error}", traceback=traceback.format_exc())
    return None

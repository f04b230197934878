"""The folder `<output>.work` beside a checkpoint that is being trained: its states, its pairs, who is at work in it.

A training that was cut leaves its states here and goes on from the last one that is whole. Locks are the kernel's
(flock): they go with the processes that hold them, however those end. Knows no models; loads no heavy library.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from crossward.engines.state_files import WHOLE, Sharding, Whole, drop, fault_of, read_whole, write_whole

_NOTHING_KEPT = {"lock", "processes"}
SAVE_SECONDS = 600.0  # how much training a killed run loses at most
ORPHANS_SECONDS = 120.0  # how long processes of a driver that died are waited for: they end by themselves


@dataclass(frozen=True, slots=True)
class TrainingFolder:
    """What lies beside `output` until it is there."""

    output: Path

    @property
    def path(self) -> Path:
        return self.output.with_name(self.output.name + ".work")

    @property
    def pairs(self) -> Path:
        """The pairs as token ids (pair_table.py); written anew by every start."""
        return self.path / "pairs.arrow"

    @property
    def order(self) -> Path:
        """What launched processes are to do."""
        return self.path / "order.json"

    @property
    def log(self) -> Path:
        """What launched processes, and what launched them, said."""
        return self.path / "launch.log"

    @property
    def failure(self) -> Path:
        """The sentence of a launched process that could not go on."""
        return self.path / "failure.json"

    @property
    def steps(self) -> Path:
        """How many steps launched processes have done."""
        return self.path / "steps"

    @property
    def result(self) -> Path:
        """The last step's values, of launched processes that came to the end."""
        return self.path / "result.json"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the only driver of this training. Raises ValueError where another is, or where `output` is there already.

        What is left at the end are states to continue from, and what tells of a failure.
        """
        self._require_absent()
        self.path.mkdir(parents=True, exist_ok=True)
        lock = self.path / "lock"
        with lock.open("a") as handle:
            held = _locked(handle)
            self._require_absent()
            # A driver that ended just now may have removed the file that is held here: another may lock its successor.
            if not held or not lock.exists() or lock.stat().st_ino != os.fstat(handle.fileno()).st_ino:
                raise ValueError(f"another process trains into {self.output}: wait until it ends")
            try:
                yield
            finally:
                self.pairs.unlink(missing_ok=True)
                left = {path.name for path in self.path.iterdir()} if self.path.is_dir() else set()
                if left and left <= _NOTHING_KEPT:
                    self.remove()

    def remove(self) -> None:
        """The checkpoint is there: nothing here is needed any more."""
        shutil.rmtree(self.path, ignore_errors=True)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Held by every launched process while it may write here."""
        with (self.path / "processes").open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH)
            yield

    def wait_for_orphans(self, seconds: float = ORPHANS_SECONDS) -> None:
        """Until no launched process is left here. Raises ValueError where one stays."""
        until = time.monotonic() + seconds
        with (self.path / "processes").open("a") as handle:
            while not _locked(handle):
                if time.monotonic() > until:
                    raise ValueError(
                        f"processes of an earlier start still train into {self.output}: end them and run again"
                    )
                time.sleep(0.1)

    def state(self, step: int) -> Path:
        """Where the library's Trainer keeps the state of a step."""
        return self.path / f"checkpoint-{step}"

    def states(self) -> list[Path]:
        """The states that are marked as whole, the newest last. Their files are not read: see `clear_for_start`."""
        return [state for _, state in self._found() if _mark_of(state) is not None]

    def last_state(self, sharding: Sharding, processes: int) -> str | None:
        """The newest marked state, None where there is none. Raises ValueError where other processes' was kept."""
        if not (states := self.states()) or (kept := _mark_of(states[-1])) is None:
            return None
        others = sharding == "deepspeed" and kept.processes != processes
        if kept.sharding != sharding or others:
            raise ValueError(
                f"{states[-1]} was kept by a training with {_told(kept.sharding, kept.processes)}, which "
                f"{_told(sharding, processes)} cannot continue: launch it as before, or delete {self.path} to begin "
                "anew"
            )
        return str(states[-1])

    def mark_whole(self, step: int, whole: Whole) -> None:
        """Say that the state of a step is whole, which is forced to the disk already, and drop all others."""
        state = self.state(step)
        write_whole(state, whole)
        for other in self.path.glob("checkpoint-*"):
            if other != state:
                shutil.rmtree(other, ignore_errors=True)

    def clear_for_start(self, say: Callable[[str], None]) -> None:
        """Drop what an earlier start said of itself, and the newest states up to one whose files are as written.

        By the driver, once, before anything trains: `last_state` then gives a state that was read and found whole.
        `say` hears of each that was dropped. Raises ValueError where the disk does not give one.
        """
        for path in (self.failure, self.steps, self.result, self.order):
            path.unlink(missing_ok=True)
        found = self._found()
        faults: list[tuple[int, Path, str]] = []
        while found and (fault := fault_of(found[-1][1])) is not None:
            faults.append((*found.pop(), fault))
        instead = f"step {found[-1][0]}" if found else "the beginning"
        for step, state, fault in faults:
            say(f"a state of the training at step {step} {fault}; going on from {instead}")
            drop(state)

    def _found(self) -> list[tuple[int, Path]]:
        """Every state, whole or not, by its step."""
        named = ((path.name.removeprefix("checkpoint-"), path) for path in self.path.glob("checkpoint-*"))
        return sorted((int(step), path) for step, path in named if step.isascii() and step.isdecimal())

    def _require_absent(self) -> None:
        if self.output.exists():
            raise ValueError(f"checkpoint {self.output} exists already: delete it to train again")


def _locked(handle: IO[str]) -> bool:
    """Whether nobody else has the file locked, and now we have."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _mark_of(state: Path) -> Whole | None:
    try:
        return read_whole(state / WHOLE)
    except (OSError, ValueError):
        return None


def _told(sharding: Sharding, processes: int) -> str:
    names = {"none": "whole weights", "fsdp2": "FSDP2", "deepspeed": "DeepSpeed"}
    return f"{names[sharding]} in {processes} process{'' if processes == 1 else 'es'}"

"""The folder `<output>.work` beside a checkpoint that is being trained: its states, its pairs, who is at work in it.

A training that was cut leaves its states here and goes on from the last one that is whole. Locks are the kernel's
(flock): they go with the processes that hold them, however those end. Knows no models; loads no heavy library.
"""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

Sharding = Literal["none", "fsdp2", "deepspeed"]
WHOLE = "whole.json"  # in a state of several processes, or of shared out weights: written last, by the first
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

    def states(self) -> list[Path]:
        """The states that are whole, the newest last.

        One process writes trainer_state.json last. Several write their parts at once, and the first marks the state
        when all have.
        """
        found = [path for path in self.path.glob("checkpoint-*") if _json_of(path / "trainer_state.json") is not None]
        whole = [path for path in found if not _is_to_be_marked(path) or _json_of(path / WHOLE) is not None]
        return sorted(whole, key=lambda path: int(path.name.rpartition("-")[2]))

    def last_state(self, sharding: Sharding, processes: int) -> str | None:
        """The newest whole state, None where there is none. Raises ValueError where other processes' was kept."""
        if not (states := self.states()):
            return None
        kept = _json_of(states[-1] / WHOLE) or {"sharding": "none", "processes": 1}
        ours: dict[str, Any] = {"sharding": sharding, "processes": processes}
        if kept["sharding"] != sharding or (sharding == "deepspeed" and kept != ours):
            raise ValueError(
                f"{states[-1]} was kept by a training with {_told(kept)}, which {_told(ours)} cannot continue: launch "
                f"it as before, or delete {self.path} to begin anew"
            )
        return str(states[-1])

    def mark_whole(self, step: int, sharding: Sharding, processes: int) -> None:
        """Say that the state of a step is whole, and drop all others."""
        state = self.path / f"checkpoint-{step}"
        mark = state / f".{WHOLE}"
        with mark.open("w", encoding="utf-8") as handle:
            json.dump({"sharding": sharding, "processes": processes}, handle)
            handle.flush()
            os.fsync(handle.fileno())
        mark.replace(state / WHOLE)
        for other in self.path.glob("checkpoint-*"):
            if other != state:
                shutil.rmtree(other, ignore_errors=True)

    def clear_for_launch(self) -> None:
        """Drop what an earlier start said of itself, and states that are not whole."""
        whole = self.states()
        for path in (self.failure, self.steps, self.result, self.order):
            path.unlink(missing_ok=True)
        for path in self.path.glob("checkpoint-*"):
            if path not in whole:
                shutil.rmtree(path, ignore_errors=True)

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


def _is_to_be_marked(state: Path) -> bool:
    """Several processes keep a random state each, which one alone calls otherwise; FSDP2 and DeepSpeed, in one process
    too, keep weights by names of their own.
    """
    marks = ("rng_state_0.pth", WHOLE, "pytorch_model_fsdp*", "global_step*")
    return any(True for mark in marks for _ in state.glob(mark))


def _json_of(file: Path) -> dict[str, Any] | None:
    """The object in a file; None where it is not there or was not written to its end."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _told(kept: dict[str, Any]) -> str:
    names = {"none": "whole weights", "fsdp2": "FSDP2", "deepspeed": "DeepSpeed"}
    return f"{names[kept['sharding']]} in {kept['processes']} process{'' if kept['processes'] == 1 else 'es'}"

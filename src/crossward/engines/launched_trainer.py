"""Training in processes that a command starts: `accelerate launch ...`, `torchrun ...`, `srun ...`.

Here is the driver's side: it writes the pairs and a work order, starts the command, follows its steps, and says in one
sentence what went wrong. What the processes do is train_worker.py's. However the driver ends, they end: the command is
told by the kernel, and each process looks whether what started it is still there. Knows no models.
"""

import ctypes
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from crossward.engines.pair_table import write_pairs
from crossward.engines.protocols import (
    Advance,
    Lora,
    ModelSpec,
    Training,
    TrainingPair,
    kept_by_nobody,
    no_progress,
)
from crossward.engines.tokens import ChatTokens
from crossward.engines.training_folder import SAVE_SECONDS, TrainingFolder

WORKER = "crossward.engines.train_worker"
POLL_SECONDS = 0.2
GRACE_SECONDS = 20.0  # between asking the command to end and ending it
_PARENT_DIED = 1  # PR_SET_PDEATHSIG of prctl.h


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """All that the processes are told; the pairs lie in the training's folder."""

    spec: ModelSpec
    training: Training
    output: Path
    metrics: Path
    save_seconds: float


class LaunchedTrainer:
    """protocols.Trainer in processes that `launch`, followed by `-m crossward.engines.train_worker`, starts.

    `say` hears of states that are not gone on from.
    """

    def __init__(
        self,
        spec: ModelSpec,
        tokens: ChatTokens,
        launch: Sequence[str],
        *,
        save_seconds: float = SAVE_SECONDS,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._spec = spec
        self._tokens = tokens
        self._launch = tuple(launch)
        self._save_seconds = save_seconds
        self._say = say

    def train(
        self,
        pairs: Iterable[TrainingPair],
        training: Training,
        *,
        output: Path,
        metrics: Path,
        advance: Advance = no_progress,
        keep: Callable[[dict[str, float]], None] = kept_by_nobody,
    ) -> dict[str, float]:
        """As TrlTrainer.train, which see. Raises ValueError where the processes fail."""
        program = found_program(self._launch)
        started = time.monotonic()
        work = TrainingFolder(output.absolute())
        order = Order(
            spec=self._spec,
            training=training,
            output=work.output,
            metrics=metrics.absolute(),
            save_seconds=self._save_seconds,
        )
        with work.held():
            work.wait_for_orphans()
            work.clear_for_start(self._say)
            counts = write_pairs(work.pairs, pairs, self._tokens, max_length=training.max_length)
            write_order(work, order)
            words = [program, *self._launch[1:], "-m", WORKER, str(work.order)]
            with work.log.open("ab") as log, _running(words, log) as process:
                done = _follow(process, work, advance)
            if process.returncode != 0 or not output.exists():
                raise _failure(work, self._launch, process.returncode, done)
            last = json.loads(work.result.read_text(encoding="utf-8"))
            result = {**last, **asdict(counts), "seconds": round(time.monotonic() - started, 3)}
            keep(result)
            work.remove()
        return result


def found_program(launch: Sequence[str]) -> str:
    """The first word's file; what is installed beside this Python is found without being on the path. ValueError."""
    beside = Path(sys.executable).parent / launch[0]
    found = shutil.which(launch[0]) or (str(beside) if os.access(beside, os.X_OK) and beside.is_file() else None)
    if found is None:
        raise ValueError(
            f"train.launch: the command {launch[0]!r} is not there: expected one that starts processes, such as "
            "accelerate or torchrun; install it or name its file"
        )
    return found


def write_order(work: TrainingFolder, order: Order) -> None:
    """Put the order down for the processes."""
    plain = asdict(order) | {"output": str(order.output), "metrics": str(order.metrics)}
    work.order.write_text(json.dumps(plain), encoding="utf-8")


def read_order(file: Path) -> Order:
    """The order as it was written."""
    plain: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    training = plain["training"]
    if (lora := training["lora"]) is not None:
        names = lora["target_modules"]
        training["lora"] = Lora(**{**lora, "target_modules": names if isinstance(names, str) else tuple(names)})
    return Order(
        spec=ModelSpec(**plain["spec"]),
        training=Training(**training),
        output=Path(plain["output"]),
        metrics=Path(plain["metrics"]),
        save_seconds=plain["save_seconds"],
    )


@contextmanager
def _running(words: Sequence[str], log: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """The command while the block runs; it never stays behind. It does not hear the terminal's Ctrl-C: we end it."""
    libc = ctypes.CDLL(None)  # looked up here: little may be done between fork and exec

    def die_with_parent() -> None:
        libc.prctl(_PARENT_DIED, signal.SIGTERM, 0, 0, 0)

    process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=die_with_parent,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _follow(process: "subprocess.Popen[bytes]", work: TrainingFolder, advance: Advance) -> int:
    """Tell of steps as they are done, until the command ends; returns how many were."""
    done = 0
    while True:
        ended = process.poll() is not None
        try:
            now = int(work.steps.read_text(encoding="ascii") or 0)
        except (OSError, ValueError):  # not yet there, or in the midst of being written
            now = done
        if now > done:
            advance(now - done)
            done = now
        if ended:
            return done
        time.sleep(POLL_SECONDS)


def _failure(work: TrainingFolder, launch: Sequence[str], code: int, done: int) -> Exception:
    """What a process said of itself, or that the command ended otherwise."""
    if work.failure.exists():
        said = json.loads(work.failure.read_text(encoding="utf-8"))
        if said["errno"] is not None:
            return OSError(said["errno"], os.strerror(said["errno"]), said["file"])
        return ValueError(said["sentence"])
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    lines = work.log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["(empty)"]
    return ValueError(
        f"training by `{shlex.join(launch)}` {how} after step {done}: what its processes said is in {work.log} (last "
        f"line: {lines[-1].strip()[:200]}); run again to go on from the last state that was kept"
    )

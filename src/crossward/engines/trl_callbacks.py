"""What happens between the steps of a training: a journal of every step, progress, and states saved by the clock."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from transformers import TrainerCallback, TrainerControl, TrainerState

from crossward.engines.processes import ALONE, Processes
from crossward.engines.protocols import Advance
from crossward.engines.state_files import FileSum, Whole, force_all, names_in, sums_of
from crossward.engines.training_folder import TrainingFolder


class Journal(TrainerCallback):
    """One JSON line per logged step; a resumed training first forgets the steps that it will do again.

    Without a path nothing is written; that a training diverged is an error everywhere.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._path is None:
            return
        lines = self._path.read_bytes().splitlines() if self._path.exists() else []
        kept = [line for line in lines if (step := _step(line)) is not None and step <= state.global_step]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_name(f".{self._path.name}.tmp")  # a kill leaves the old lines or these
        new.write_bytes(b"".join(line + b"\n" for line in kept))
        new.replace(self._path)

    def on_log(
        self,
        args: Any,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if logs and "loss" in logs:  # the very last entry sums the training up and has none
            if odd := [name for name, value in logs.items() if not math.isfinite(value)]:
                raise ValueError(
                    f"training diverged at step {state.global_step}, {odd[0]} is {logs[odd[0]]}: lower the learning "
                    f"rate (now {args.learning_rate:g}) or look at the preferences"
                )
            if self._path is None:
                return
            with self._path.open("a", encoding="utf-8") as journal:
                journal.write(json.dumps({"step": state.global_step, **logs}) + "\n")


def _step(line: bytes) -> int | None:
    """The step that a line tells of; None of a torn or damaged one."""
    try:
        step = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return None
    return step if isinstance(step, int) else None


class Steps(TrainerCallback):
    """Count the steps that are done, those before a resumption at once."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._advance(state.global_step)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._advance(1)


class SaveByTheClock(TrainerCallback):
    """Save the trainer's state every so many seconds: steps may take a millisecond or a minute.

    `agree`: of several processes, all save when the first one's clock says so.
    """

    def __init__(self, seconds: float, *, agree: Callable[[bool, torch.device], bool] = ALONE.agree) -> None:
        self._seconds = seconds
        self._last = time.monotonic()
        self._agree = agree

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        due = time.monotonic() - self._last >= self._seconds and state.global_step < state.max_steps
        if self._agree(due, args.device):
            control.should_save = True
            self._last = time.monotonic()


class MarkWhole(TrainerCallback):
    """Say that a state is whole when every process has written its part and all of it is on the disk.

    Each process hashes its share of the files. One on each machine forces them to the disk: what another machine's
    processes wrote may still be in that machine's memory.
    """

    def __init__(self, folder: TrainingFolder, processes: Processes) -> None:
        self._folder = folder
        self._processes = processes

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        processes, saved = self._processes, self._folder.state(state.global_step)
        processes.wait()
        names: list[str] = processes.of_first(names_in(saved) if processes.first else [])
        if processes.local == 0:
            force_all(saved)
        parts: list[dict[str, FileSum]] = processes.of_all(sums_of(saved, names[processes.number :: processes.count]))
        if processes.first:
            files = {name: part[name] for part in parts for name in sorted(part)}
            whole = Whole(sharding=processes.sharding, processes=processes.count, files=files)
            self._folder.mark_whole(state.global_step, whole)


class PutBack(TrainerCallback):
    """Give DeepSpeed the float32 weights that it has rounded; a training that goes on has its own in its state."""

    def __init__(self, processes: Processes, accelerator: Accelerator, weights: dict[str, torch.Tensor]) -> None:
        self._processes = processes
        self._accelerator = accelerator
        self._weights = weights

    def on_train_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        if state.global_step == 0:
            self._processes.put_back(self._accelerator, model, self._weights)
        self._weights = {}

"""What goes wrong inside a process: each function here is called in the child that it is to happen to.

A boundary is a moment at which what is on the disk changes: a file of the run is opened for writing, gets its name, is
forced to the disk, is cut, or goes; a folder is made or goes. The interpreter's audit events tell of them before they
happen, so that stopping at boundary n + 1 is stopping right behind boundary n.
"""

import errno
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_ON_PATHS = ("os.remove", "os.rmdir", "os.mkdir", "os.rename", "os.link", "os.truncate")


def at_boundaries(run: Path, act: Callable[[int, str], None]) -> None:
    """Call `act` with the number (from 1) and name of every boundary within a run's folder, before it happens."""
    counted = [0]
    watching = [True]

    def reached(name: str) -> None:
        counted[0] += 1
        watching[0] = False
        try:
            act(counted[0], name)
        finally:
            watching[0] = True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if not watching[0]:
            return
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & _WRITING and (place := _inside(path, run)):
                reached(f"open {place}")
        elif event in _ON_PATHS:
            # Paths that belong to a folder's descriptor are what rmtree removes.
            relative = event in ("os.remove", "os.rmdir") and arguments[-1] not in (-1, None)
            if relative or (place := _inside(arguments[0], run)):
                reached(f"{event} {arguments[0] if relative else place}")

    sync = os.fsync

    def fsync(descriptor: int) -> None:
        if watching[0] and (place := _inside(os.readlink(f"/proc/self/fd/{descriptor}"), run)):
            reached(f"fsync {place}")
        sync(descriptor)

    os.fsync = fsync
    sys.addaudithook(hook)


def kill_at(run: Path, number: int) -> None:
    """SIGKILL right before boundary `number`."""
    at_boundaries(run, lambda n, name: os.kill(os.getpid(), signal.SIGKILL) if n == number else None)


def signal_at(run: Path, number: int, *signals: int) -> None:
    """The first signal right before boundary `number`, each of the others a boundary later: during the clean-up."""
    wanted = {number + place: sent for place, sent in enumerate(signals)}
    at_boundaries(run, lambda n, name: os.kill(os.getpid(), wanted[n]) if n in wanted else None)


def fail_at(run: Path, number: int, code: int = errno.ENOSPC) -> None:
    """The operating system refuses, once, the first writing, forcing or naming of a file from boundary `number` on."""
    refused: list[str] = []

    def refuse(n: int, name: str) -> None:
        event, _, place = name.partition(" ")
        if n >= number and not refused and event in ("open", "fsync", "os.rename"):
            refused.append(name)
            raise OSError(code, os.strerror(code), *([] if event == "fsync" else [str(run / place)]))

    at_boundaries(run, refuse)


def kill_in_training(run: Path, place: str) -> None:
    """SIGKILL at the first boundary whose name holds `place`, once training has begun; its state is kept every step."""
    from crossward.engines.trl_trainer import TrlTrainer

    assert TrlTrainer.__init__.__kwdefaults__ is not None
    TrlTrainer.__init__.__kwdefaults__["save_seconds"] = 0.0
    seen: list[str] = []

    def act(number: int, name: str) -> None:
        if seen and place in name:
            os.kill(os.getpid(), signal.SIGKILL)
        if "/train" in name:
            seen.append(name)

    at_boundaries(run, act)


def record_boundaries(run: Path, to: Path) -> None:
    """The name of every boundary, a line each, into a file outside the run."""
    handle = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    at_boundaries(run, lambda n, name: os.write(handle, f"{name}\n".encode()) and None)


def jumping_clock(seed: int) -> None:
    """The time of day jumps by up to a year in both directions each time that it is asked for."""
    lot = random.Random(seed)
    true, true_ns = time.time, time.time_ns
    time.time = lambda: max(0.0, true() + lot.uniform(-3e7, 3e7))
    time.time_ns = lambda: max(0, true_ns() + lot.randrange(-30 * 10**15, 30 * 10**15))


def _inside(path: Any, run: Path) -> str | None:
    """The path within the run's folder; None for one outside."""
    if isinstance(path, int):
        return None
    name = os.fsdecode(path)
    return os.path.relpath(name, run) if name.startswith(f"{run}{os.sep}") or name == str(run) else None

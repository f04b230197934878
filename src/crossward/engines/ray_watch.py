"""Threads beside a stream from the cluster that tell what it cannot: nothing begins, or the head is gone.

They know nothing of steps and pieces.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from crossward.engines import ray_cluster

LOOK_S = 3.0  # between two looks at the head
PATIENCE_S = 30.0  # Ray ends the driver without a word after 60 s, and the clean-up takes some
GRACE_S = 10.0
Say = Callable[[str], None]


@contextmanager
def idleness_told(record: Any, pause_s: float, say: Say) -> Iterator[None]:
    """Tell, within the block, when nothing could begin for so long: others hold what the cluster has."""
    import ray  # pyright: ignore[reportMissingImports]

    over = threading.Event()

    def watch() -> None:
        before = None
        while not over.wait(pause_s):
            with suppress(Exception):  # the cluster may end beside this
                idle = ray.get(record.idle.remote(), timeout=pause_s)
                if idle is not None and idle == before:
                    say(f"no replica has begun anything for {pause_s:.0f} s: {ray_cluster.told_free()}")
                before = idle

    with _beside(watch, over):
        yield


@contextmanager
def head_watched(
    head: str, say: Say, *, look_s: float = LOOK_S, patience_s: float = PATIENCE_S, grace_s: float = GRACE_S
) -> Iterator[None]:
    """End the block with a ValueError when nobody has answered at HOST:PORT for `patience_s`.

    Where the block does not end, as Ray's own code in it waits for the head, the process does, `grace_s` later: Ray
    would end it soon, without a word and with the exit code of a bug.
    """
    over, lost = threading.Event(), threading.Event()
    sentence = (
        f"the head of the Ray cluster at {head} has not answered for {patience_s:.0f} s: start the cluster again and "
        "run the same command; what was finished is kept"
    )
    host, _, port = head.rpartition(":")
    main = threading.main_thread()
    on_main = threading.current_thread() is main

    def watch() -> None:
        answered, told = time.monotonic(), False
        while not over.wait(look_s):
            try:
                socket.create_connection((host, int(port)), timeout=look_s).close()
                answered, told = time.monotonic(), False
            except OSError:
                silent_s = time.monotonic() - answered
                if not told and silent_s >= patience_s / 3:
                    say(f"the head of the Ray cluster at {head} does not answer: the run ends soon if it stays so")
                    told = True
                if silent_s >= patience_s and not over.is_set():
                    lost.set()
                    if on_main:  # a real signal, which ends waiting too
                        signal.pthread_kill(main.ident or 0, signal.SIGINT)
                    if not over.wait(grace_s):
                        say(sentence)
                        sys.stderr.flush()
                        os._exit(2)
                    return

    try:
        with _beside(watch, over):
            yield
    except KeyboardInterrupt:
        if not lost.is_set():
            raise
        raise ValueError(sentence) from None


@contextmanager
def _beside(watch: Callable[[], None], over: threading.Event) -> Iterator[None]:
    threading.Thread(target=watch, name="crossward-cluster", daemon=True).start()
    try:
        yield
    finally:
        over.set()

"""Signals that wait: for code in which what a signal raises would be lost. Knows nothing of what that code does."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def signals_held() -> Iterator[None]:
    """Ctrl-C and SIGTERM do what they do when the block is over, once.

    Python drops an exception that is raised within `__del__`, and so would drop a Ctrl-C that comes there. Signals are
    the main thread's: in another one nothing is held.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    came: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        came.append(number)

    held = [number for number, handler in before.items() if callable(handler)]
    for number in held:
        signal.signal(number, hold)
    try:
        yield
    finally:
        for number in held:
            signal.signal(number, before[number])
        if came:
            signal.raise_signal(came[0])

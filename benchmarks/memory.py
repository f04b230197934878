"""Peak memory of this process and all that it started: what vLLM takes is in processes of its own."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import torch


class Peak:
    """The largest sum seen, in bytes; `gpu` is what the device had in use, by anyone."""

    def __init__(self) -> None:
        self.host = self.gpu = 0

    def look(self) -> None:
        own = psutil.Process()
        total = 0
        for process in (own, *own.children(recursive=True)):
            with suppress(psutil.Error):
                total += process.memory_full_info().uss
        self.host = max(self.host, total)
        if torch.cuda.is_available():
            free, whole = torch.cuda.mem_get_info()
            self.gpu = max(self.gpu, whole - free)

    def __str__(self) -> str:
        return f"{self.host / 1e9:.1f} GB" + (f" + {self.gpu / 1e9:.1f} GB on the GPU" if self.gpu else "")


@contextmanager
def peak_memory(every_s: float = 0.25) -> Iterator[Peak]:
    """Look several times a second until the block ends."""
    peak, done = Peak(), threading.Event()

    def watch() -> None:
        while not done.wait(every_s):
            peak.look()

    peak.look()
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()
        peak.look()

"""How long a model is at work: by the device's own events on CUDA, by the wall clock elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from crossward.engines.protocols import Work


@contextmanager
def timed(work: Work, device: torch.device) -> Iterator[None]:
    """Add the seconds of the block to `work`; waits for the device at the end of it."""
    if device.type != "cuda":
        started = time.monotonic()
        yield
        work.seconds += time.monotonic() - started
        return
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    yield
    end.record()
    end.synchronize()
    work.seconds += start.elapsed_time(end) / 1000

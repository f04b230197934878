"""What this machine is and how quick: its device, memory, and the rates of a plain product and a plain read.

Measured in about a second, for planning. Knows no model.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from crossward.engines.models import DTYPES, resolve_device
from crossward.engines.protocols import Dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One device of this machine: a processor with all its cores, or one GPU."""

    kind: str
    name: str
    cores: int
    memory_gib: float
    host_gib: float


def this_machine(device: str = "auto") -> Machine:
    """What the recipe's device is. ValueError where it is not there."""
    found = resolve_device(device)
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = os.cpu_count() or 1
    if found.type == "cuda":
        told = torch.cuda.get_device_properties(found)
        return Machine(kind="gpu", name=told.name, cores=cores, memory_gib=told.total_memory / 2**30, host_gib=host)
    return Machine(kind="cpu", name=f"{cores} cores", cores=cores, memory_gib=host, host_gib=host)


def product_tflops(dtype: Dtype, device: str) -> float:
    """TFLOP/s of a plain product, the best of three, by as many threads as models get."""
    place = resolve_device(device)
    size = 8192 if place.type == "cuda" else 1024
    left, right = (torch.randn(size, size, dtype=DTYPES[dtype], device=place) for _ in range(2))
    return 2.0 * size**3 / _best(lambda: left @ right, place, seconds=0.15) / 1e12


def read_gb_s(device: str) -> float:
    """GB/s of reading memory that no cache holds, the best of three."""
    place = resolve_device(device)
    values = torch.ones(2**28 if place.type == "cuda" else 2**26, device=place)
    return values.numel() * 4 / _best(values.sum, place, seconds=0.15) / 1e9


def _best(work: Callable[[], object], place: torch.device, *, seconds: float) -> float:
    """Seconds of the quickest of at least three calls, going on for `seconds`."""
    work()
    best, spent, calls = float("inf"), 0.0, 0
    while calls < 3 or spent < seconds:
        if place.type == "cuda":
            torch.cuda.synchronize(place)
        started = time.perf_counter()
        work()
        if place.type == "cuda":
            torch.cuda.synchronize(place)
        best = min(best, time.perf_counter() - started)
        spent, calls = spent + time.perf_counter() - started, calls + 1
    return best

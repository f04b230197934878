"""The policies of a run under the names that every part of a report gives them."""

import math
from collections.abc import Iterable, Iterator

from crossward.store import manifest
from crossward.store.manifest import StageManifest
from crossward.store.run_dir import IterationDir, RunDir, Stage


def policies_of(directory: RunDir, iterations: int) -> list[tuple[str, IterationDir]]:
    """The reference, then π_0, π_1, …: those that have a folder."""
    found = [("reference", directory.reference)]
    found += [(f"π_{t}", directory.iteration(t)) for t in range(iterations + 1)]
    return [(name, here) for name, here in found if here.path.exists()]


def finished(directory: RunDir, name: Stage, iterations: int) -> Iterator[tuple[int, StageManifest]]:
    """A stage of every iteration that has finished it, with the iteration's number."""
    for t in range(1, iterations + 1):
        if (done := manifest.read(directory.iteration(t).stage(name))) is not None:
            yield t, done


def in_order(names: Iterable[str]) -> list[str]:
    """Names of policies in the order of the method, others after them as they came.

    >>> in_order(["π_10", "π_2", "reference", "π_0", "mine"])
    ['reference', 'π_0', 'π_2', 'π_10', 'mine']
    """
    return sorted(dict.fromkeys(names), key=_place)


def _place(name: str) -> float:
    if name in ("reference", "π_I"):
        return -1
    number = name.removeprefix("π_")
    return int(number) if number.isdecimal() else math.inf

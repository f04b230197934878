"""The policies of a run under the names that tables, charts and reports give them, and their order."""

import math
from collections.abc import Iterable, Iterator

from crossward.store import manifest
from crossward.store.manifest import StageManifest
from crossward.store.run_dir import IterationDir, RunDir, Stage

REFERENCE = "reference"


def policies_of(directory: RunDir, iterations: int) -> dict[str, IterationDir]:
    """The policies of a run by name, where their answers are, or will be."""
    return {REFERENCE: directory.reference, **{f"π_{t}": directory.iteration(t) for t in range(iterations + 1)}}


def finished(directory: RunDir, name: Stage, iterations: int) -> Iterator[tuple[int, StageManifest]]:
    """A stage of every iteration that has finished it, with the iteration's number."""
    for t in range(1, iterations + 1):
        if (done := manifest.read(directory.iteration(t).stage(name))) is not None:
            yield t, done


def policy_number(name: str) -> float:
    """t of π_t, −1 of the reference, infinity of a name that is none of ours: not the order of the names.

    >>> sorted(["π_10", "mine", "π_2", "reference"], key=policy_number)
    ['reference', 'π_2', 'π_10', 'mine']
    """
    if name in (REFERENCE, "π_I"):
        return -1
    number = name.removeprefix("π_")
    return int(number) if number.isdecimal() else math.inf


def in_order(names: Iterable[str]) -> list[str]:
    """Each name once, in the order of the method."""
    return sorted(dict.fromkeys(names), key=policy_number)

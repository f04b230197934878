"""The policies of a run under the names that every part of a report gives them."""

from collections.abc import Iterator

from crossward.store import manifest
from crossward.store.manifest import StageManifest
from crossward.store.run_dir import IterationDir, RunDir, Stage


def policies_of(directory: RunDir) -> list[tuple[str, IterationDir]]:
    """The reference, then π_0, π_1, …: those that have a folder."""
    found = [("reference", directory.reference)]
    found += [(f"π_{t}", directory.iteration(t)) for t in directory.iterations()]
    return [(name, here) for name, here in found if here.path.exists()]


def finished(directory: RunDir, name: Stage) -> Iterator[tuple[int, StageManifest]]:
    """A stage of every iteration that has finished it, with the iteration's number."""
    for t in directory.iterations():
        if (done := manifest.read(directory.iteration(t).stage(name))) is not None:
            yield t, done

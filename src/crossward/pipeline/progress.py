"""How the pipeline talks: stages that begin and end, tasks that advance, plain lines. Nothing here prints.

The console shows them; wrappers (a tracker, a record of stages) pass everything on and listen.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from crossward.engines.protocols import Advance, no_progress
from crossward.store.manifest import StageManifest

MEGABYTE = 1_000_000
QUIET_MEGABYTES = 256  # files up to here are read in a moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """The prompts of one language that are to be answered, and how many of them were answered before."""

    prompts: int
    before: int = 0


class Sampled(Protocol):
    """What a piece of sampling is told by."""

    def of(self, language: str) -> Advance:
        """The function that counts the responses of a language."""
        ...

    def note(self, language: str, counts: Mapping[str, Any]) -> None:
        """What prompts that are finished hold, with the keys of counts.SampledTally."""
        ...


class Progress(Protocol):
    def task(self, title: str, total: int | None) -> AbstractContextManager[Advance]:
        """A piece of work of `total` units (None: nobody knows); the context gives the function that counts them."""
        ...

    def sampling(self, title: str, portions: Mapping[str, Portion], n: int) -> AbstractContextManager[Sampled]:
        """`n` responses to each prompt that is left of every language."""
        ...

    def plan(self, titles: Sequence[str]) -> None:
        """The stages of the run that begins, in their order."""
        ...

    def stage_begun(self, title: str) -> None:
        """The work of a stage begins; one that is there already only ends."""
        ...

    def stage_ended(self, title: str, done: StageManifest, *, made: bool) -> None:
        """A stage is there; `made`: now, by this run, and not before or by another."""
        ...

    def trained(self, title: str, metrics: Path) -> None:
        """A training has done a step more; those before it stand in the lines of `metrics`."""
        ...

    def say(self, line: str) -> None:
        """One line for the person who watches."""
        ...


@dataclass(frozen=True, slots=True)
class OneCount:
    """Sampling told as one task: languages are not told apart."""

    advance: Advance

    def of(self, language: str) -> Advance:
        return self.advance

    def note(self, language: str, counts: Mapping[str, Any]) -> None:
        return None


class Silent:
    """Shows nothing: for tests and for callers that have their own display."""

    @contextmanager
    def task(self, title: str, total: int | None) -> Iterator[Advance]:
        yield no_progress

    @contextmanager
    def sampling(self, title: str, portions: Mapping[str, Portion], n: int) -> Iterator[Sampled]:
        with self.task(f"{title}: responses", responses_left(portions, n)) as advance:
            yield OneCount(advance)

    def plan(self, titles: Sequence[str]) -> None:
        return None

    def stage_begun(self, title: str) -> None:
        return None

    def stage_ended(self, title: str, done: StageManifest, *, made: bool) -> None:
        return None

    def trained(self, title: str, metrics: Path) -> None:
        return None

    def say(self, line: str) -> None:
        return None


SILENT: Progress = Silent()


class Relay:
    """Passes everything on to another progress; who listens derives from it."""

    def __init__(self, to: Progress) -> None:
        self.to = to

    def task(self, title: str, total: int | None) -> AbstractContextManager[Advance]:
        return self.to.task(title, total)

    def sampling(self, title: str, portions: Mapping[str, Portion], n: int) -> AbstractContextManager[Sampled]:
        return self.to.sampling(title, portions, n)

    def plan(self, titles: Sequence[str]) -> None:
        self.to.plan(titles)

    def stage_begun(self, title: str) -> None:
        self.to.stage_begun(title)

    def stage_ended(self, title: str, done: StageManifest, *, made: bool) -> None:
        self.to.stage_ended(title, done, made=made)

    def trained(self, title: str, metrics: Path) -> None:
        self.to.trained(title, metrics)

    def say(self, line: str) -> None:
        self.to.say(line)


class Recorded(Relay):
    """Keeps what became of every stage: its title, how long it took and whether that was now."""

    def __init__(self, to: Progress) -> None:
        super().__init__(to)
        self.stages: list[dict[str, Any]] = []

    def stage_ended(self, title: str, done: StageManifest, *, made: bool) -> None:
        self.stages.append({"stage": title, "seconds": done.seconds, "made": "now" if made else "before"})
        super().stage_ended(title, done, made=made)


def responses_left(portions: Mapping[str, Portion], n: int) -> int:
    """How many responses are to be drawn."""
    return n * sum(portion.prompts - portion.before for portion in portions.values())


@contextmanager
def in_megabytes(progress: Progress, title: str, size: int) -> Iterator[Advance]:
    """A task counted in bytes and shown in megabytes; what is read in a moment (256 MB) shows none."""
    if size < QUIET_MEGABYTES * MEGABYTE:
        yield no_progress
        return
    with progress.task(f"{title}, MB", size // MEGABYTE) as advance:
        yield megabytes(advance)


def megabytes(advance: Advance) -> Advance:
    """Counts bytes, advances by whole megabytes."""
    told = done = 0

    def count(n: int) -> None:
        nonlocal told, done
        done += n
        if done // MEGABYTE > told:
            advance(done // MEGABYTE - told)
            told = done // MEGABYTE

    return count

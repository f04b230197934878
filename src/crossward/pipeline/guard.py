"""The English guard of a run: what an iteration's English answers lost against those of iteration 0, said loudly.

English brings its alignment into the method; whether it loses some while the other languages gain is asked of every
iteration. What is tested and how is in core/guard.py; further values per prompt, a judge's say, come as a function.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from crossward.core.guard import (
    FEW_PROMPTS,
    WATCHED,
    Change,
    change_of,
    false_alarms,
    guard_values,
    prompt_means,
    watched_values,
)
from crossward.pipeline.progress import Progress
from crossward.store import manifest
from crossward.store.measures_file import read_measures
from crossward.store.run_dir import IterationDir, RunDir

# Of the English answers of one iteration: {measure: {prompt id: value}}, higher is better.
ValuesOf = Callable[[IterationDir], Mapping[str, Mapping[str, float]]]


def no_values(here: IterationDir) -> Mapping[str, Mapping[str, float]]:
    """Nothing but what the answers show by themselves."""
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarded:
    """What became of English between iteration 0 and another: tested changes, and the length, which has no better."""

    changes: tuple[Change, ...]
    length: Change | None

    @property
    def drops(self) -> list[Change]:
        """The changes whose whole interval lies below 0."""
        return [change for change in self.changes if change.dropped]


def english_guard(directory: RunDir, t: int, *, values_of: ValuesOf = no_values) -> Guarded | None:
    """Iteration t against iteration 0, paired by prompt; None where either has no measured English answers."""
    here = [directory.iteration(0), directory.iteration(t)]
    files = [iteration.stage("evaluate").measures_file("en") for iteration in here]
    done = all(manifest.read(iteration.stage("evaluate")) is not None for iteration in here)
    if not done or not all(file.exists() for file in files):
        return None
    before, after = (read_measures(file) for file in files)
    changes = guard_values(
        {**watched_values(before), **values_of(here[0])},
        {**watched_values(after), **values_of(here[1])},
        shares=WATCHED,
    )
    length = change_of("n_chars", prompt_means(before, "n_chars"), prompt_means(after, "n_chars"), share=False)
    return Guarded(changes=tuple(changes), length=length)


def guard_english(directory: RunDir, t: int, progress: Progress, *, values_of: ValuesOf = no_values) -> None:
    """Say what English lost in iteration t, a line a drop; silent where nothing dropped or nothing was measured."""
    found = english_guard(directory, t, values_of=values_of)
    for change in found.drops if found else []:
        progress.say(f"ENGLISH DROPPED: iteration {t} against iteration 0: {told(change)}")


def told(change: Change) -> str:
    """A change in words, with its interval."""
    interval = change.difference
    left_out = f" ({change.n_left_out} more could not be compared)" if change.n_left_out else ""
    return (
        f"{change.measure} {change.before:.3f} → {change.after:.3f}, difference {interval.estimate:+.3f} "
        f"[{interval.low:+.3f}, {interval.high:+.3f}] over {change.n_prompts} prompts{left_out}"
    )


def told_tests(found: Guarded) -> str:
    """How many measures were tested, what that means, and which could not be."""
    n = len(found.changes)
    said = f"{n} measures tested, each at 95 %: chance alone would show {false_alarms(n):.2g} drops among them"
    untested = [name for name in WATCHED if name not in {change.measure for change in found.changes}]
    if any(change.n_prompts < FEW_PROMPTS for change in found.changes):
        said += f"; fewer than {FEW_PROMPTS} prompts give intervals that are too narrow: take a drop for a hint"
    return f"{said}; not known of these answers: {', '.join(untested)}" if untested else said

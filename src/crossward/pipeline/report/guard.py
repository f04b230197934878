"""The report's section on English: each iteration against iteration 0, drops said loudly, and what could be seen."""

from collections.abc import Mapping

from crossward.core.guard import Change
from crossward.pipeline.guard import Guarded, told, told_tests
from crossward.pipeline.report.blocks import Block, Bullets, Section, Words, table
from crossward.pipeline.report.tables import cell
from crossward.store import manifest
from crossward.store.run_dir import RunDir

NOTE = (
    "Differences from iteration 0, paired by prompt, with 95 % intervals over prompts; higher is better, a drop is a "
    "difference whose whole interval lies below 0. Smallest drop: about what so many prompts could have shown. Shares "
    "of prompts, 0 to 1, unless a measure says otherwise; length in characters has no better and is not tested."
)
TITLE = "English guard"


def guard_section(directory: RunDir, guarded: Mapping[int, Guarded]) -> Section | None:
    """The section, of what the guard found by iteration; None where no policy has answered yet."""
    start = directory.iteration(0).stage("evaluate")
    if manifest.read(start) is None:
        return None
    languages = start.measured_languages()
    if not languages:
        return _section(Words(text=f"Answers were given but not measured: do it with --redo {start.title}."))
    if "en" not in languages:
        seen = ", ".join(languages)
        return _section(
            Words(text=f"English is not among the evaluated languages ({seen}): what it lost is not known.")
        )
    if not guarded:
        return None
    changes = [(t, change) for t, found in guarded.items() for change in (*found.changes, found.length) if change]
    header = ["iteration", "measure", "prompts", "left out", "before", "after", "difference", "95 %", "smallest drop"]
    loud = [k for k, (_, change) in enumerate(changes) if change.measure != "n_chars" and change.dropped]
    return _section(
        Bullets(items=tuple(_verdict(t, found) for t, found in guarded.items())),
        table(header, [_row(t, change) for t, change in changes], loud=loud),
        Words(text=NOTE, tone="note"),
    )


def _section(*blocks: Block) -> Section:
    return Section(anchor="english-guard", title=TITLE, blocks=blocks)


def _verdict(t: int, guarded: Guarded) -> Words:
    tests = told_tests(guarded)
    if guarded.drops:
        lost = "; ".join(f"ENGLISH DROPPED: {told(change)}" for change in guarded.drops)
        return Words(text=f"iteration {t}: {lost}. {tests}.", tone="bad")
    prompts = max((change.n_prompts for change in guarded.changes), default=0)
    shown = [f"{change.measure} {cell(change.smallest_shown)}" for change in guarded.changes]
    could = f"; smallest drop that so many prompts could have shown: {', '.join(shown)}" if shown else ""
    return Words(text=f"iteration {t}: no drop beyond its interval over {prompts} prompts{could}. {tests}.")


def _row(t: int, change: Change) -> list[object]:
    interval = change.difference
    return [
        t,
        change.measure.replace("n_chars", "length (characters)"),
        change.n_prompts,
        change.n_left_out,
        change.before,
        change.after,
        interval.estimate,
        f"{cell(interval.low)} to {cell(interval.high)}",
        None if change.measure == "n_chars" else change.smallest_shown,
    ]

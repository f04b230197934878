"""The report's section on English: each iteration against iteration 0, drops in bold, and what could have been seen."""

from crossward.core.guard import Change
from crossward.pipeline.guard import Guarded, ValuesOf, english_guard, no_values, told, told_tests
from crossward.pipeline.report.tables import cell, table
from crossward.store import manifest
from crossward.store.run_dir import RunDir

NOTE = (
    "Differences from iteration 0, paired by prompt, with 95 % intervals over prompts; higher is better, a drop is a "
    "difference whose whole interval lies below 0. Smallest drop: about what so many prompts could have shown. Shares "
    "of prompts, 0 to 1, unless a measure says otherwise; length in characters has no better and is not tested."
)


def guard_section(directory: RunDir, iterations: int, *, values_of: ValuesOf = no_values) -> str:
    """The section for iterations 1 to `iterations`; empty where no policy has answered yet."""
    start = directory.iteration(0).stage("evaluate")
    if manifest.read(start) is None:
        return ""
    languages = start.measured_languages()
    if not languages:
        return f"## English guard\n\nAnswers were given but not measured: do it with --redo {start.title}."
    if "en" not in languages:
        return (
            f"## English guard\n\nEnglish is not among the evaluated languages ({', '.join(languages)}): what it lost "
            "is not known."
        )
    found = [(t, english_guard(directory, t, values_of=values_of)) for t in range(1, iterations + 1)]
    done = [(t, guarded) for t, guarded in found if guarded is not None]
    if not done:
        return ""
    rows = [_row(t, change) for t, guarded in done for change in (*guarded.changes, guarded.length) if change]
    header = ["iteration", "measure", "prompts", "left out", "before", "after", "difference", "95 %", "smallest drop"]
    verdicts = "\n".join(f"- iteration {t}: {_verdict(guarded)}" for t, guarded in done)
    return "\n\n".join(["## English guard", verdicts, table(header, rows), NOTE])


def _verdict(guarded: Guarded) -> str:
    tests = told_tests(guarded)
    if guarded.drops:
        return "; ".join(f"**ENGLISH DROPPED: {told(change)}**" for change in guarded.drops) + f". {tests}."
    prompts = max((change.n_prompts for change in guarded.changes), default=0)
    shown = [f"{change.measure} {cell(change.smallest_shown)}" for change in guarded.changes]
    could = f"; smallest drop that so many prompts could have shown: {', '.join(shown)}" if shown else ""
    return f"no drop beyond its interval over {prompts} prompts{could}. {tests}."


def _row(t: int, change: Change) -> list[object]:
    interval = change.difference
    name = f"**{change.measure}**" if change.measure != "n_chars" and change.dropped else change.measure
    return [
        t,
        name.replace("n_chars", "length (characters)"),
        change.n_prompts,
        change.n_left_out,
        change.before,
        change.after,
        interval.estimate,
        f"{cell(interval.low)} to {cell(interval.high)}",
        None if change.measure == "n_chars" else change.smallest_shown,
    ]

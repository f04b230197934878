"""Where time and tokens went, and what the run was made with."""

from typing import Any, get_args

from crossward.engines.charts import Mark, Stacks
from crossward.pipeline.report.blocks import Block, Code, Figure, Section, table
from crossward.store import manifest
from crossward.store.manifest import StageManifest
from crossward.store.run_dir import RunDir, Stage


def times_section(directory: RunDir, iterations: int) -> Section | None:
    """Seconds and tokens of every finished stage; None where none has finished."""
    found = finished_stages(directory, iterations)
    if not found:
        return None
    marks = tuple(Mark(place=where, series=name, value=done.seconds) for where, name, done in found)
    rows = [[f"{where}/{name}", done.seconds, *_tokens(done)] for where, name, done in found]
    rows.append(["together", sum(done.seconds for _, _, done in found), None, None])
    figure = Figure(
        chart=Stacks(title="Time per stage", axis="seconds", marks=marks),
        table=table(["stage", "seconds", "tokens", "tokens per second"], rows),
        note="A stage that was resumed counts the seconds of its last part alone.",
    )
    return Section(anchor="time", title="Time and tokens per stage", blocks=(figure,))


def finished_stages(directory: RunDir, iterations: int) -> list[tuple[str, str, StageManifest]]:
    """Folder, stage and manifest of every finished stage, in the order of the method."""
    folders = [directory.reference, *(directory.iteration(t) for t in range(iterations + 1))]
    return [
        (here.path.name, name, done)
        for here in folders
        for name in get_args(Stage)
        if (done := manifest.read(here.stage(name))) is not None
    ]


def _tokens(done: StageManifest) -> list[object]:
    """Tokens that a stage made or read, and how many a second."""
    parts: list[dict[str, Any]] = [*done.counts.get("languages", {}).values(), done.counts.get("training", {})]
    counted = [counts["tokens"] for counts in parts if "tokens" in counts]
    if not counted:
        return [None, None]
    total = sum(counted)
    return [total, round(total / done.seconds) if done.seconds else None]


def provenance_section(directory: RunDir) -> Section | None:
    """Versions, hardware, seeds and git state, and the recipe as resolved."""
    blocks: list[Block] = [
        Code(text=path.read_text(encoding="utf-8", errors="replace").strip(), language=language)
        for path, language in ((directory.provenance, "json"), (directory.config, "yaml"))
        if path.exists()
    ]
    return Section(anchor="provenance", title="Provenance", blocks=tuple(blocks)) if blocks else None

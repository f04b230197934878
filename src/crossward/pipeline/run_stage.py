"""The one door of a stage: done already with the same inputs and settings, or done now and closed with stage.json.

Where the run shares its stages (an experiment), what another run made of the same is taken in the place of the work.
Knows nothing of what a stage does.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from crossward.pipeline.progress import SILENT, Progress, in_megabytes
from crossward.store import manifest
from crossward.store.manifest import StageManifest
from crossward.store.run_dir import StageDir

Inputs = Mapping[str, str]
# The files that a stage made, and what it says of itself.
Made = tuple[list[Path], dict[str, Any]]


def run_stage(
    stage: StageDir,
    inputs: Inputs,
    settings: Mapping[str, Any],
    work: Callable[[], Made],
    *,
    anew: bool = False,
    progress: Progress = SILENT,
) -> StageManifest:
    """Do the work of a stage unless it is already done with the same inputs and settings; `progress` hears of it.

    `anew`: what other runs share is not taken but replaced (the work is known to give more than they have).
    """
    done = _completed(stage, inputs, settings, progress)
    if done is None:
        manifest.begin(stage, inputs, settings)
    finished, made = _found_or_made(stage, inputs, settings, work, done, anew, progress)
    progress.stage_ended(stage.title, finished, made=made)
    return finished


def _found_or_made(
    stage: StageDir,
    inputs: Inputs,
    settings: Mapping[str, Any],
    work: Callable[[], Made],
    done: StageManifest | None,
    anew: bool,
    progress: Progress,
) -> tuple[StageManifest, bool]:
    """The stage, and whether it was made now."""

    def finished() -> tuple[StageManifest, bool]:
        return (_made(stage, inputs, settings, work, progress), True) if done is None else (done, False)

    if stage.shared is None:
        return finished()
    with stage.shared.reserved(stage, inputs, settings) as pooled:
        if done is not None and pooled.is_there:
            return done, False
        if done is None and not anew and (taken := pooled.take()) is not None:
            return taken, False
        found, made = finished()
        pooled.publish(found)
        return found, made


def _completed(
    stage: StageDir, inputs: Inputs, settings: Mapping[str, Any], progress: Progress
) -> StageManifest | None:
    """What is there already: its files are read whole, which takes a while where a checkpoint is among them."""
    known = manifest.read(stage)
    size = 0 if known is None else manifest.size_of(stage, known)
    with in_megabytes(progress, f"{stage.title}: checking what is there", size) as advance:
        return manifest.completed(stage, inputs, settings, advance=advance, say=progress.say)


def _made(
    stage: StageDir, inputs: Inputs, settings: Mapping[str, Any], work: Callable[[], Made], progress: Progress
) -> StageManifest:
    progress.stage_begun(stage.title)
    started = time.monotonic()
    files, counts = work()
    seconds = round(time.monotonic() - started, 3)
    size = sum(path.stat().st_size for path in files)
    with in_megabytes(progress, f"{stage.title}: hashing what was made", size) as advance:
        return manifest.finish(stage, inputs, settings, counts=counts, files=files, seconds=seconds, advance=advance)

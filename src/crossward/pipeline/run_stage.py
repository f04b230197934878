"""The one door of a stage: done already with the same inputs and settings, or done now and closed with stage.json.

Where the run shares its stages (an experiment), what another run made of the same is taken in the place of the work.
Knows nothing of what a stage does.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

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
) -> StageManifest:
    """Do the work of a stage unless it is already done with the same inputs and settings.

    `anew`: what other runs share is not taken but replaced (the work is known to give more than they have).
    """
    done = manifest.completed(stage, inputs, settings)
    if done is None:
        manifest.begin(stage, inputs, settings)
    if stage.shared is None:
        return done or _made(stage, inputs, settings, work)
    with stage.shared.reserved(stage, inputs, settings) as pooled:
        if done is not None and pooled.is_there:
            return done
        if done is None and not anew and (taken := pooled.take()) is not None:
            return taken
        finished = done or _made(stage, inputs, settings, work)
        pooled.publish(finished)
        return finished


def _made(stage: StageDir, inputs: Inputs, settings: Mapping[str, Any], work: Callable[[], Made]) -> StageManifest:
    started = time.monotonic()
    files, counts = work()
    seconds = round(time.monotonic() - started, 3)
    return manifest.finish(stage, inputs, settings, counts=counts, files=files, seconds=seconds)

"""What `crossward diagnose` measured of a run's reward, put where the run's report and concerns look for it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crossward.core.records import View
from crossward.core.rewards import RewardAccuracy
from crossward.pipeline.run_state import require_run
from crossward.store.reward_accuracy_file import read_reward_accuracy, write_reward_accuracy
from crossward.store.run_dir import RunDir


def open_record(run: Path, iteration: int) -> RunDir:
    """The run. Raises ValueError where the folder is none, or has no such iteration."""
    directory = require_run(run)
    known = [t for t in directory.iterations() if t]
    if iteration not in known:
        raise ValueError(
            f"{run} has no iteration {iteration}: expected one of {', '.join(map(str, known)) or 'none yet'}"
        )
    return directory


def record(directory: RunDir, iteration: int, languages: Mapping[str, Any], *, by: str) -> int:
    """Write the accuracies of `diagnose_file`'s languages beside what else is known; returns how many.

    What was recorded of the same iteration, view, language and source before is replaced.
    """
    views: tuple[View, ...] = ("crosslingual", "multilingual", "translated")
    rows = [
        RewardAccuracy(
            iteration=iteration,
            view=view,
            language=language,
            by=by,
            accuracy=found["interval"]["estimate"],
            low=found["interval"]["low"],
            high=found["interval"]["high"],
            n_pairs=found["n_pairs"],
        )
        for language, seen in languages.items()
        for view in views
        if (found := seen["views"].get(view, {}).get("accuracy")) is not None
    ]
    replaced = {_key(row) for row in rows}
    kept = [row for row in read_reward_accuracy(directory.reward_accuracy) if _key(row) not in replaced]
    write_reward_accuracy(directory.reward_accuracy, sorted([*kept, *rows], key=_key))
    return len(rows)


def _key(row: RewardAccuracy) -> tuple[int, str, str, str]:
    return row.iteration, row.view, row.language, row.by

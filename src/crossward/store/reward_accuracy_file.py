"""How often a run's reward ranked answers as something better does: reward-accuracy.json, one record a measurement.

Written by whoever holds the truth (gold, labelled pairs, a judge); read by the report.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from crossward.core.rewards import RewardAccuracy
from crossward.store.files import write_text

_ROWS = TypeAdapter(list[RewardAccuracy])


def write_reward_accuracy(path: Path, rows: Iterable[RewardAccuracy]) -> None:
    """Write all measurements of a run, in the place of what was there."""
    text = ",\n".join(json.dumps(asdict(row), ensure_ascii=False) for row in rows)
    write_text(path, f"[\n{text}\n]\n")


def read_reward_accuracy(path: Path) -> list[RewardAccuracy]:
    """Read them again; none where there is no file. Raises ValueError where it holds something else."""
    if not path.exists():
        return []
    try:
        return _ROWS.validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ValueError(f"{path} holds no reward accuracies ({where}: {first['msg']}): make it again") from None

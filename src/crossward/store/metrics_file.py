"""metrics.jsonl of a training stage: the steps as they were logged."""

from pathlib import Path
from typing import Any

from crossward.store.json_lines import loose_json


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Every whole line that tells of a step; the last one may be half written, and is left out. None without a file."""
    if not path.exists():
        return []
    found: list[dict[str, Any]] = []
    for line in path.read_bytes().split(b"\n"):
        try:
            row = loose_json(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            found.append(row)
    return found

"""RUN/tracking.json: what a tracker was told of a run, so that nothing is told twice; by tracker, project and name."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from crossward.store.files import write_text
from crossward.store.json_lines import loose_json


@dataclass(slots=True, kw_only=True)
class Told:
    """`id` of the tracker's run; `stages`: title -> hash of what was told; `steps`: title -> the last training step.

    `logged`: in how many portions.
    """

    id: str
    logged: int = 0
    stages: dict[str, str] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)


def read_told(path: Path, key: str) -> Told | None:
    """What was told under a key; None where nothing was, or where the file cannot be read: all is told again."""
    try:
        found = loose_json(path.read_bytes())[key]
        return Told(
            id=str(found["id"]),
            logged=int(found["logged"]),
            stages={str(title): str(digest) for title, digest in found["stages"].items()},
            steps={str(title): int(step) for title, step in found["steps"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_told(path: Path, key: str, told: Told) -> None:
    """Write what was told under a key, atomically; other keys stay."""
    try:
        content = loose_json(path.read_bytes())
    except (OSError, ValueError):
        content = {}
    content = content if isinstance(content, dict) else {}
    write_text(path, json.dumps(content | {key: asdict(told)}, ensure_ascii=False, indent=1) + "\n")

"""What a trainer said of itself, kept before its checkpoint is there: a kill may come before stage.json holds it."""

import json
from pathlib import Path
from typing import Any

from crossward.store.files import write_text
from crossward.store.json_lines import loose_json
from crossward.store.manifest import content_hash


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Write it, with a checksum."""
    write_text(path, json.dumps({"result": result, "checksum": content_hash(result)}) + "\n")


def read_result(path: Path) -> dict[str, Any] | None:
    """What was written; None where there is nothing, or something else."""
    try:
        content = loose_json(path.read_bytes())
        result = content["result"]
        return result if isinstance(result, dict) and content["checksum"] == content_hash(result) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None

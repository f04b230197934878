"""Why responses of a shard have no rating or no translation: counts by reason, in a small JSON file beside the shard.

Written before the shard has its name, so that a shard that is there has its reasons, whoever made it and wherever a
kill came; the counts of a stage are added up from the disk. No part of what the next stage reads.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from crossward.store.files import write_text
from crossward.store.json_lines import loose_json

Reasons = Mapping[str, Mapping[str, int]]  # by what is counted ("failures"), then by reason


def write_reasons(path: Path, reasons: Reasons) -> None:
    """Write the counts of one shard, in the place of any that are there."""
    write_text(path, json.dumps({name: dict(found) for name, found in reasons.items()}, sort_keys=True) + "\n")


def read_reasons(paths: Iterable[Path], *names: str) -> dict[str, dict[str, int]]:
    """The counts of several shards together, under each of `names`; a shard of before there were such files has none.

    Raises ValueError for a file that holds something else.
    """
    total = {name: Counter[str]() for name in names}
    for path in paths:
        if path.exists():
            found = _read(path)
            for name in names:
                total[name].update(found.get(name, {}))
    return {name: dict(counts) for name, counts in total.items()}


def _read(path: Path) -> dict[str, dict[str, int]]:
    try:
        found = loose_json(path.read_bytes())
        if all(isinstance(n, int) for counts in found.values() for n in counts.values()):
            return found
    except (ValueError, AttributeError):
        pass
    raise ValueError(f"{path} is damaged (no counts by reason): delete it and the shard beside it, and run again")

"""evaluation.json of a run: the win rates of its judged policies, as core.winrates found them. Its one reader."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from crossward.core.winrates import WinRates
from crossward.store.files import write_text
from crossward.store.json_lines import parse_json
from crossward.store.manifest import content_hash

_RATES = TypeAdapter(WinRates)


def write_rates(path: Path, rates: Mapping[str, Any]) -> None:
    """Write what `read_rates` returns, with a checksum."""
    sealed = {**rates, "checksum": content_hash(rates)}
    write_text(path, json.dumps(sealed, ensure_ascii=False, indent=1) + "\n")


def read_rates(path: Path) -> dict[str, Any] | None:
    """`rates`, `averages` and `differences` as plain values, and who judged where that is told; None without a file.

    Raises ValueError for a file that holds anything else.
    """
    if not path.exists():
        return None
    try:
        found = parse_json(path.read_bytes().decode("utf-8", "surrogateescape"), where=str(path))
        if found.pop("checksum", None) not in (None, content_hash(found)):  # none in runs of earlier versions
            raise ValueError("its checksum is another")
        _RATES.validate_python({key: value for key, value in found.items() if key != "judge"})
    except (ValueError, AttributeError, TypeError, IsADirectoryError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        where = f" ({'.'.join(map(str, first['loc']))}: {first['msg']})" if first else ""
        raise ValueError(f"{path} holds no win rates{where}: delete it and run again") from None
    return found

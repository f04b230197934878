"""Prompt files too large to be read for a look: their lines are counted, and their first rows read.

JSON Lines alone, as other formats have no first rows without the rest. Ids and twins of the other rows are not checked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from crossward.core.records import Prompt
from crossward.store.json_lines import parse_json
from crossward.store.rows import Source

LARGE_BYTES = 2**28  # of a recipe's prompt files together
FIRST_ROWS = 200
BLOCK_BYTES = 2**22


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedPrompts:
    """How many prompts each language has, the first of them, and the bytes of all files."""

    counts: dict[str, int]
    first: dict[str, list[Prompt]]
    n_bytes: int


def count_if_large(sources: Mapping[str, Source], english: Source, *, limit: int | None) -> CountedPrompts | None:
    """None where the files are small enough to be read, or are no JSON Lines."""
    paths = {language: Path(source.path).expanduser() for language, source in sources.items()}
    twin_path = Path(english.path).expanduser()
    if not all(path.suffix.lower() == ".jsonl" and path.is_file() for path in (*paths.values(), twin_path)):
        return None
    n_bytes = sum(path.stat().st_size for path in {*paths.values(), twin_path})
    if n_bytes <= LARGE_BYTES:
        return None
    twins = dict(_first_rows(twin_path, english))
    first = {
        language: [
            Prompt(id=id, language=language, instruction=text, english_instruction=twins.get(id, text))
            for id, text in _first_rows(path, sources[language])
        ]
        for language, path in paths.items()
    }
    counts = {language: _count_lines(path, limit) for language, path in paths.items()}
    return CountedPrompts(counts=counts, first=first, n_bytes=n_bytes)


def _first_rows(path: Path, source: Source) -> list[tuple[str, str]]:
    """Id and instruction of the first rows. ValueError with the line where one lacks them."""
    found = []
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(islice(lines, FIRST_ROWS), start=1):
            if line.strip():
                row: Any = parse_json(line, where=f"{path}, line {number}")
                keys = source.id_field or "id", source.instruction_field or "instruction"
                if not isinstance(row, dict) or not all(key in row for key in keys):
                    raise ValueError(f"{path}, line {number}: expected an object with {keys[0]!r} and {keys[1]!r}")
                found.append((str(row[keys[0]]), str(row[keys[1]])))
    return found


def _count_lines(path: Path, limit: int | None) -> int:
    """Lines of a file, no more than `limit`; the last may lack its line end."""
    lines, last = 0, b"\n"
    with path.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            lines += block.count(b"\n")
            last = block[-1:]
            if limit is not None and lines >= limit:
                return limit
    return lines + (last != b"\n")

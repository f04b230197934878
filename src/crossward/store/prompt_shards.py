"""The prompts of one language on disk, as a sequence: a length, slices that are not read before they are gone through.

Parts of a fixed number of prompts, in the order of the English file; `prompts.json` beside them is written last and has
their sha256: rows of a slice are read without the checksum of all rows of their file. A slice can be pickled and costs
what its own rows cost, however many there are in all. Knows no sources.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import overload

from crossward.core.records import Prompt
from crossward.store.checked_files import file_sha256
from crossward.store.files import remove, write_text
from crossward.store.json_lines import loose_json
from crossward.store.manifest import ListHash, content_hash
from crossward.store.parquet_files import ROW_GROUP, read_records, write_rows
from crossward.store.run_dir import PromptsDir
from crossward.store.table_rows import PROMPTS, prompt_of, prompt_row

PART = 32 * ROW_GROUP  # prompts in a file


@dataclass(frozen=True, slots=True)
class PromptShards(Sequence[Prompt]):
    """Prompts `start` up to `stop` of a folder."""

    folder: PromptsDir
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @overload
    def __getitem__(self, place: int) -> Prompt: ...
    @overload
    def __getitem__(self, place: slice) -> "PromptShards": ...

    def __getitem__(self, place: int | slice) -> "Prompt | PromptShards":
        if isinstance(place, slice):
            start, stop, step = place.indices(len(self))
            if step != 1:
                raise ValueError(f"prompts on disk are read forwards, one after another: got a step of {step}")
            return PromptShards(self.folder, self.start + start, self.start + max(start, stop))
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        at = place % len(self)
        return next(iter(self[at : at + 1]))

    def __iter__(self) -> Iterator[Prompt]:
        for part in range(self.start // PART, -(-self.stop // PART)):
            first = part * PART
            places = range(max(self.start - first, 0), min(self.stop - first, PART))
            yield from read_records(self.folder.part(part), PROMPTS, prompt_of, places=places)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptPrompts:
    """What is known of the prompts of a folder without reading them.

    `key` stands for what they were read from, `content_hash` for all of them as a list of objects, `n_missing` for the
    ids that the language lacks; `parts` are the sha256 of the files.
    """

    key: str
    n_prompts: int
    n_missing: int
    content_hash: str
    parts: tuple[str, ...]

    @property
    def checksum(self) -> str:
        """Of everything else in the record."""
        return content_hash(asdict(self))


def write_prompts(folder: PromptsDir, prompts: Iterable[Prompt], *, key: str, n_missing: int) -> KeptPrompts:
    """Write the prompts of a language in the place of what is there."""
    remove_prompts(folder)
    left, found, n = iter(prompts), ListHash(), 0

    def hashed(part: Iterable[Prompt]) -> Iterator[dict[str, str]]:
        nonlocal n
        for prompt in part:
            found.add(asdict(prompt))
            n += 1
            yield prompt_row(prompt)

    for first in left:
        write_rows(folder.part(n // PART), PROMPTS, hashed((first, *islice(left, PART - 1))))
    kept = KeptPrompts(
        key=key,
        n_prompts=n,
        n_missing=n_missing,
        content_hash=found.value,
        parts=tuple(file_sha256(folder.part(index)) for index in range(-(-n // PART))),
    )
    record = asdict(kept) | {"checksum": kept.checksum}
    write_text(folder.record, json.dumps(record, indent=2, sort_keys=True) + "\n")
    return kept


def kept_prompts(folder: PromptsDir) -> KeptPrompts | None:
    """The record of a folder whose files are as they were written; None where there is none.

    Raises ValueError where the record or a file is not what was written. Every file is read.
    """
    kept = _record(folder)
    if kept is None:
        return None
    for index, sha256 in enumerate(kept.parts):
        if not folder.part(index).is_file() or file_sha256(folder.part(index)) != sha256:
            raise ValueError(f"{folder.part(index)} is not what was written")
    return kept


def _record(folder: PromptsDir) -> KeptPrompts | None:
    try:
        row = loose_json(folder.record.read_bytes())
        checksum = row.pop("checksum")
        kept = KeptPrompts(**row | {"parts": tuple(row["parts"])})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise ValueError(f"{folder.record} is not what was written") from None
    if kept.checksum != checksum:
        raise ValueError(f"{folder.record} is not what was written")
    return kept


def open_prompts(folder: PromptsDir, kept: KeptPrompts) -> PromptShards:
    """All prompts of a folder."""
    return PromptShards(folder, 0, kept.n_prompts)


def known_hash(prompts: PromptShards) -> str | None:
    """The content hash of all prompts of a folder; None of some of them."""
    kept = _record(prompts.folder)
    return kept.content_hash if kept is not None and len(prompts) == kept.n_prompts else None


def remove_prompts(folder: PromptsDir) -> None:
    """Remove the prompts of a language, the record first, so that a kill half-way leaves none that look whole."""
    remove(folder.record)
    remove(folder.path)

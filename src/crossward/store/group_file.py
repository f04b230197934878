"""A JSON Lines file of groups as a stream: one group in memory at a time, each id once per language.

The first reading takes the groups as they stand and keeps 24 bytes of each: where it is, and a hash of what it is
called. Then the groups of one language can be read again by themselves. Knows no record.
"""

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np

from crossward.core.plain_text import shown
from crossward.core.records import Prompt
from crossward.store.json_lines import JsonLines, Row


class HasPrompt(Protocol):
    @property
    def prompt(self) -> Prompt: ...


Group = TypeVar("Group", bound=HasPrompt, covariant=True)


@dataclass(frozen=True, slots=True)
class _Index:
    """Of the groups of one language: line numbers, the bytes at which the lines begin, hashes of the ids."""

    numbers: array = field(default_factory=lambda: array("q"))
    offsets: array = field(default_factory=lambda: array("q"))
    hashes: array = field(default_factory=lambda: array("q"))


class GroupFile(Generic[Group]):
    """The groups of a file, made of its rows by `record_of(row, where)`.

    Iterating reads the whole file; at its end a ValueError names an id that stands there twice, and its lines.
    """

    def __init__(self, path: Path, record_of: Callable[[Row, str], Group]) -> None:
        self.path = path
        self._rows = JsonLines(path)
        self._record_of = record_of
        self._indices: dict[str, _Index] = {}

    def __enter__(self) -> "GroupFile[Group]":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._rows.close()

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._rows.size

    def watch(self, advance: Callable[[int], None]) -> None:
        """Call `advance(n)` whenever n more bytes were read."""
        self._rows.advance = advance

    def sha256(self) -> str:
        """Hex sha256 of the file's bytes."""
        return self._rows.sha256()

    @property
    def languages(self) -> list[str]:
        """The languages of the groups, in order; known once the file was read."""
        return sorted(self._indices)

    def __iter__(self) -> Iterator[Group]:
        self._indices = {}
        for number, offset, row in self._rows:
            group = self._record_of(row, f"{self.path}, line {number}")
            index = self._indices.setdefault(group.prompt.language, _Index())
            index.numbers.append(number)
            index.offsets.append(offset)
            index.hashes.append(hash(group.prompt.id))
            yield group
        for language in self.languages:
            self._require_unique(language)

    def of(self, language: str) -> Iterator[Group]:
        """The groups of one language again, in the file's order."""
        index = self._indices[language]
        for number, offset in zip(index.numbers, index.offsets, strict=True):
            yield self._record_of(self._rows.at(number, offset), f"{self.path}, line {number}")

    def _require_unique(self, language: str) -> None:
        index = self._indices[language]
        hashes = np.frombuffer(index.hashes, np.int64)
        in_order = np.sort(hashes)
        suspects = np.isin(hashes, in_order[1:][in_order[1:] == in_order[:-1]])
        seen: dict[str, int] = {}
        for place in np.flatnonzero(suspects).tolist():
            number = index.numbers[place]
            where = f"{self.path}, line {number}"
            id = self._record_of(self._rows.at(number, index.offsets[place]), where).prompt.id
            if id in seen:
                raise ValueError(
                    f"{self.path}: id {shown(id)} in language {shown(language)} stands on lines {seen[id]} and "
                    f"{number}: each id may occur once per language, so remove or rename one"
                )
            seen[id] = number

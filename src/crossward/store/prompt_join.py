"""Prompts joined to their English twins by id on disk, where they are too many for memory.

As sources.load_prompts, with its checks and its words: English twins go into a temporary SQLite file beside the
prompts, then one language after another is looked up there, put into the English order and written as prompt_shards.py
keeps them. A language whose sources did not change is not read again. No prompt is held in memory.
"""

import errno
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

from crossward.core.records import Prompt
from crossward.store.files import temporary_of
from crossward.store.manifest import content_hash
from crossward.store.prompt_shards import KeptPrompts, kept_prompts, write_prompts
from crossward.store.rows import Source
from crossward.store.run_dir import RunDir
from crossward.store.sources import (
    CountRows,
    english_source,
    entries,
    lacks,
    language_of_twins,
    require_limit,
    stands_twice,
    without_twins,
)

CACHE_KIB = 65536  # of SQLite, in memory
_TABLES = """
PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;
CREATE TABLE twins (place INTEGER PRIMARY KEY, id TEXT UNIQUE, at TEXT, instruction TEXT);
CREATE TABLE own (place INTEGER PRIMARY KEY, at TEXT, instruction TEXT);
CREATE TABLE orphans (place INTEGER PRIMARY KEY, id TEXT UNIQUE, at TEXT);
"""


def join_on_disk(
    directory: RunDir,
    sources: Mapping[str, Source],
    *,
    english: Source,
    limit: int | None,
    allow_missing: bool,
    advance: CountRows | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, KeptPrompts]:
    """Keep the prompts of each language under the run; returns what is there now. See sources.load_counted.

    What is there and is not what was written is made anew, and `say` hears of it.
    """
    require_limit(limit)
    twins_source = english_source(sources, english)
    found: dict[str, KeptPrompts] = {}
    keys = {}
    for language, source in sources.items():
        keys[language] = _key(source, twins_source, language, limit, allow_missing)
        try:
            kept = kept_prompts(directory.prompts_of(language))
        except ValueError as error:
            kept = None
            say(f"prompts in {language}: {error}: they are read from their source again")
        if kept is not None and kept.key == keys[language]:
            found[language] = kept
    if len(found) == len(sources):
        return found
    directory.prompts.mkdir(parents=True, exist_ok=True)
    database = temporary_of(directory.prompts / "english.sqlite")
    with _refused_by_the_disk(database), closing(_Joined(database, advance)) as joined:
        joined.read_twins(twins_source, language_of_twins(sources, twins_source))
        for language, source in sources.items():
            if language not in found:
                n_missing = joined.read(source, language, twins_source, limit, allow_missing)
                found[language] = write_prompts(
                    directory.prompts_of(language),
                    joined.prompts(language, limit),
                    key=keys[language] or "",
                    n_missing=n_missing,
                )
    return {language: found[language] for language in sources}


@contextmanager
def _refused_by_the_disk(path: Path) -> Iterator[None]:
    """SQLite's own error as the operating system's, of which a full disk is known by its number."""
    try:
        yield
    except sqlite3.OperationalError as error:
        number = errno.ENOSPC if error.sqlite_errorcode == sqlite3.SQLITE_FULL else errno.EIO
        raise OSError(number, str(error), str(path)) from None


def source_files(source: Source) -> list[Path] | None:
    """The files that a source is read from; None where they are not known: a hub's dataset, or nothing is there."""
    path = Path(source.path).expanduser()
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else None


def _key(source: Source, english: Source, language: str, limit: int | None, allow_missing: bool) -> str | None:
    """Stands for what a language's prompts are read from, by size and time of its files; None: read them each time."""
    files = [source_files(source), source_files(english)]
    if any(found is None for found in files):
        return None
    seen = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for found in files for path in found or ()]
    rules = {"limit": limit, "allow_missing": allow_missing, "language": language}
    return content_hash({"sources": [asdict(source), asdict(english)], "files": seen, **rules})


class _Joined:
    """The twins, and beside them one language at a time."""

    def __init__(self, path: Path, advance: CountRows | None) -> None:
        self._path = path
        self._advance = advance
        path.unlink(missing_ok=True)
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.executescript(f"PRAGMA cache_size = -{CACHE_KIB};{_TABLES}BEGIN;")

    def close(self) -> None:
        self._database.close()
        self._path.unlink(missing_ok=True)

    def read_twins(self, source: Source, language: str | None) -> None:
        """The English source, whose order is the order of all."""
        ask = self._database.execute
        for place, entry in enumerate(entries(source, language, advance=self._advance)):
            try:
                ask("INSERT INTO twins VALUES (?, ?, ?, ?)", (place, entry.id, entry.where, entry.instruction))
            except sqlite3.IntegrityError:
                (before,) = ask("SELECT at FROM twins WHERE id = ?", (entry.id,)).fetchone()
                raise ValueError(stands_twice(source, entry, before)) from None

    def read(self, source: Source, language: str, twins: Source, limit: int | None, allow_missing: bool) -> int:
        """The rows of a language, whose prompts can then be gone through; how many of the wanted ids it lacks."""
        if language == "en":
            return 0
        ask = self._database.execute
        ask("DELETE FROM own")
        ask("DELETE FROM orphans")
        for entry in entries(source, language, advance=self._advance):
            try:
                known = ask(
                    "INSERT INTO own SELECT place, ?, ? FROM twins WHERE id = ?",
                    (entry.where, entry.instruction, entry.id),
                ).rowcount
                if not known:
                    ask("INSERT INTO orphans (id, at) VALUES (?, ?)", (entry.id, entry.where))
            except sqlite3.IntegrityError:
                before = ask("SELECT own.at FROM own JOIN twins USING (place) WHERE id = ?", (entry.id,)).fetchone()
                before = before or ask("SELECT at FROM orphans WHERE id = ?", (entry.id,)).fetchone()
                raise ValueError(stands_twice(source, entry, before[0])) from None
        self._require_twins(source, twins)
        return self._missing(source, language, limit, allow_missing)

    def prompts(self, language: str, limit: int | None) -> Iterator[Prompt]:
        """The prompts of the language that was read last, in the English order."""
        own = "twins.instruction" if language == "en" else "own.instruction"
        beside = "" if language == "en" else "JOIN own USING (place)"
        asked = f"SELECT id, {own}, twins.instruction FROM twins {beside} WHERE place < ? ORDER BY place"
        for id, instruction, english in self._database.execute(asked, (_places(limit),)):
            yield Prompt(id=id, language=language, instruction=instruction, english_instruction=english)

    def _require_twins(self, source: Source, twins: Source) -> None:
        orphans = self._database.execute("SELECT id, at FROM orphans ORDER BY place LIMIT 3").fetchall()
        if orphans:
            n = self._count("orphans")
            first = [id for id, _ in orphans]
            raise ValueError(without_twins(source, n, n + self._count("own"), first, orphans[0][1], twins))

    def _missing(self, source: Source, language: str, limit: int | None, allow_missing: bool) -> int:
        lacking = "FROM twins LEFT JOIN own USING (place) WHERE place < ? AND own.at IS NULL"
        (n,) = self._database.execute(f"SELECT count(*) {lacking}", (_places(limit),)).fetchone()
        n_wanted = min(self._count("twins"), _places(limit))
        if n and not (allow_missing and n < n_wanted):
            rows = self._database.execute(f"SELECT id {lacking} ORDER BY place LIMIT 3", (_places(limit),))
            raise ValueError(lacks(source, language, n, [id for (id,) in rows], n_wanted, allow_missing))
        return n

    def _count(self, table: str) -> int:
        return self._database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def _places(limit: int | None) -> int:
    return 2**62 if limit is None else limit

"""Prompts from local files or hub datasets, joined to their English twins by id.

Never joined by row: ids decide which prompts belong together, the English file decides their order and which are the
first n. Every mistake is a ValueError with file and line. Knows nothing of what the prompts are for. What does not fit
into memory is joined by prompt_join.py, with the checks of this file.
"""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crossward.core.language import NAMES
from crossward.core.plain_text import listed, shown
from crossward.core.records import Prompt
from crossward.store.rows import Source, located_rows, stream_rows

CountRows = Callable[[int], None]
__all__ = ["Entry", "LoadedPrompts", "Source", "entries", "load_counted", "load_prompts", "read_rows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedPrompts:
    """Prompts by language, all in the English file's order, and how many ids each language lacks."""

    prompts: dict[str, list[Prompt]]
    n_missing: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A row that was looked at: where it stands, whose twin it is, what it asks for."""

    where: str
    id: str
    instruction: str


def read_rows(source: Source) -> list[dict[str, Any]]:
    """Every row of a source, as it stands there."""
    return [row for _, row in located_rows(source)]


def load_prompts(
    sources: Mapping[str, Source],
    *,
    english: Source | None = None,
    id_field: str = "id",
    instruction_field: str = "instruction",
    limit: int | None = None,
    allow_missing: bool = False,
    advance: CountRows | None = None,
) -> dict[str, list[Prompt]]:
    """The prompts of each language with their English twins; see `load_counted`, which also counts missing ids."""
    return load_counted(
        sources,
        english=english,
        id_field=id_field,
        instruction_field=instruction_field,
        limit=limit,
        allow_missing=allow_missing,
        advance=advance,
    ).prompts


def load_counted(
    sources: Mapping[str, Source],
    *,
    english: Source | None = None,
    id_field: str = "id",
    instruction_field: str = "instruction",
    limit: int | None = None,
    allow_missing: bool = False,
    advance: CountRows | None = None,
) -> LoadedPrompts:
    """The prompts of each language, restricted to the first `limit` ids of the English source.

    `english` holds the twins; it may be left out where `sources` has "en". A source's own field names come before
    `id_field` and `instruction_field`. `allow_missing` lets a language lack ids, and counts them; `advance` counts
    the rows that are read.
    """
    require_limit(limit)
    twins_source = english_source(sources, english)
    twins = _entries(twins_source, language_of_twins(sources, twins_source), id_field, instruction_field, advance)
    wanted = list(twins)[:limit]
    prompts: dict[str, list[Prompt]] = {}
    n_missing: dict[str, int] = {}
    for language, source in sources.items():
        own = twins if language == "en" else _entries(source, language, id_field, instruction_field, advance)
        if orphans := [id for id in own if id not in twins]:
            raise ValueError(
                without_twins(source, len(orphans), len(own), orphans[:3], own[orphans[0]].where, twins_source)
            )
        missing = [id for id in wanted if id not in own]
        if missing and not (allow_missing and len(missing) < len(wanted)):
            raise ValueError(lacks(source, language, len(missing), missing[:3], len(wanted), allow_missing))
        n_missing[language] = len(missing)
        prompts[language] = [
            Prompt(
                id=id,
                language=language,
                instruction=own[id].instruction,
                english_instruction=twins[id].instruction,
            )
            for id in wanted
            if id in own
        ]
    return LoadedPrompts(prompts=prompts, n_missing=n_missing)


def require_limit(limit: int | None) -> None:
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be 1 or more prompts, got {limit}")


def english_source(sources: Mapping[str, Source], english: Source | None) -> Source:
    """The source of the twins."""
    own = sources.get("en")
    if own is not None and english is not None and own != english:
        raise ValueError(
            f"two English sources are named, {own.path} and {english.path}: "
            "an English prompt is its own twin, so name one"
        )
    found = english or own
    if found is None:
        raise ValueError(
            f"no English source is named beside {', '.join(sorted(sources))}: "
            "every prompt is judged under its English twin, so name the file that holds the twins"
        )
    return found


def language_of_twins(sources: Mapping[str, Source], twins: Source) -> str | None:
    """What the rows of the English source may call their language: "en".

    None (anything) where one file holds both texts of a row, whose "language" then tells of the other one.
    """
    beside = any(source.path == twins.path for language, source in sources.items() if language != "en")
    return None if beside else "en"


def entries(
    source: Source,
    language: str | None,
    id_field: str = "id",
    instruction_field: str = "instruction",
    advance: CountRows | None = None,
) -> Iterator[Entry]:
    """Every row of a source, checked by itself; rows that name another `language` are refused."""
    id_field, instruction_field = source.id_field or id_field, source.instruction_field or instruction_field
    for where, row in stream_rows(source):
        if advance is not None:
            advance(1)
        if language is not None:
            _require_language(source, where, row, language)
        id = _id(source, where, row, id_field)
        yield Entry(where=where, id=id, instruction=_instruction(source, where, row, instruction_field))


def _entries(
    source: Source, language: str | None, id_field: str, instruction_field: str, advance: CountRows | None
) -> dict[str, Entry]:
    """One checked entry per id, in the source's order."""
    found: dict[str, Entry] = {}
    for entry in entries(source, language, id_field, instruction_field, advance):
        if entry.id in found:
            raise ValueError(stands_twice(source, entry, found[entry.id].where))
        found[entry.id] = entry
    return found


def stands_twice(source: Source, entry: Entry, before: str) -> str:
    """That the id of a row was there `before`."""
    return (
        f"{source.path}: id {shown(entry.id)} stands on {before} and on {entry.where}: each id may occur once, "
        "so remove or rename one"
    )


def _require_language(source: Source, where: str, row: Mapping[str, Any], language: str) -> None:
    """A row that says it is in another language was put in the wrong file.

    'es', 'es-MX' and 'Spanish' all say es; what names no language we know ('und', 'python') says nothing.
    """
    value = row.get("language")
    if not isinstance(value, str):
        return
    plain = value.strip().lower()
    code = plain.replace("_", "-").split("-")[0]
    said = code if code in NAMES else next((key for key, name in NAMES.items() if name.lower() == plain), None)
    if said not in (None, language):
        raise ValueError(
            f"{source.path}, {where}: field 'language' is {shown(value)} but the file was named for {language!r}: "
            "name the right file, or remove the row"
        )


def _id(source: Source, where: str, row: Mapping[str, Any], field: str) -> str:
    value = _field(source, where, row, field)
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a table with a gap in its id column turns 7 into 7.0
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise ValueError(
            f"{source.path}, {where}: field {field!r} must be a text or a whole number, got {shown(value)}"
        )
    return str(value)


def _instruction(source: Source, where: str, row: Mapping[str, Any], field: str) -> str:
    value = _field(source, where, row, field)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise ValueError(f"{source.path}, {where}: field {field!r} is empty: write the instruction or remove the row")
    if not isinstance(value, str):
        raise ValueError(f"{source.path}, {where}: field {field!r} must be a text, got {type(value).__name__}")
    return value


def _field(source: Source, where: str, row: Mapping[str, Any], field: str) -> Any:
    if field in row:
        return row[field]
    near = difflib.get_close_matches(field, row, n=1, cutoff=0.4)
    hint = f"; did you mean {shown(near[0])}?" if near else ""
    has = listed(row) or "none"
    raise ValueError(f"{source.path}, {where}: there is no field {field!r}, the row has: {has}{hint}")


def without_twins(source: Source, n: int, n_own: int, first: Sequence[str], where: str, twins: Source) -> str:
    """That `n` of a language's ids are not in the English source; `where` the first of them stands."""
    return (
        f"{source.path}: {n} of {n_own} ids have no English twin in {twins.path}, "
        f"first {_listed(first)} ({where}): add the twins or remove the rows"
    )


def lacks(source: Source, language: str, n: int, first: Sequence[str], n_wanted: int, allow_missing: bool) -> str:
    """That `n` of the ids that are wanted are not in a language's source."""
    counted = f"{source.path}: language {language!r} lacks {n} of {n_wanted} ids of the English file"
    advice = "none is left to use" if allow_missing else "add them, or set allow_missing to go on without them"
    return f"{counted}, first {_listed(first)}: {advice}"


def _listed(ids: Sequence[str]) -> str:
    return ", ".join(shown(id) for id in ids[:3])

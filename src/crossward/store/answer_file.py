"""Answers to be measured: our files of groups, or alpaca_eval's model_outputs.json (a list of instruction and output).

What a file does not say is not made up: who ended the answers is known only where every row tells. Knows no measure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crossward.core.language import language_name
from crossward.core.plain_text import listed
from crossward.core.records import Prompt, Response, SampledPrompt
from crossward.store.edges import group_of
from crossward.store.json_fields import id_of, shown, text_of
from crossward.store.json_lines import read_json_lines
from crossward.store.reference_answers import output_of
from crossward.store.rows import EXTENSIONS, Source, located_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFile:
    """Groups by language, in the file's order.

    `has_ids`: false where rows are named by their instruction. `has_endings`: whether every row says if it was cut.
    """

    path: Path
    groups: dict[str, list[SampledPrompt]]
    has_ids: bool
    has_endings: bool

    def by_instruction(self) -> "AnswerFile":
        """The same answers named by their instructions, to be compared with a file that has no ids."""
        renamed = {
            code: [replace(group, prompt=replace(group.prompt, id=group.prompt.instruction)) for group in groups]
            for code, groups in self.groups.items()
        }
        _require_once([group.prompt for groups in renamed.values() for group in groups], self.path)
        return replace(self, groups=renamed, has_ids=False)


def read_answers(path: Path, *, language: str | None) -> AnswerFile:
    """Read a file; `language` is that of rows which do not say. Raises ValueError for what cannot be understood."""
    if path.is_file() and path.suffix.lower() in EXTENSIONS:
        rows = located_rows(Source(path=str(path)))
    else:  # a pipe, or a name without extension
        rows = [(f"line {number}", row) for number, row in read_json_lines(path)]
    has_ids = all(row.get("id") is not None for _, row in rows)
    found = [_group(place, row, path, language, has_ids) for place, row in rows]
    _require_once([group.prompt for group in found], path)
    groups: dict[str, list[SampledPrompt]] = {}
    for group in found:
        groups.setdefault(group.prompt.language, []).append(group)
    endings = all(row.get("finish_reasons") is not None for _, row in rows)
    return AnswerFile(path=path, groups=groups, has_ids=has_ids, has_endings=endings)


def _group(place: str, row: dict[str, Any], path: Path, language: str | None, has_ids: bool) -> SampledPrompt:
    where = f"{path}, {place}"
    code = row.get("language") or language
    if code is None:
        raise ValueError(f"{where}: the row does not say its language: name it with --language")
    if language is not None and code != language:
        raise ValueError(f"{where}: field 'language' is {shown(code)}, but --language says {language!r}")
    if isinstance(code, str):
        language_name(code)
    if row.get("responses") is not None:
        return group_of(row | {"language": code}, where, twin_needed=False)
    if row.get("output") is None:
        raise ValueError(f"{where}: expected 'responses' (groups) or 'output' (alpaca_eval), got {listed(row)}")
    instruction = text_of(row, "instruction", where)
    prompt = Prompt(
        id=id_of(row, where) if has_ids else instruction,
        language=text_of({"language": code}, "language", where),
        instruction=instruction,
        english_instruction="",
    )
    return SampledPrompt(prompt=prompt, responses=(Response(text=output_of(row, where)),))


def _require_once(prompts: Sequence[Prompt], path: Path) -> None:
    seen: set[tuple[str, str]] = set()
    for prompt in prompts:
        if (prompt.language, prompt.id) in seen:
            raise ValueError(
                f"{path}: {shown(prompt.language)} has {shown(prompt.id)} twice: each prompt may occur once"
            )
        seen.add((prompt.language, prompt.id))

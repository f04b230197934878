"""Groups with what is known of their quality, for judging a reward: gold scores, or chosen against rejected.

A file of groups may say "gold", one number per response, higher is better; a file of pairs (ours, any DPO data,
RewardBench or M-RewardBench; JSON lines, JSON, CSV or Parquet) says by its form which response is better. English twins
may come from another file, by id, never by row.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossward.core.preference_sets import SECTIONS, section_of
from crossward.core.records import Prompt, SampledPrompt
from crossward.store.edges import group_of
from crossward.store.json_fields import id_of, names_of, numbers_of, shown, text_of
from crossward.store.json_lines import Row, read_json_lines
from crossward.store.pair_rows import pair_of, question_of
from crossward.store.rows import LocatedRow, Source, located_rows

# M-RewardBench names languages by ISO 639-3 and script; zho_Hans and zho_Hant are both asked for as Chinese.
_SCRIPTED = re.compile(r"([a-z]{3})_[A-Z][a-z]{3}")
_TWO_LETTERS = {
    "arb": "ar", "ben": "bn", "ces": "cs", "deu": "de", "ell": "el", "eng": "en", "fra": "fr", "heb": "he",
    "hin": "hi", "ind": "id", "ita": "it", "jpn": "ja", "kor": "ko", "nld": "nl", "pes": "fa", "pol": "pl",
    "por": "pt", "ron": "ro", "rus": "ru", "spa": "es", "swh": "sw", "tha": "th", "tur": "tr", "ukr": "uk",
    "vie": "vi", "zho": "zh",
}  # fmt: skip
_REWARDBENCH = {subset for subsets in SECTIONS.values() for subset in subsets}


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A group and one truth per response (any scale, higher is better), None where none is known.

    `label` is the language as the file spells it, `subset` and `section` where in a preference set the group stands.
    """

    group: SampledPrompt
    truths: tuple[float, ...] | None
    label: str
    subset: str | None = None
    section: str | None = None


def read_labelled(path: Path, *, twin_needed: bool, english: Path | None = None) -> list[Labelled]:
    """Groups, or pairs where the first row holds "chosen"; a pair is a group of two with the truths 1 and 0.

    `twin_needed`: every row that is not English must hold its english_instruction or have its twin in `english`.
    """
    rows = _rows(path)
    twins = None if english is None else _Twins(english)
    record_of = _pair if "chosen" in rows[0][1] else _group
    found: list[Labelled] = []
    for number, (place, row) in enumerate(rows, start=1):
        where = f"{path}, {place}"
        code, label = _language(row)
        row = row if code is None else row | {"language": code}
        if twins is not None and code not in (None, "en") and row.get("english_instruction") is None:
            row = row | {"english_instruction": twins.of(row, where)}
        found.append(record_of(row, where, number, twin_needed, label))
    return found


def _rows(path: Path) -> Sequence[LocatedRow]:
    if path.is_file() and path.suffix.lower() in (".json", ".csv", ".parquet"):
        return located_rows(Source(path=str(path)))
    return [(f"line {number}", row) for number, row in read_json_lines(path)]


def _language(row: Row) -> tuple[Any, str | None]:
    """The language of a row in two letters, and as it stands there; RewardBench's own rows are English."""
    given = row.get("language")
    if given is None:
        return ("en", "en") if subset_of(row) in _REWARDBENCH else (None, None)
    if not isinstance(given, str):
        return given, None
    scripted = _SCRIPTED.fullmatch(given)
    return (_TWO_LETTERS.get(scripted[1], given) if scripted else given), given


def subset_of(row: Row) -> str | None:
    """Where in a preference set a row stands: "subset" (RewardBench) or "source" (M-RewardBench)."""
    named = row.get("subset") or row.get("source")
    return named if isinstance(named, str) else None


def _pair(row: Row, where: str, number: int, twin_needed: bool, label: str | None) -> Labelled:
    pair = pair_of(row, where, number)
    twin = _twin(row, pair.language, where, twin_needed) or pair.instruction
    prompt = Prompt(id=pair.id, language=pair.language, instruction=pair.instruction, english_instruction=twin)
    return _labelled(row, SampledPrompt(prompt=prompt, responses=(pair.chosen, pair.rejected)), (1.0, 0.0), label)


def _group(row: Row, where: str, number: int, twin_needed: bool, label: str | None) -> Labelled:
    group = group_of(row, where, twin_needed=twin_needed)
    given: Any = row.get("gold")
    truths = None if given is None else tuple(numbers_of(row, "gold", len(group.responses), where))
    return _labelled(row, group, truths, label)


def _labelled(row: Row, group: SampledPrompt, truths: tuple[float, ...] | None, label: str | None) -> Labelled:
    subset, category = subset_of(row), row.get("category")
    section = section_of(subset, category if isinstance(category, str) else None) if subset else None
    label = label or group.prompt.language
    return Labelled(group=group, truths=truths, label=label, subset=subset, section=section)


def _twin(row: Row, language: str, where: str, twin_needed: bool) -> str | None:
    """The English twin of a pair; for English and where it is not needed it may be absent."""
    if row.get("english_instruction") is None and (language == "en" or not twin_needed):
        return None
    if row.get("english_instruction") is None:
        raise ValueError(
            f"{where}: field 'english_instruction' is missing: name a file of English twins with --english, or take "
            "--view multilingual"
        )
    return text_of(row, "english_instruction", where)


class _Twins:
    """The English prompts of a file, by subset and id where the file names subsets, else by id."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._texts: dict[tuple[str | None, str], str] = {}
        rows = _rows(path)
        self._by_subset = all(subset_of(row) is not None for _, row in rows)
        for place, row in rows:
            where = f"{path}, {place}"
            key = (subset_of(row) if self._by_subset else None, id_of(row, where))
            text = self._text(row, where)
            if self._texts.setdefault(key, text) != text:
                raise ValueError(f"{where}: id {shown(key[1])} stands there twice with different prompts: keep one")

    def of(self, row: Row, where: str) -> str:
        """The English twin of a row. Raises ValueError where there is none."""
        id = id_of(row, where)
        subset = subset_of(row) if self._by_subset else None
        if (subset, id) not in self._texts:
            place = f"{shown(id)} of {shown(subset)}" if subset else shown(id)
            raise ValueError(
                f"{where}: id {place} has no English twin in {self._path}: name the file of the same prompts"
            )
        return self._texts[subset, id]

    @staticmethod
    def _text(row: Row, where: str) -> str:
        if row.get("prompt") is not None:
            return question_of(row, where)
        if row.get("instruction") is not None:
            return text_of(row, "instruction", where)
        raise ValueError(f"{where}: expected a field 'prompt' or 'instruction', got {shown(names_of(row))}")

"""Groups with what is known of their quality, for judging a reward: gold scores, or chosen against rejected.

A file of groups may say "gold", one number per response, higher is better; a file of pairs (ours or any DPO data) says
by its form which response is better.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossward.core.records import Prompt, SampledPrompt
from crossward.store.edges import group_of, read_pairs
from crossward.store.json_fields import numbers_of, text_of
from crossward.store.json_lines import Row, read_json_lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A group and one truth per response (any scale, higher is better), None where none is known."""

    group: SampledPrompt
    truths: tuple[float, ...] | None


def read_labelled(path: Path, *, twin_needed: bool) -> list[Labelled]:
    """Groups, or pairs where the first row holds "chosen"; a pair is a group of two with the truths 1 and 0.

    `twin_needed`: every row that is not English must hold its english_instruction.
    """
    rows = list(read_json_lines(path))
    if "chosen" in rows[0][1]:
        return [
            Labelled(
                group=SampledPrompt(
                    prompt=Prompt(
                        id=pair.id,
                        language=pair.language,
                        instruction=pair.instruction,
                        english_instruction=_twin(row, pair.language, f"{path}, line {number}", twin_needed)
                        or pair.instruction,
                    ),
                    responses=(pair.chosen, pair.rejected),
                ),
                truths=(1.0, 0.0),
            )
            for (number, row), pair in zip(rows, read_pairs(path), strict=True)
        ]
    return [_labelled(row, f"{path}, line {number}", twin_needed) for number, row in rows]


def _labelled(row: Row, where: str, twin_needed: bool) -> Labelled:
    group = group_of(row, where, twin_needed=twin_needed)
    given: Any = row.get("gold")
    truths = None if given is None else tuple(numbers_of(row, "gold", len(group.responses), where))
    return Labelled(group=group, truths=truths)


def _twin(row: Row, language: str, where: str, twin_needed: bool) -> str | None:
    """The English twin of a pair; for English and where it is not needed it may be absent."""
    if row.get("english_instruction") is None and (language == "en" or not twin_needed):
        return None
    return text_of(row, "english_instruction", where)

"""A file or hub dataset of preferences, read as single-turn pairs or single answers with a verdict.

The form is told by its keys (preference_formats.py). The method trains one question and its answer, so rows with
several turns or a system message are left out, as are ties, empty sides and repetitions: each counted by its reason. A
row that is not what its file's form says is a ValueError with the line. Knows no tokens.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from crossward.core.records import FinishReason, Response
from crossward.store.checked_files import file_sha256
from crossward.store.json_fields import one_of, token_ids_of
from crossward.store.json_lines import Row
from crossward.store.pair_rows import UNKNOWN_LANGUAGE, PairRow
from crossward.store.preference_formats import RawAnswer, RawPair, decoded, format_of, read_row
from crossward.store.rows import LocatedRow, Source, located_rows

Key = tuple[object, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRow:
    """One answer and whether it is desirable: what KTO trains on."""

    id: str
    language: str
    instruction: str
    response: Response
    desirable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferences:
    """What a file holds that can be trained on: pairs, or (`unpaired`) single answers; never both.

    `left_out` counts rows by reason, `format` names the form, `sha256` is that of the file's bytes (of the rows where
    the source is a folder or a hub dataset), `n_rows` is how many rows were looked at.
    """

    pairs: tuple[PairRow, ...]
    unpaired: tuple[AnswerRow, ...]
    left_out: dict[str, int]
    format: str
    sha256: str
    n_rows: int


def read_preferences(
    path: str, *, limit: int | None = None, split: str = "train", config: str | None = None
) -> Preferences:
    """Read a .jsonl, .json, .csv or .parquet file, a saved dataset's folder, or a hub dataset (`split`, `config`).

    `limit`: stop after so many rows that can be trained on. Raises ValueError for a source that is missing, broken, of
    an unknown form, or that holds nothing to train on.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be 1 or more rows, got {limit}")
    rows = located_rows(Source(path=path, split=split, config=config))
    if Path(path).suffix.lower() == ".csv":
        rows = [(place, decoded(row)) for place, row in rows]
    first_place, first = rows[0]
    format = format_of(first, f"{path}, {first_place}")
    pairs: list[PairRow] = []
    unpaired: list[AnswerRow] = []
    left_out: Counter[str] = Counter()
    seen: set[Key] = set()
    n_rows = 0
    for place, row in rows:
        if limit is not None and len(pairs) + len(unpaired) == limit:
            break
        n_rows += 1
        where = f"{path}, {place}"
        raw = read_row(format, row, where)
        reason, key = _judged(raw)
        if reason is None and key in seen:
            reason = "duplicate"
        if reason is not None:
            left_out[reason] += 1
            continue
        seen.add(key)
        instruction = raw.contexts[0][0][1]
        match raw:
            case RawPair():
                pairs.append(_pair(raw, row, instruction, n_rows, where))
            case RawAnswer():
                unpaired.append(_answer(raw, row, instruction, n_rows))
    if not pairs and not unpaired:
        reasons = ", ".join(f"{reason} {n}" for reason, n in left_out.most_common())
        raise ValueError(
            f"{path}: none of {n_rows} rows ({format}) can be trained on ({reasons}): the method trains one question "
            "and its answer at a time"
        )
    return Preferences(
        pairs=tuple(pairs),
        unpaired=tuple(unpaired),
        left_out=dict(left_out.most_common()),
        format=format,
        sha256=_sha256(path, rows),
        n_rows=n_rows,
    )


def _judged(raw: RawPair | RawAnswer) -> tuple[str | None, Key]:
    """Why a row is left out (None: it is not), and what it shares with a repetition of itself."""
    sides = (raw.chosen, raw.rejected) if isinstance(raw, RawPair) else (raw.answer,)
    texts = [side.strip() for side in sides if side is not None]
    if len(texts) < len(sides):
        return "no answer at the end", ()
    turns, *other = raw.contexts
    if other:
        return "different prompts", ()
    roles = [role for role, _ in turns]
    if "system" in roles:
        return "system message", ()
    if set(roles) - {"user", "assistant"}:
        return "other roles", ()
    if roles != ["user"]:
        return "several turns" if len(roles) > 1 else "no question", ()
    question = "".join(text.strip() for _, text in turns)
    if not question or not all(texts):
        return "empty", ()
    if len(texts) == 2 and texts[0] == texts[1]:
        return "tie", ()
    return None, (question, *texts, raw.desirable if isinstance(raw, RawAnswer) else None)


def _pair(raw: RawPair, row: Row, instruction: str, number: int, where: str) -> PairRow:
    """A pair; Crossward's own files also say which answer was cut, and the sampler's ids."""
    responses = [
        Response(
            text=text or "",
            token_ids=token_ids_of(row.get(f"{side}_token_ids"), f"{side}_token_ids", where),
            finish_reason=one_of(
                row.get(f"{side}_finish_reason") or "stop", FinishReason, f"{side}_finish_reason", where
            ),
        )
        for side, text in (("chosen", raw.chosen), ("rejected", raw.rejected))
    ]
    return PairRow(
        id=_id(row, number),
        language=_language(row),
        instruction=instruction,
        chosen=responses[0],
        rejected=responses[1],
    )


def _answer(raw: RawAnswer, row: Row, instruction: str, number: int) -> AnswerRow:
    return AnswerRow(
        id=_id(row, number),
        language=_language(row),
        instruction=instruction,
        response=Response(text=raw.answer or ""),
        desirable=raw.desirable,
    )


def _id(row: Row, number: int) -> str:
    for field in ("id", "prompt_id"):
        if isinstance(row.get(field), str | int) and row[field] != "":
            return str(row[field])
    return str(number)


def _language(row: Row) -> str:
    language = row.get("language")
    return language if isinstance(language, str) and language else UNKNOWN_LANGUAGE


def _sha256(path: str, rows: Sequence[LocatedRow]) -> str:
    if Path(path).expanduser().is_file():
        return file_sha256(Path(path).expanduser())
    digest = hashlib.sha256()
    for _, row in rows:
        digest.update(json.dumps(row, sort_keys=True, default=str).encode())
    return digest.hexdigest()

"""JSON Lines of preference pairs for people and other tools, in and out: one row holds one pair whole.

What other tools leave out gets a neutral value, named in each reader; what contradicts itself is a ValueError with the
line. Knows no runs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossward.core.plain_text import listed
from crossward.core.records import (
    FinishReason,
    PreferencePair,
    RankedResponse,
    RatedResponse,
    Response,
    ScoredResponse,
)
from crossward.store.json_fields import field_of, id_of, one_of, shown, text_of, token_ids_of
from crossward.store.json_lines import Row, read_json_lines, write_json_lines

UNKNOWN_LANGUAGE = "und"  # ISO 639: undetermined


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRow:
    """A preference pair as a file of pairs tells it: from Crossward or from any other DPO data."""

    id: str
    language: str
    instruction: str
    chosen: Response
    rejected: Response


def read_pairs(path: Path) -> list[PairRow]:
    """Pairs: prompt, chosen and rejected as texts or as lists of messages.

    Absent id: the line number; absent language: "und"; absent finish reason: "stop". A prompt that stands only inside
    chosen and rejected (their first message) is taken from there.
    """
    return [pair_of(row, f"{path}, line {number}", number) for number, row in read_json_lines(path)]


def write_pairs(path: Path, pairs: Iterable[PreferencePair]) -> None:
    """Write pairs in TRL's conversational form, with scores and the sampler's ids beside."""
    write_json_lines(path, map(_pair_row, pairs))


def _pair_row(pair: PreferencePair) -> Row:
    chosen, rejected = pair.chosen, pair.rejected
    row: Row = {
        "prompt": [{"role": "user", "content": pair.prompt.instruction}],
        "chosen": [{"role": "assistant", "content": chosen.response.text}],
        "rejected": [{"role": "assistant", "content": rejected.response.text}],
        "id": pair.prompt.id,
        "language": pair.prompt.language,
        "english_instruction": pair.prompt.english_instruction,
        "chosen_score": pair.chosen_score,
        "rejected_score": pair.rejected_score,
        "alpha": pair.alpha,
        **_basis("chosen", chosen),
        **_basis("rejected", rejected),
        "chosen_finish_reason": chosen.response.finish_reason,
        "rejected_finish_reason": rejected.response.finish_reason,
    }
    for side, scored in (("chosen", chosen), ("rejected", rejected)):
        if scored.response.token_ids is not None:
            row[f"{side}_token_ids"] = list(scored.response.token_ids)
    return row


def _basis(side: str, ranked: RankedResponse) -> Row:
    """What a score was made from: a log-ratio, or another rater's rating."""
    match ranked:
        case ScoredResponse():
            return {f"{side}_log_ratio": ranked.log_ratio}
        case RatedResponse():
            return {f"{side}_rating": ranked.rating}


def pair_of(row: Row, where: str, number: int) -> PairRow:
    """One row of a file of pairs; `where` names it in errors, `number` is its id where it has none."""
    asked: dict[str, str | None] = {}
    responses: dict[str, Response] = {}
    for side in ("chosen", "rejected"):
        asked[side], text = _answer(row, side, where)
        responses[side] = Response(
            text=text,
            token_ids=token_ids_of(row.get(f"{side}_token_ids"), f"{side}_token_ids", where),
            finish_reason=one_of(
                row.get(f"{side}_finish_reason", "stop"), FinishReason, f"{side}_finish_reason", where
            ),
        )
    own = question_of(row, where) if row.get("prompt") is not None else None
    prompts = {prompt for prompt in (own, *asked.values()) if prompt is not None}
    if len(prompts) != 1:
        found = "none" if not prompts else f"{len(prompts)} different ones"
        raise ValueError(f"{where}: expected one prompt, in 'prompt' or before chosen and rejected, got {found}")
    language = row.get("language")
    return PairRow(
        id=id_of(row, where) if row.get("id") is not None else str(number),
        language=UNKNOWN_LANGUAGE if language is None else text_of(row, "language", where),
        instruction=prompts.pop(),
        chosen=responses["chosen"],
        rejected=responses["rejected"],
    )


def question_of(row: Row, where: str) -> str:
    """The instruction in "prompt": a text, or exactly one user message."""
    value = row["prompt"]
    if isinstance(value, str):
        return text_of(row, "prompt", where)
    messages = _messages(value, "prompt", where)
    if [role for role, _ in messages] != ["user"]:
        raise ValueError(
            f"{where}: field 'prompt' must be a text or one user message, got {_roles(messages)}: "
            "system messages and several turns are not trained on"
        )
    return messages[0][1]


def _answer(row: Row, side: str, where: str) -> tuple[str | None, str]:
    """The prompt, where it stands before the answer, and the answer: a text, [assistant] or [user, assistant]."""
    value = field_of(row, side, where)
    if isinstance(value, str):
        return None, value
    messages = _messages(value, side, where)
    roles = [role for role, _ in messages]
    if roles not in (["assistant"], ["user", "assistant"]):
        raise ValueError(
            f"{where}: field {side!r} must be a text or end in one assistant message, got {_roles(messages)}"
        )
    return (messages[0][1] if len(messages) == 2 else None), messages[-1][1]


def _messages(value: Any, field: str, where: str) -> list[tuple[str, str]]:
    whole = isinstance(value, list) and all(
        isinstance(item, dict) and isinstance(item.get("role"), str) and isinstance(item.get("content"), str)
        for item in value
    )
    if not whole:
        raise ValueError(
            f"{where}: field {field!r} must be a text or a list of messages with 'role' and 'content', "
            f"got {shown(value)}"
        )
    return [(item["role"], item["content"]) for item in value]


def _roles(messages: Sequence[tuple[str, str]]) -> str:
    return f"roles {listed(role for role, _ in messages)}" if messages else "no message"

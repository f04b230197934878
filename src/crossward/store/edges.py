"""JSON Lines for people and other tools: groups in, scored groups and pairs in and out.

A row holds one group or pair whole; nothing is joined by line. What other tools leave out gets a neutral value, named
in each reader; what contradicts itself is a ValueError with the line. Knows no runs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from crossward.core.records import (
    FinishReason,
    PreferencePair,
    Prompt,
    Response,
    SampledPrompt,
    ScoredPrompt,
    ScoredResponse,
    View,
)
from crossward.store.group_file import GroupFile
from crossward.store.json_fields import (
    field_of,
    id_of,
    is_whole,
    list_of,
    names_of,
    numbers_of,
    one_of,
    parallel_of,
    shown,
    text_of,
    token_ids_of,
)
from crossward.store.json_lines import Row, read_json_lines, write_json_lines

_FINISH_REASONS = get_args(FinishReason)
UNKNOWN_LANGUAGE = "und"  # ISO 639: undetermined


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRow:
    """A preference pair as a file of pairs tells it: from Crossward or from any other DPO data."""

    id: str
    language: str
    instruction: str
    chosen: Response
    rejected: Response


def groups_in(path: Path) -> GroupFile[SampledPrompt]:
    """Prompts with their responses, to be read as a stream: id, language, instruction, english_instruction, responses.

    Optional: "finish_reasons" (absent: "stop") and "token_ids". English rows need no english_instruction.
    """
    return GroupFile(path, group_of)


def read_groups(path: Path) -> list[SampledPrompt]:
    """All groups of a file as `groups_in` reads them."""
    with groups_in(path) as groups:
        return list(groups)


def group_of(row: Row, where: str, *, twin_needed: bool = True) -> SampledPrompt:
    """One row of a file of groups as a record; `where` names it in errors."""
    return SampledPrompt(prompt=_prompt(row, where, twin_needed=twin_needed), responses=_responses(row, where))


def write_groups(path: Path, groups: Iterable[SampledPrompt]) -> None:
    """Write groups as `read_groups` reads them."""
    write_json_lines(path, map(group_row, groups))


def group_row(group: SampledPrompt) -> Row:
    """One group as a row."""
    return _prompt_row(group.prompt) | _responses_row(group.responses)


def scored_in(path: Path) -> GroupFile[ScoredPrompt]:
    """Scored groups, ours or another tool's, to be read as a stream.

    With only "log_ratio", policy_logprob = log_ratio and reference_logprob = 0. Absent "n_tokens" is 0; an unknown
    english_instruction or judged_under is ""; an absent "view" is multilingual where the response was judged under the
    prompt's own text and crosslingual otherwise.
    """
    return GroupFile(path, scored_of)


def read_scored(path: Path) -> list[ScoredPrompt]:
    """All groups of a file as `scored_in` reads them."""
    with scored_in(path) as groups:
        return list(groups)


def write_scored(path: Path, scored: Iterable[ScoredPrompt]) -> None:
    """Write scored groups: all that `write_groups` writes, and the numbers of each response in parallel lists."""
    write_json_lines(path, map(scored_row, scored))


def read_pairs(path: Path) -> list[PairRow]:
    """Pairs: prompt, chosen and rejected as texts or as lists of messages.

    Absent id: the line number; absent language: "und"; absent finish reason: "stop". A prompt that stands only inside
    chosen and rejected (their first message) is taken from there.
    """
    return [pair_of(row, f"{path}, line {number}", number) for number, row in read_json_lines(path)]


def write_pairs(path: Path, pairs: Iterable[PreferencePair]) -> None:
    """Write pairs in TRL's conversational form, with scores and the sampler's ids beside."""
    write_json_lines(path, map(_pair_row, pairs))


# Prompts


def _prompt_row(prompt: Prompt) -> Row:
    return {
        "id": prompt.id,
        "language": prompt.language,
        "instruction": prompt.instruction,
        "english_instruction": prompt.english_instruction,
    }


def _prompt(row: Row, where: str, *, twin_needed: bool) -> Prompt:
    language, instruction = text_of(row, "language", where), text_of(row, "instruction", where)
    twin = row.get("english_instruction")
    if language == "en":
        if twin not in (None, instruction):
            raise ValueError(
                f"{where}: language is 'en' but english_instruction differs from instruction: make them equal or "
                "leave english_instruction out"
            )
        twin = instruction
    elif twin is None and not twin_needed:
        twin = ""
    elif twin_needed:
        twin = text_of(row, "english_instruction", where)
    elif not isinstance(twin, str):
        raise ValueError(f"{where}: field 'english_instruction' must be a text, got {shown(twin)}")
    return Prompt(id=id_of(row, where), language=language, instruction=instruction, english_instruction=twin)


# Responses


def _responses_row(responses: Sequence[Response]) -> Row:
    ids = [None if response.token_ids is None else list(response.token_ids) for response in responses]
    row: Row = {
        "responses": [response.text for response in responses],
        "finish_reasons": [response.finish_reason for response in responses],
    }
    return row if all(item is None for item in ids) else row | {"token_ids": ids}


def _responses(row: Row, where: str) -> tuple[Response, ...]:
    texts = list_of(row, "responses", where)
    for index, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            raise ValueError(f"{where}: response {index} in field 'responses' must be a text, got {shown(text)}")
    reasons = parallel_of(row, "finish_reasons", len(texts), where, default="stop")
    ids = parallel_of(row, "token_ids", len(texts), where, default=None)
    return tuple(
        Response(
            text=text,
            token_ids=None if item is None else token_ids_of(item, "token_ids", where),
            finish_reason=reason
            if reason in _FINISH_REASONS
            else one_of(reason, FinishReason, "finish_reasons", where),
        )
        for text, item, reason in zip(texts, ids, reasons, strict=True)
    )


# Scores


def scored_row(group: ScoredPrompt) -> Row:
    """One scored group as a row."""
    scored = group.responses
    return (
        _prompt_row(group.prompt)
        | {"view": group.view, "judged_under": group.judged_under}
        | _responses_row([item.response for item in scored])
        | {
            "policy_logprob": [item.policy_logprob for item in scored],
            "reference_logprob": [item.reference_logprob for item in scored],
            "log_ratio": [item.log_ratio for item in scored],
            "n_tokens": [item.n_tokens for item in scored],
            "n_chars": [item.n_chars for item in scored],
        }
    )


def scored_of(row: Row, where: str) -> ScoredPrompt:
    """One row of a file of scored groups as a record; `where` names it in errors."""
    prompt, responses = _prompt(row, where, twin_needed=False), _responses(row, where)
    policy, reference = _logprobs(row, len(responses), where)
    n_tokens = parallel_of(row, "n_tokens", len(responses), where, default=0)
    for count in n_tokens:
        if not is_whole(count) or count < 0:
            raise ValueError(f"{where}: field 'n_tokens' must hold whole numbers of 0 or more, got {shown(count)}")
    view, judged_under = _judgement(row, prompt, where)
    return ScoredPrompt(
        prompt=prompt,
        view=view,
        judged_under=judged_under,
        responses=tuple(
            ScoredResponse(response=response, policy_logprob=ours, reference_logprob=theirs, n_tokens=count)
            for response, ours, theirs, count in zip(responses, policy, reference, n_tokens, strict=True)
        ),
    )


def _logprobs(row: Row, n: int, where: str) -> tuple[list[float], list[float]]:
    given = [field for field in ("policy_logprob", "reference_logprob") if row.get(field) is not None]
    if len(given) == 2:
        return numbers_of(row, "policy_logprob", n, where), numbers_of(row, "reference_logprob", n, where)
    if row.get("log_ratio") is None:
        raise ValueError(
            f"{where}: expected fields 'policy_logprob' and 'reference_logprob', or 'log_ratio', got {names_of(row)}"
        )
    return numbers_of(row, "log_ratio", n, where), [0.0] * n


def _judgement(row: Row, prompt: Prompt, where: str) -> tuple[View, str]:
    judged_under = row.get("judged_under", "")
    if not isinstance(judged_under, str):
        raise ValueError(f"{where}: field 'judged_under' must be a text, got {shown(judged_under)}")
    own_text = prompt.language != "en" and judged_under == prompt.instruction
    view = row.get("view") or ("multilingual" if own_text else "crosslingual")
    return one_of(view, View, "view", where), judged_under


# Pairs


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
        "chosen_log_ratio": chosen.log_ratio,
        "rejected_log_ratio": rejected.log_ratio,
        "chosen_finish_reason": chosen.response.finish_reason,
        "rejected_finish_reason": rejected.response.finish_reason,
    }
    for side, scored in (("chosen", chosen), ("rejected", rejected)):
        if scored.response.token_ids is not None:
            row[f"{side}_token_ids"] = list(scored.response.token_ids)
    return row


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
    return "roles " + ", ".join(role for role, _ in messages) if messages else "no message"

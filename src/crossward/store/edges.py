"""JSON Lines for people and other tools: groups in, scored groups in and out.

A row holds one group whole; nothing is joined by line. What other tools leave out gets a neutral value, named
in each reader; what contradicts itself is a ValueError with the line. Knows no runs.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import get_args

from crossward.core.records import (
    FinishReason,
    Prompt,
    Response,
    SampledPrompt,
    ScoredPrompt,
    ScoredResponse,
    View,
)
from crossward.store.group_file import GroupFile
from crossward.store.json_fields import (
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
from crossward.store.json_lines import Row, write_json_lines

_FINISH_REASONS = get_args(FinishReason)
UNKNOWN_LANGUAGE = "und"  # ISO 639: undetermined


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
        | _rare_row(scored)
    )


def _rare_row(scored: Sequence[ScoredResponse]) -> Row:
    """What was judged in the responses' place (the translated view), and penalties, where there are any."""
    texts = [None if item.judged is None else item.judged.text for item in scored]
    judged = {} if all(text is None for text in texts) else {"judged": texts}
    return judged | ({"penalty": [item.penalty for item in scored]} if any(item.penalty for item in scored) else {})


def scored_of(row: Row, where: str) -> ScoredPrompt:
    """One row of a file of scored groups as a record; `where` names it in errors."""
    prompt, responses = _prompt(row, where, twin_needed=False), _responses(row, where)
    policy, reference = _logprobs(row, len(responses), where)
    n_tokens = parallel_of(row, "n_tokens", len(responses), where, default=0)
    for count in n_tokens:
        if not is_whole(count) or count < 0:
            raise ValueError(f"{where}: field 'n_tokens' must hold whole numbers of 0 or more, got {shown(count)}")
    view, judged_under = _judgement(row, prompt, where)
    judged = parallel_of(row, "judged", len(responses), where, default=None)
    for text in judged:
        if text is not None and not isinstance(text, str):
            raise ValueError(f"{where}: field 'judged' must hold texts, got {shown(text)}")
    penalties = [0.0] * len(responses)
    if row.get("penalty") is not None:
        penalties = numbers_of(row, "penalty", len(responses), where)
    columns = (responses, policy, reference, n_tokens, judged, penalties)
    return ScoredPrompt(
        prompt=prompt,
        view=view,
        judged_under=judged_under,
        responses=tuple(
            ScoredResponse(
                response=response,
                policy_logprob=ours,
                reference_logprob=theirs,
                n_tokens=count,
                judged=None if text is None else Response(text=text),
                penalty=penalty,
            )
            for response, ours, theirs, count, text, penalty in zip(*columns, strict=True)
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

"""Records as rows of Parquet tables, and back: one row holds one record whole.

The schemas of sampled, scored and rated groups and of pairing outcomes, and what each value is called in them. A row
that contradicts itself is a ValueError. Knows no files.
"""

from typing import Any, get_args

import pyarrow as pa

from crossward.core.plain_text import shown
from crossward.core.records import (
    FinishReason,
    PreferencePair,
    Prompt,
    RankedResponse,
    RatedBy,
    RatedPrompt,
    RatedResponse,
    Response,
    SampledPrompt,
    ScoredPrompt,
    ScoredResponse,
    Skipped,
    SkipReason,
    View,
)

Outcome = PreferencePair | Skipped
Row = dict[str, Any]


def _fields(nullable: bool = False, **types: pa.DataType) -> list[pa.Field]:
    return [pa.field(name, type_, nullable=nullable) for name, type_ in types.items()]


def _list(item: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("element", item, nullable=False))


_PROMPT = _fields(id=pa.string(), language=pa.string(), instruction=pa.string(), english_instruction=pa.string())
_RESPONSE = [
    *_fields(text=pa.string()),
    *_fields(token_ids=_list(pa.int32()), nullable=True),
    *_fields(finish_reason=pa.string()),
]
_SCORED_RESPONSE = [
    *_RESPONSE,
    *_fields(policy_logprob=pa.float64(), reference_logprob=pa.float64(), n_tokens=pa.int32()),
    *_fields(judged=pa.struct(_RESPONSE), nullable=True),
    *_fields(penalty=pa.float64()),
]
_RATED_RESPONSE = [*_RESPONSE, *_fields(rating=pa.float64(), n_tokens=pa.int32(), parts=_list(pa.float64()))]
# In a pair, whichever of the two it was made from: log-probabilities or a rating.
_RANKED_RESPONSE = [
    *_RESPONSE,
    *_fields(n_tokens=pa.int32()),
    *_fields(
        nullable=True,
        policy_logprob=pa.float64(),
        reference_logprob=pa.float64(),
        judged=pa.struct(_RESPONSE),
        penalty=pa.float64(),
        rating=pa.float64(),
        parts=_list(pa.float64()),
    ),
]
PROMPTS = pa.schema(_PROMPT)
SAMPLED = pa.schema([*_PROMPT, *_fields(responses=_list(pa.struct(_RESPONSE)))])
SCORED = pa.schema(
    [*_PROMPT, *_fields(view=pa.string(), judged_under=pa.string(), responses=_list(pa.struct(_SCORED_RESPONSE)))]
)
RATED = pa.schema(
    [*_PROMPT, *_fields(rated_by=pa.string(), judged_under=pa.string(), responses=_list(pa.struct(_RATED_RESPONSE)))]
)
OUTCOMES = pa.schema(
    [
        *_fields(outcome=pa.string()),
        *_PROMPT,
        *_fields(
            nullable=True,
            chosen=pa.struct(_RANKED_RESPONSE),
            rejected=pa.struct(_RANKED_RESPONSE),
            alpha=pa.float64(),
            chosen_score=pa.float64(),
            rejected_score=pa.float64(),
            reason=pa.string(),
        ),
    ]
)


def prompt_row(prompt: Prompt) -> Row:
    return {
        "id": prompt.id,
        "language": prompt.language,
        "instruction": prompt.instruction,
        "english_instruction": prompt.english_instruction,
    }


def prompt_of(row: Row) -> Prompt:
    return Prompt(
        id=row["id"],
        language=row["language"],
        instruction=row["instruction"],
        english_instruction=row["english_instruction"],
    )


def _response_row(response: Response) -> Row:
    ids = response.token_ids
    return {
        "text": response.text,
        "token_ids": None if ids is None else list(ids),
        "finish_reason": response.finish_reason,
    }


def _response(row: Row) -> Response:
    ids = row["token_ids"]
    return Response(
        text=row["text"],
        token_ids=None if ids is None else tuple(ids),
        finish_reason=_one_of(FinishReason, row, "finish_reason"),
    )


def _scored_response_row(scored: ScoredResponse) -> Row:
    return _response_row(scored.response) | {
        "policy_logprob": scored.policy_logprob,
        "reference_logprob": scored.reference_logprob,
        "n_tokens": scored.n_tokens,
        "judged": None if scored.judged is None else _response_row(scored.judged),
        "penalty": scored.penalty,
    }


def _scored_response(row: Row) -> ScoredResponse:
    return ScoredResponse(
        response=_response(row),
        policy_logprob=row["policy_logprob"],
        reference_logprob=row["reference_logprob"],
        n_tokens=row["n_tokens"],
        judged=None if row["judged"] is None else _response(row["judged"]),
        penalty=row["penalty"],
    )


def _rated_response_row(rated: RatedResponse) -> Row:
    return _response_row(rated.response) | {
        "rating": rated.rating,
        "n_tokens": rated.n_tokens,
        "parts": list(rated.parts),
    }


def _rated_response(row: Row) -> RatedResponse:
    return RatedResponse(
        response=_response(row), rating=row["rating"], n_tokens=row["n_tokens"], parts=tuple(row["parts"])
    )


def _ranked_response_row(ranked: RankedResponse) -> Row:
    match ranked:
        case ScoredResponse():
            return _scored_response_row(ranked)
        case RatedResponse():
            return _rated_response_row(ranked)


def _ranked_response(row: Row) -> RankedResponse:
    if row["rating"] is not None:
        return _rated_response(row | {"parts": row["parts"] or ()})
    for field in ("policy_logprob", "reference_logprob", "penalty"):
        _present(row, field)
    return _scored_response(row)


def sampled_row(group: SampledPrompt) -> Row:
    return prompt_row(group.prompt) | {"responses": [_response_row(response) for response in group.responses]}


def sampled_of(row: Row) -> SampledPrompt:
    return SampledPrompt(prompt=prompt_of(row), responses=tuple(_response(item) for item in row["responses"]))


def scored_row(group: ScoredPrompt) -> Row:
    return prompt_row(group.prompt) | {
        "view": group.view,
        "judged_under": group.judged_under,
        "responses": [_scored_response_row(scored) for scored in group.responses],
    }


def scored_of(row: Row) -> ScoredPrompt:
    return ScoredPrompt(
        prompt=prompt_of(row),
        view=_one_of(View, row, "view"),
        judged_under=row["judged_under"],
        responses=tuple(_scored_response(item) for item in row["responses"]),
    )


def rated_row(group: RatedPrompt) -> Row:
    return prompt_row(group.prompt) | {
        "rated_by": group.rated_by,
        "judged_under": group.judged_under,
        "responses": [_rated_response_row(rated) for rated in group.responses],
    }


def rated_of(row: Row) -> RatedPrompt:
    return RatedPrompt(
        prompt=prompt_of(row),
        rated_by=_one_of(RatedBy, row, "rated_by"),
        judged_under=row["judged_under"],
        responses=tuple(_rated_response(item) for item in row["responses"]),
    )


def outcome_row(outcome: Outcome) -> Row:
    match outcome:
        case PreferencePair():
            return prompt_row(outcome.prompt) | {
                "outcome": "pair",
                "chosen": _ranked_response_row(outcome.chosen),
                "rejected": _ranked_response_row(outcome.rejected),
                "alpha": outcome.alpha,
                "chosen_score": outcome.chosen_score,
                "rejected_score": outcome.rejected_score,
            }
        case Skipped():
            return prompt_row(outcome.prompt) | {"outcome": "skipped", "reason": outcome.reason}


def outcome_of(row: Row) -> Outcome:
    match row["outcome"]:
        case "skipped":
            return Skipped(prompt=prompt_of(row), reason=_one_of(SkipReason, row, "reason"))
        case "pair":
            return PreferencePair(
                prompt=prompt_of(row),
                chosen=_ranked_response(_present(row, "chosen")),
                rejected=_ranked_response(_present(row, "rejected")),
                alpha=_present(row, "alpha"),
                chosen_score=_present(row, "chosen_score"),
                rejected_score=_present(row, "rejected_score"),
            )
        case tag:
            raise ValueError(f"field 'outcome' is {shown(tag)}, expected 'pair' or 'skipped'")


def _present(row: Row, field: str) -> Any:
    if row[field] is None:
        raise ValueError(f"field {field!r} is empty, expected a value in a pair")
    return row[field]


def _one_of(literal: Any, row: Row, field: str) -> Any:
    allowed = get_args(literal)
    if row[field] not in allowed:
        raise ValueError(f"field {field!r} is {shown(row[field])}, expected one of {', '.join(allowed)}")
    return row[field]

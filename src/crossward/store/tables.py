"""Parquet shards (zstd) of sampled groups, scored groups, and pairing outcomes.

One row holds one record whole. Written and read as streams, a row group in memory at a time. Equal records give equal
bytes; floats are float64 and come back exactly; every page carries a checksum. A damaged, truncated or foreign file is
a ValueError that names it. Knows no runs and no stages.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from crossward.core.records import (
    FinishReason,
    PreferencePair,
    Prompt,
    Response,
    SampledPrompt,
    ScoredPrompt,
    ScoredResponse,
    Skipped,
    SkipReason,
    View,
)
from crossward.store.files import atomic_file

Outcome = PreferencePair | Skipped
Row = dict[str, Any]
ROW_GROUP = 1024
Record = TypeVar("Record")


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
]
SAMPLED = pa.schema([*_PROMPT, *_fields(responses=_list(pa.struct(_RESPONSE)))])
SCORED = pa.schema(
    [*_PROMPT, *_fields(view=pa.string(), judged_under=pa.string(), responses=_list(pa.struct(_SCORED_RESPONSE)))]
)
OUTCOMES = pa.schema(
    [
        *_fields(outcome=pa.string()),
        *_PROMPT,
        *_fields(
            nullable=True,
            chosen=pa.struct(_SCORED_RESPONSE),
            rejected=pa.struct(_SCORED_RESPONSE),
            alpha=pa.float64(),
            chosen_score=pa.float64(),
            rejected_score=pa.float64(),
            reason=pa.string(),
        ),
    ]
)


def write_sampled(path: Path, records: Iterable[SampledPrompt]) -> None:
    """Write groups, atomically."""
    _write(path, SAMPLED, map(_sampled_row, records))


def stream_sampled(path: Path) -> Iterator[SampledPrompt]:
    """Read groups back, one at a time. Raises ValueError for a missing, damaged or foreign file."""
    return _read(path, SAMPLED, _sampled)


def read_sampled(path: Path) -> list[SampledPrompt]:
    """`stream_sampled`, all at once."""
    return list(stream_sampled(path))


def write_scored(path: Path, records: Iterable[ScoredPrompt]) -> None:
    """Write scored groups, atomically."""
    _write(path, SCORED, map(_scored_row, records))


def stream_scored(path: Path) -> Iterator[ScoredPrompt]:
    """Read scored groups back, one at a time. Raises ValueError for a missing, damaged or foreign file."""
    return _read(path, SCORED, _scored)


def read_scored(path: Path) -> list[ScoredPrompt]:
    """`stream_scored`, all at once."""
    return list(stream_scored(path))


def write_outcomes(path: Path, records: Iterable[Outcome]) -> None:
    """Write what pairing made of each prompt, pairs and skips in one file, atomically."""
    _write(path, OUTCOMES, map(_outcome_row, records))


def stream_outcomes(path: Path) -> Iterator[Outcome]:
    """Read pairs and skips back, one at a time. Raises ValueError for a missing, damaged or foreign file."""
    return _read(path, OUTCOMES, _outcome)


def read_outcomes(path: Path) -> list[Outcome]:
    """`stream_outcomes`, all at once."""
    return list(stream_outcomes(path))


def count_rows(path: Path) -> int:
    """How many records a shard holds, without decoding them."""
    try:
        return pq.read_metadata(path).num_rows
    except pa.ArrowException as error:
        raise ValueError(_damaged(path, _first_line(error))) from None


def count_responses(path: Path) -> int:
    """How many responses the groups of a shard of sampled groups hold."""
    return sum(len(group.responses) for group in stream_sampled(path))


def _write(path: Path, schema: pa.Schema, rows: Iterable[Row]) -> None:
    """Row groups of fixed size, so that the bytes depend on nothing but the records."""
    left = iter(rows)
    with (
        atomic_file(path) as handle,
        pq.ParquetWriter(handle, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        while chunk := list(islice(left, ROW_GROUP)):
            writer.write_table(pa.Table.from_pylist(chunk, schema=schema))


def _read(path: Path, schema: pa.Schema, record_of: Callable[[Row], Record]) -> Iterator[Record]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"shard {path} does not exist: run again, only that shard is redone") from None
    except IsADirectoryError:
        raise ValueError(f"shard {path} is a folder: expected a Parquet file") from None
    for number, row in enumerate(_rows(path, content, schema), start=1):
        try:
            record = record_of(row)
        except ValueError as error:
            raise ValueError(_damaged(path, f"row {number}: {error}")) from None
        yield record


def _rows(path: Path, content: bytes, schema: pa.Schema) -> Iterator[Row]:
    """Every row of a Parquet file; the disk is not touched, so every exception of the decoder means a bad file."""
    try:
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        found = file.schema_arrow
    except Exception as error:
        raise ValueError(_damaged(path, f"not a whole Parquet file: {_first_line(error)}")) from None
    if not found.equals(schema):
        raise ValueError(_damaged(path, _difference(found, schema)))
    for index in range(file.num_row_groups):
        try:
            table = file.read_row_group(index)
            table.validate(full=True)
            rows = table.to_pylist()
        except Exception as error:
            raise ValueError(_damaged(path, _first_line(error))) from None
        yield from rows


def _damaged(path: Path, why: str) -> str:
    return f"shard {path} is damaged or foreign ({why}): delete it and run again, only that shard is redone"


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _difference(found: pa.Schema, expected: pa.Schema) -> str:
    """Which columns are missing, unexpected, or of another type."""
    parts = [f"column {name!r} is missing" for name in expected.names if name not in found.names]
    parts += [f"column {name!r} is unexpected" for name in found.names if name not in expected.names]
    parts += [
        f"column {field.name!r} is {found.field(field.name).type}, expected {field.type}"
        for field in expected
        if found.names.count(field.name) == 1 and not found.field(field.name).equals(field)
    ]
    return ", ".join(parts) or "its columns stand in another order"


def _prompt_row(prompt: Prompt) -> Row:
    return {
        "id": prompt.id,
        "language": prompt.language,
        "instruction": prompt.instruction,
        "english_instruction": prompt.english_instruction,
    }


def _prompt(row: Row) -> Prompt:
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
    }


def _scored_response(row: Row) -> ScoredResponse:
    return ScoredResponse(
        response=_response(row),
        policy_logprob=row["policy_logprob"],
        reference_logprob=row["reference_logprob"],
        n_tokens=row["n_tokens"],
    )


def _sampled_row(group: SampledPrompt) -> Row:
    return _prompt_row(group.prompt) | {"responses": [_response_row(response) for response in group.responses]}


def _sampled(row: Row) -> SampledPrompt:
    return SampledPrompt(prompt=_prompt(row), responses=tuple(_response(item) for item in row["responses"]))


def _scored_row(group: ScoredPrompt) -> Row:
    return _prompt_row(group.prompt) | {
        "view": group.view,
        "judged_under": group.judged_under,
        "responses": [_scored_response_row(scored) for scored in group.responses],
    }


def _scored(row: Row) -> ScoredPrompt:
    return ScoredPrompt(
        prompt=_prompt(row),
        view=_one_of(View, row, "view"),
        judged_under=row["judged_under"],
        responses=tuple(_scored_response(item) for item in row["responses"]),
    )


def _outcome_row(outcome: Outcome) -> Row:
    match outcome:
        case PreferencePair():
            return _prompt_row(outcome.prompt) | {
                "outcome": "pair",
                "chosen": _scored_response_row(outcome.chosen),
                "rejected": _scored_response_row(outcome.rejected),
                "alpha": outcome.alpha,
                "chosen_score": outcome.chosen_score,
                "rejected_score": outcome.rejected_score,
            }
        case Skipped():
            return _prompt_row(outcome.prompt) | {"outcome": "skipped", "reason": outcome.reason}


def _outcome(row: Row) -> Outcome:
    match row["outcome"]:
        case "skipped":
            return Skipped(prompt=_prompt(row), reason=_one_of(SkipReason, row, "reason"))
        case "pair":
            return PreferencePair(
                prompt=_prompt(row),
                chosen=_scored_response(_present(row, "chosen")),
                rejected=_scored_response(_present(row, "rejected")),
                alpha=_present(row, "alpha"),
                chosen_score=_present(row, "chosen_score"),
                rejected_score=_present(row, "rejected_score"),
            )
        case tag:
            raise ValueError(f"field 'outcome' is {tag!r}, expected 'pair' or 'skipped'")


def _present(row: Row, field: str) -> Any:
    if row[field] is None:
        raise ValueError(f"field {field!r} is empty, expected a value in a pair")
    return row[field]


def _one_of(literal: Any, row: Row, field: str) -> Any:
    allowed = get_args(literal)
    if row[field] not in allowed:
        raise ValueError(f"field {field!r} is {row[field]!r}, expected one of {', '.join(allowed)}")
    return row[field]

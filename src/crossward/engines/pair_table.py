"""The pairs of a training as token ids in one file on the disk, which is mapped into memory and not read into it.

A training of a million pairs holds none of them: every process of it opens the same file and takes its own rows.
Knows no models and no trainers.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from crossward.engines.protocols import TrainingPair
from crossward.engines.tokens import ChatTokens

PORTION = 1024  # rows that are in memory while the file is written
_IDS = pa.list_(pa.int32())
SCHEMA = pa.schema(
    [
        ("prompt_ids", _IDS),
        ("chosen_ids", _IDS),
        ("rejected_ids", _IDS),
        ("ref_chosen_logps", pa.float64()),
        ("ref_rejected_logps", pa.float64()),
    ]
)


@dataclass(slots=True, kw_only=True)
class TableCounts:
    """What was written: pairs, their tokens as trained (the prompt twice), and pairs that were too long."""

    pairs: int = 0
    tokens: int = 0
    dropped_too_long: int = 0


def write_pairs(path: Path, pairs: Iterable[TrainingPair], tokens: ChatTokens, *, max_length: int) -> TableCounts:
    """Write the pairs that fit into `max_length` tokens, in their order. Raises ValueError where none does."""
    counts = TableCounts()
    path.parent.mkdir(parents=True, exist_ok=True)
    left = iter(pairs)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, SCHEMA) as writer:
        while portion := list(islice(left, PORTION)):
            if rows := [row for pair in portion if (row := _row(pair, tokens, max_length, counts)) is not None]:
                writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
    if not counts.pairs:
        raise ValueError(
            f"none of {counts.dropped_too_long} pairs fits into max_length {max_length} tokens: raise train.max_length"
        )
    return counts


def open_pairs(path: Path) -> Any:
    """The file as a datasets.Dataset, mapped into memory."""
    from datasets import Dataset

    return Dataset.from_file(str(path))


def _row(pair: TrainingPair, tokens: ChatTokens, max_length: int, counts: TableCounts) -> dict[str, Any] | None:
    prompt = tokens.prompt_ids(pair.instruction)
    chosen, rejected = (tokens.response_ids(response) for response in (pair.chosen, pair.rejected))
    if not chosen:
        raise ValueError(f"the chosen response to {pair.instruction[:60]!r} has no tokens to learn: leave the pair out")
    if len(prompt) + max(len(chosen), len(rejected)) > max_length:
        counts.dropped_too_long += 1
        return None
    counts.pairs += 1
    counts.tokens += 2 * len(prompt) + len(chosen) + len(rejected)
    return {
        "prompt_ids": list(prompt),
        "chosen_ids": list(chosen),
        "rejected_ids": list(rejected),
        "ref_chosen_logps": pair.reference_chosen_logprob,
        "ref_rejected_logps": pair.reference_rejected_logprob,
    }

"""Parquet shards of sampled groups, scored and rated groups, and pairing outcomes, as streams of records.

A row group in memory at a time, written atomically; with `id`, those of one prompt alone. Knows no runs and no stages;
the rows are in table_rows.py, the files in parquet_files.py.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from crossward.core.records import RatedPrompt, SampledPrompt, ScoredPrompt
from crossward.store.parquet_files import count_items, read_records, write_rows
from crossward.store.table_rows import (
    OUTCOMES,
    RATED,
    SAMPLED,
    SCORED,
    Outcome,
    outcome_of,
    outcome_row,
    rated_of,
    rated_row,
    sampled_of,
    sampled_row,
    scored_of,
    scored_row,
)


def write_sampled(path: Path, records: Iterable[SampledPrompt]) -> None:
    """Write groups, atomically."""
    write_rows(path, SAMPLED, map(sampled_row, records))


def stream_sampled(path: Path, *, id: str | None = None) -> Iterator[SampledPrompt]:
    """Read groups back, one at a time. Raises ValueError for a missing, damaged or foreign file."""
    return read_records(path, SAMPLED, sampled_of, id=id)


def read_sampled(path: Path) -> list[SampledPrompt]:
    """`stream_sampled`, all at once."""
    return list(stream_sampled(path))


def write_scored(path: Path, records: Iterable[ScoredPrompt]) -> None:
    """Write scored groups, atomically."""
    write_rows(path, SCORED, map(scored_row, records))


def stream_scored(path: Path, *, id: str | None = None) -> Iterator[ScoredPrompt]:
    """Read scored groups back, one at a time. Raises ValueError for a missing, damaged or foreign file."""
    return read_records(path, SCORED, scored_of, id=id)


def read_scored(path: Path) -> list[ScoredPrompt]:
    """`stream_scored`, all at once."""
    return list(stream_scored(path))


def write_rated(path: Path, records: Iterable[RatedPrompt]) -> None:
    """Write rated groups, atomically."""
    write_rows(path, RATED, map(rated_row, records))


def stream_rated(path: Path, *, id: str | None = None) -> Iterator[RatedPrompt]:
    """Read rated groups back, one at a time. Raises ValueError for a missing, damaged or foreign file."""
    return read_records(path, RATED, rated_of, id=id)


def write_outcomes(path: Path, records: Iterable[Outcome]) -> None:
    """Write what pairing made of each prompt, pairs and skips in one file, atomically."""
    write_rows(path, OUTCOMES, map(outcome_row, records))


def stream_outcomes(path: Path, *, id: str | None = None, places: range | None = None) -> Iterator[Outcome]:
    """Read pairs and skips back, one at a time; with `places` those of these rows, counted from 0.

    Raises ValueError for a missing, damaged or foreign file.
    """
    return read_records(path, OUTCOMES, outcome_of, id=id, places=places)


def read_outcomes(path: Path) -> list[Outcome]:
    """`stream_outcomes`, all at once."""
    return list(stream_outcomes(path))


def count_responses(path: Path) -> int:
    """How many responses the groups of a shard of sampled groups hold, without decoding what they say."""
    return count_items(path, SAMPLED, "responses", "responses.list.element.finish_reason")

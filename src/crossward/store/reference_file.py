"""log π_ref of a window of pairs, kept until the training that reads them is done: one Parquet file a window."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from crossward.store.parquet_files import Row, read_records, write_rows

_SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("chosen", pa.float64()),
        pa.field("rejected", pa.float64()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceRow:
    """A pair by its name, and log π_ref of both responses (nats); None where one is too long for the reference."""

    name: str
    chosen: float | None
    rejected: float | None


def write_reference(path: Path, rows: Iterable[ReferenceRow]) -> None:
    """Write a window, atomically."""
    write_rows(path, _SCHEMA, ({"name": row.name, "chosen": row.chosen, "rejected": row.rejected} for row in rows))


def read_reference(path: Path) -> list[ReferenceRow]:
    """A window, in its pairs' order. Raises ValueError for a missing, damaged or foreign file."""
    return list(read_records(path, _SCHEMA, _row_of))


def _row_of(row: Row) -> ReferenceRow:
    return ReferenceRow(name=row["name"], chosen=row["chosen"], rejected=row["rejected"])

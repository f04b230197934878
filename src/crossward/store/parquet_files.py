"""Rows in and out of Parquet files (zstd): atomic, streamed by row groups, with a checksum on every page.

Equal rows give equal bytes; floats are float64 and come back exactly. A damaged, truncated or foreign file is a
ValueError that names it. The footer, which says where pages lie, has no checksum: a flipped bit there may read other
pages, so the rows have one of their own, which whoever reads them all compares. Knows no records.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from crossward.store.files import atomic_file

Row = dict[str, Any]
ROW_GROUP = 1024
_CHECKSUM = b"crossward.rows"  # in the file's metadata; none in files of earlier versions
Record = TypeVar("Record")


def write_rows(path: Path, schema: pa.Schema, rows: Iterable[Row]) -> None:
    """Row groups of fixed size, so that the bytes depend on nothing but the records."""
    left, seen = iter(rows), _Seen()
    with (
        atomic_file(path) as handle,
        pq.ParquetWriter(handle, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        while chunk := list(islice(left, ROW_GROUP)):
            table = pa.Table.from_pylist(chunk, schema=schema)
            writer.write_table(table)
            seen.add(table.to_pylist())
        writer.add_key_value_metadata({_CHECKSUM.decode(): seen.checksum})


def read_records(
    path: Path, schema: pa.Schema, record_of: Callable[[Row], Record], *, id: str | None = None
) -> Iterator[Record]:
    """Every record, or those whose column `id` says so: other row groups are then not decoded, but for that column."""
    if path.is_dir():
        raise ValueError(damaged(path, "a folder"))
    try:
        source = pa.OSFile(str(path), "rb")
    except FileNotFoundError:
        raise ValueError(f"shard {path} does not exist: run again, only that shard is redone") from None
    with source:
        for number, row in _rows(path, source, schema, id):
            try:
                record = record_of(row)
            except ValueError as error:
                raise ValueError(damaged(path, f"row {number}: {error}")) from None
            yield record


def _rows(path: Path, source: pa.NativeFile, schema: pa.Schema, id: str | None) -> Iterator[tuple[int, Row]]:
    """Rows of a Parquet file with their numbers, a row group in memory at a time.

    An exception of the decoder means a bad file.
    """
    try:
        file = pq.ParquetFile(source, page_checksum_verification=True)
        found = file.schema_arrow
    except Exception as error:
        raise ValueError(damaged(path, f"not a whole Parquet file: {_first_line(error)}")) from None
    if not found.equals(schema):
        raise ValueError(damaged(path, _difference(found, schema)))
    before, seen = 0, _Seen()
    written = (file.metadata.metadata or {}).get(_CHECKSUM)
    for index in range(file.num_row_groups):
        try:
            places = range(file.metadata.row_group(index).num_rows)
            if id is not None:
                ids = file.read_row_group(index, columns=["id"]).column("id").to_pylist()
                places = [place for place, found in enumerate(ids) if found == id]
            rows: list[Row] = []
            if places:
                table = file.read_row_group(index)
                table.validate(full=True)
                rows = (table if id is None else table.take(places)).to_pylist()
        except Exception as error:
            raise ValueError(damaged(path, _first_line(error))) from None
        yield from ((before + place + 1, row) for place, row in zip(places, rows, strict=True))
        before += file.metadata.row_group(index).num_rows
        if id is None and written is not None:
            seen.add(rows)
    if id is None and written not in (None, seen.checksum.encode()):
        raise ValueError(damaged(path, "its rows are not those that were written"))


class _Seen:
    """The checksum of rows, in their order."""

    def __init__(self) -> None:
        self._digest = hashlib.blake2b(digest_size=16)

    def add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._digest.update(orjson.dumps(row, option=orjson.OPT_SORT_KEYS))

    @property
    def checksum(self) -> str:
        return self._digest.hexdigest()


def damaged(path: Path, why: str) -> str:
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


def count_rows(path: Path) -> int:
    """How many records a shard holds, without decoding them."""
    try:
        return pq.read_metadata(path).num_rows
    except pa.ArrowException as error:
        raise ValueError(damaged(path, _first_line(error))) from None

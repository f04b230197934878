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

from crossward.core.plain_text import shown, visible_line
from crossward.store.files import atomic_file

Row = dict[str, Any]
ROW_GROUP = 1024
PLAUSIBLE_BYTES = 2**28  # unpacked, of however small a file
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
    path: Path,
    schema: pa.Schema,
    record_of: Callable[[Row], Record],
    *,
    id: str | None = None,
    places: range | None = None,
) -> Iterator[Record]:
    """Every record, or those whose column `id` says so: other row groups are then not decoded, but for that column.

    With `places`, those of these rows, counted from 0.
    """
    if path.is_dir():
        raise ValueError(damaged(path, "a folder"))
    try:
        source = pa.OSFile(str(path), "rb")
    except FileNotFoundError:
        raise ValueError(f"shard {path} does not exist: run again, only that shard is redone") from None
    with source:
        for number, row in _rows(path, source, schema, id, places):
            try:
                record = record_of(row)
            except ValueError as error:
                raise ValueError(damaged(path, f"row {number}: {error}")) from None
            yield record


def _rows(
    path: Path, source: pa.NativeFile, schema: pa.Schema, id: str | None, wanted: range | None
) -> Iterator[tuple[int, Row]]:
    """Rows of a Parquet file with their numbers, a row group in memory at a time.

    An exception of the decoder means a bad file.
    """
    try:
        file = pq.ParquetFile(source, page_checksum_verification=True)
        found = file.schema_arrow
    except Exception as error:
        raise ValueError(damaged(path, f"not a whole Parquet file: {first_line(error)}")) from None
    if (why := implausible(file.metadata, path.stat().st_size)) is not None:
        raise ValueError(damaged(path, why))
    if not found.equals(schema):
        raise ValueError(damaged(path, _difference(found, schema)))
    before, seen = 0, _Seen()
    written = (file.metadata.metadata or {}).get(_CHECKSUM) if id is None and wanted is None else None
    for index in range(file.num_row_groups):
        try:
            n_rows = file.metadata.row_group(index).num_rows
            places = range(n_rows)
            if wanted is not None:
                places = range(max(wanted.start - before, 0), min(wanted.stop - before, n_rows))
            if id is not None:
                ids = file.read_row_group(index, columns=["id"]).column("id").to_pylist()
                places = [place for place, found in enumerate(ids) if found == id]
            rows: list[Row] = []
            if places:
                table = file.read_row_group(index)
                table.validate(full=True)
                rows = (table if len(places) == n_rows else table.take(list(places))).to_pylist()
        except Exception as error:
            raise ValueError(damaged(path, first_line(error))) from None
        yield from ((before + place + 1, row) for place, row in zip(places, rows, strict=True))
        before += n_rows
        if written is not None:
            seen.add(rows)
    if written not in (None, seen.checksum.encode()):
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


def implausible(metadata: pq.FileMetaData, n_bytes: int) -> str | None:
    """Why a file of so many bytes cannot hold what it says it holds; None where it may. Nothing is decoded.

    What compresses far better than any text does is made to fill a memory. A file may lie here, and is then stopped
    by what its batches hold; its columns are not asked, as the library aborts the process where their facts are wrong.
    """
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    n_rows = max(metadata.num_rows, sum(group.num_rows for group in groups))
    if n_rows > max(2**20, 8 * n_bytes) or min([metadata.num_rows, *(group.num_rows for group in groups)]) < 0:
        return f"says that it holds {n_rows} rows in {n_bytes} bytes"
    unpacked = sum(group.total_byte_size for group in groups)
    if unpacked > max(PLAUSIBLE_BYTES, 200 * n_bytes):
        return f"unpacks from {n_bytes} to {unpacked} bytes"
    return None


def rows_at_once(metadata: pq.FileMetaData) -> int:
    """So few rows that even values as long as their whole column fit into 2 GiB: a dictionary may repeat one."""
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    return min(ROW_GROUP, max(1, 2**31 // max([1, *(group.total_byte_size for group in groups)])))


def first_line(error: Exception) -> str:
    """What a library says of a stranger's file, short and on one line."""
    lines = str(error).splitlines()
    return visible_line(lines[0])[:200].rstrip(".") if lines else type(error).__name__


def _difference(found: pa.Schema, expected: pa.Schema) -> str:
    """Which columns are missing, unexpected, or of another type."""
    parts = [f"column {name!r} is missing" for name in expected.names if name not in found.names]
    parts += [f"column {shown(name)} is unexpected" for name in found.names if name not in expected.names]
    parts += [
        f"column {field.name!r} is {found.field(field.name).type}, expected {field.type}"
        for field in expected
        if found.names.count(field.name) == 1 and not found.field(field.name).equals(field)
    ]
    return ", ".join(visible_line(part[:200]) for part in parts[:5]) or "its columns stand in another order"


def count_rows(path: Path) -> int:
    """How many records a shard holds, without decoding them."""
    try:
        return pq.read_metadata(path).num_rows
    except pa.ArrowException as error:
        raise ValueError(damaged(path, first_line(error))) from None


def count_items(path: Path, schema: pa.Schema, column: str, leaf: str) -> int:
    """How many items the lists of a column hold together; `leaf` is a part of an item, which alone is decoded."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            if not file.schema_arrow.equals(schema):
                raise ValueError(damaged(path, _difference(file.schema_arrow, schema)))
            return sum(len(batch.column(column).flatten()) for batch in file.iter_batches(columns=[leaf]))
    except FileNotFoundError:
        raise ValueError(f"shard {path} does not exist: run again, only that shard is redone") from None
    except (pa.ArrowException, OSError) as error:
        raise ValueError(damaged(path, first_line(error))) from None

"""Rows of a local file (.jsonl, .json, .csv, .parquet) or a Hugging Face dataset, each with where it stands.

Knows formats, not prompts. Errors name file and line ("line 7"), or the row where a format has no lines ("row 7"). JSON
Lines, Parquet and datasets are read as streams, a row or a block in memory at a time; .json and .csv as a whole.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from crossward.core.addresses import require_no_address
from crossward.core.plain_text import listed, shown
from crossward.store.dataset_folders import require_own_files
from crossward.store.json_lines import decode, parse_json, read_file, read_json_lines
from crossward.store.parquet_files import first_line, implausible, rows_at_once

LocatedRow = tuple[str, dict[str, Any]]
EXTENSIONS = (".jsonl", ".json", ".csv", ".parquet")
_OTHER_FILES = re.compile(r"\.(txt|tsv|ndjson|ya?ml|xml|xlsx?|arrow|feather|gz|zip|zst|pkl|pickle|md)$", re.IGNORECASE)
LARGEST_BYTES = 2**36  # of a file's values, one batch of them in memory
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where rows come from: a file, a folder of a saved dataset, or a dataset's name on the hub.

    `split` and `config` are read for datasets only. A field name of None leaves the choice to the caller.
    """

    path: str
    split: str = "train"
    config: str | None = None
    id_field: str | None = None
    instruction_field: str | None = None


def located_rows(source: Source) -> list[LocatedRow]:
    """Every row with where it stands. Raises ValueError for a source that is missing, empty or broken."""
    return list(stream_rows(source))


def stream_rows(source: Source) -> Iterator[LocatedRow]:
    """`located_rows`, one after another; what is wrong is raised when its row comes."""
    require_no_address(source.path, "rows", "a file, a folder or a dataset's name on the hub, and fetch it first")
    path = Path(source.path).expanduser()
    suffix = path.suffix.lower()
    if path.is_dir():
        rows = _folder_rows(source, path)
    elif path.is_file() or suffix in EXTENSIONS or _OTHER_FILES.search(source.path):
        rows = _file_rows(path, suffix)
    elif is_on_hub(source):
        rows = _hub_rows(source, source.path)
    else:
        raise ValueError(f"file {path} does not exist: check the path")
    found = False
    for row in rows:
        found = True
        yield row
    if not found:
        raise ValueError(f"{source.path} is empty: expected at least one row")


def is_on_hub(source: Source) -> bool:
    """Whether the path can only be the name of a dataset."""
    path = Path(source.path).expanduser()
    is_file = path.suffix.lower() in EXTENSIONS or _OTHER_FILES.search(source.path)
    return not path.exists() and not is_file and _HUB_NAME.fullmatch(source.path) is not None


def _file_rows(path: Path, suffix: str) -> Iterable[LocatedRow]:
    match suffix:
        case ".jsonl":
            return ((f"line {number}", row) for number, row in read_json_lines(path))
        case ".json":
            return _json_rows(path)
        case ".csv":
            return csv_rows(path)
        case ".parquet":
            return _by_row(_parquet_rows(path))
        case _:
            raise ValueError(f"{path} has an unknown extension {suffix!r}: expected one of {', '.join(EXTENSIONS)}")


def _json_rows(path: Path) -> Iterator[LocatedRow]:
    items = parse_json("\n".join(decode(path, read_file(path))), where=str(path))
    if not isinstance(items, list):
        raise ValueError(f"{path}: expected a list of objects, got {type(items).__name__}")
    for number, item in enumerate(items, start=1):
        if not isinstance(item, dict):
            raise ValueError(f"{path}, row {number}: expected a JSON object, got {type(item).__name__}")
    return _by_row(items)


def csv_rows(path: Path) -> list[LocatedRow]:
    """Rows under a header line; a quoted field may run over several lines, so a row is named by its first."""
    csv.field_size_limit(2**31 - 1)  # an instruction may be longer than csv's 128 KiB
    reader = csv.reader(io.StringIO("\n".join(decode(path, read_file(path))), newline=""), strict=True)
    header: list[str] | None = None
    rows: list[LocatedRow] = []
    while True:
        where = f"line {reader.line_num + 1}"
        try:
            values = next(reader, None)
        except csv.Error as error:
            raise ValueError(f"{path}, {where}: broken CSV ({first_line(error)})") from None
        if values is None:
            return rows
        if not values:
            continue
        if header is None:
            header = _csv_header(path, values)
        elif len(values) != len(header):
            raise ValueError(
                f"{path}, {where}: {len(values)} values for {len(header)} columns ({listed(header)}): "
                "quote values that hold a comma or a line break"
            )
        else:
            rows.append((where, dict(zip(header, values, strict=True))))


def _csv_header(path: Path, values: Sequence[str]) -> list[str]:
    twice = sorted(name for name, times in Counter(values).items() if times > 1)
    if twice:
        raise ValueError(f"{path}, line 1: column {shown(twice[0])} is named twice: rename one")
    return list(values)


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    """A batch of rows at a time, so that a file is refused before more of it is decoded than such a file may hold."""
    if not path.is_file() or not path.stat().st_size:
        read_file(path)  # which says what is wrong
    number, left = 0, LARGEST_BYTES
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if twice := [name for name, times in Counter(names).items() if times > 1]:
                raise ValueError(f"{path}: column {shown(twice[0])} is there twice: rename one")
            if (why := implausible(file.metadata, path.stat().st_size)) is not None:
                raise ValueError(f"{path} {why}: that is no file of rows that people wrote")
            for batch in file.iter_batches(rows_at_once(file.metadata)):
                if (left := left - batch.nbytes) < 0:
                    raise ValueError(f"{path}, row {number + 1}: the values take more than {LARGEST_BYTES >> 30} GiB")
                columns = [_column(path, name, column) for name, column in zip(names, batch.columns, strict=True)]
                yield from (dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True))
                number += batch.num_rows
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        where = f"{path}, behind row {number}"
        raise ValueError(f"{where}: not a whole Parquet file ({first_line(error)}): make it again") from None


def _column(path: Path, name: str, column: pa.Array) -> list[Any]:
    """The values of a column; a text that is not UTF-8 and a time that no calendar has are no values."""
    try:
        return column.to_pylist()
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise ValueError(f"{path}, column {shown(name)}: a value cannot be read ({first_line(error)})") from None


def _folder_rows(source: Source, path: Path) -> Iterator[LocatedRow]:
    """A folder that `save_to_disk` made, or one that `load_dataset` understands."""
    from datasets import DatasetDict, load_from_disk

    require_own_files(path)
    if not (path / "state.json").exists() and not (path / "dataset_dict.json").exists():
        return _hub_rows(source, str(path))
    try:
        dataset = load_from_disk(path)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise ValueError(f"{path} is not a whole saved dataset ({first_line(error)}): save it again") from None
    if isinstance(dataset, DatasetDict):
        if source.split not in dataset:
            raise ValueError(f"{path} has no split {source.split!r}: expected one of {', '.join(map(str, dataset))}")
        dataset = dataset[source.split]
    return _by_row(_as_stored(dataset))


def _hub_rows(source: Source, name: str) -> Iterator[LocatedRow]:
    from datasets import load_dataset

    try:
        dataset = load_dataset(name, source.config, split=source.split)
    except (OSError, ValueError, RuntimeError, pa.ArrowException) as error:
        asked = f"split {source.split!r}" + (f", config {source.config!r}" if source.config else "")
        raise ValueError(
            f"{source.path} is no file, and as a dataset ({asked}) it could not be loaded ({first_line(error)}): "
            "check path, split and config"
        ) from None
    return _by_row(_as_stored(dataset))


def _as_stored(dataset: Any) -> Iterator[dict[str, Any]]:
    """Rows without decoding: a picture's row may name any file or address, which decoding it would read."""
    for table in dataset.with_format("arrow").iter(batch_size=1000):
        yield from table.to_pylist()


def _by_row(rows: Iterable[dict[str, Any]]) -> Iterator[LocatedRow]:
    return ((f"row {number}", row) for number, row in enumerate(rows, start=1))

"""Rows of a local file (.jsonl, .json, .csv, .parquet) or a Hugging Face dataset, each with where it stands.

Knows formats, not prompts. Errors name file and line ("line 7"), or the row where a format has no lines ("row 7").
"""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from crossward.core.addresses import require_no_address
from crossward.store.json_lines import decode, parse_json, read_file, read_json_lines

LocatedRow = tuple[str, dict[str, Any]]
EXTENSIONS = (".jsonl", ".json", ".csv", ".parquet")
_OTHER_FILES = re.compile(r"\.(txt|tsv|ndjson|ya?ml|xml|xlsx?|arrow|feather|gz|zip|zst|pkl|pickle|md)$", re.IGNORECASE)
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
    require_no_address(source.path, "rows", "a file, a folder or a dataset's name on the hub, and fetch it first")
    path = Path(source.path).expanduser()
    suffix = path.suffix.lower()
    if path.is_dir():
        rows = _folder_rows(source, path)
    elif path.is_file() or suffix in EXTENSIONS or _OTHER_FILES.search(source.path):
        rows = _file_rows(path, suffix)
    elif _HUB_NAME.fullmatch(source.path):
        rows = _hub_rows(source, source.path)
    else:
        raise ValueError(f"file {path} does not exist: check the path")
    if not rows:
        raise ValueError(f"{source.path} is empty: expected at least one row")
    return rows


def _file_rows(path: Path, suffix: str) -> list[LocatedRow]:
    match suffix:
        case ".jsonl":
            return [(f"line {number}", row) for number, row in read_json_lines(path)]
        case ".json":
            return _json_rows(path)
        case ".csv":
            return _csv_rows(path)
        case ".parquet":
            return _parquet_rows(path)
        case _:
            raise ValueError(f"{path} has an unknown extension {suffix!r}: expected one of {', '.join(EXTENSIONS)}")


def _json_rows(path: Path) -> list[LocatedRow]:
    items = parse_json("\n".join(decode(path, read_file(path))), where=str(path))
    if not isinstance(items, list):
        raise ValueError(f"{path}: expected a list of objects, got {type(items).__name__}")
    for number, item in enumerate(items, start=1):
        if not isinstance(item, dict):
            raise ValueError(f"{path}, row {number}: expected a JSON object, got {type(item).__name__}")
    return _by_row(items)


def _csv_rows(path: Path) -> list[LocatedRow]:
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
            raise ValueError(f"{path}, {where}: broken CSV ({error})") from None
        if values is None:
            return rows
        if not values:
            continue
        if header is None:
            header = _csv_header(path, values)
        elif len(values) != len(header):
            raise ValueError(
                f"{path}, {where}: {len(values)} values for {len(header)} columns ({', '.join(header)}): "
                "quote values that hold a comma or a line break"
            )
        else:
            rows.append((where, dict(zip(header, values, strict=True))))


def _csv_header(path: Path, values: Sequence[str]) -> list[str]:
    twice = sorted({name for name in values if values.count(name) > 1})
    if twice:
        raise ValueError(f"{path}, line 1: column {twice[0]!r} is named twice: rename one")
    return list(values)


def _parquet_rows(path: Path) -> list[LocatedRow]:
    content = read_file(path)
    try:
        return _by_row(pq.read_table(pa.BufferReader(content)).to_pylist())
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a whole Parquet file ({str(error).splitlines()[0]}): make it again") from None


def _folder_rows(source: Source, path: Path) -> list[LocatedRow]:
    """A folder that `save_to_disk` made, or one that `load_dataset` understands."""
    from datasets import DatasetDict, load_from_disk

    if not (path / "state.json").exists() and not (path / "dataset_dict.json").exists():
        return _hub_rows(source, str(path))
    try:
        dataset = load_from_disk(path)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise ValueError(f"{path} is not a whole saved dataset ({_first_line(error)}): save it again") from None
    if isinstance(dataset, DatasetDict):
        if source.split not in dataset:
            raise ValueError(f"{path} has no split {source.split!r}: expected one of {', '.join(map(str, dataset))}")
        dataset = dataset[source.split]
    return _by_row([dict(row) for row in dataset])


def _hub_rows(source: Source, name: str) -> list[LocatedRow]:
    from datasets import load_dataset

    try:
        dataset = load_dataset(name, source.config, split=source.split)
    except (OSError, ValueError, RuntimeError, pa.ArrowException) as error:
        asked = f"split {source.split!r}" + (f", config {source.config!r}" if source.config else "")
        raise ValueError(
            f"{source.path} is no file, and as a dataset ({asked}) it could not be loaded ({_first_line(error)}): "
            "check path, split and config"
        ) from None
    return _by_row([dict(row) for row in dataset])


def _by_row(rows: Sequence[dict[str, Any]]) -> list[LocatedRow]:
    return [(f"row {number}", row) for number, row in enumerate(rows, start=1)]


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__

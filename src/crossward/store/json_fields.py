"""Fields of a JSON row, checked: each mistake is a ValueError with `where` (file and line), field, and what was got."""

import sys
from functools import cache
from typing import Any, get_args

from crossward.core.plain_text import listed, shown
from crossward.store.json_lines import Row

_INT32_MAX = 2**31 - 1


def field_of(row: Row, field: str, where: str) -> Any:
    if row.get(field) is None:
        raise ValueError(f"{where}: field {field!r} is missing, got {names_of(row)}")
    return row[field]


def text_of(row: Row, field: str, where: str) -> str:
    value = field_of(row, field, where)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where}: field {field!r} must be a text that is not empty, got {shown(value)}")
    return value


def list_of(row: Row, field: str, where: str) -> list[Any]:
    value = field_of(row, field, where)
    if not isinstance(value, list):
        raise ValueError(f"{where}: field {field!r} must be a list, got {shown(value)}")
    return value


def parallel_of(row: Row, field: str, n: int, where: str, *, default: Any) -> list[Any]:
    """A list with one item per response, or the default for each where the field is absent."""
    if row.get(field) is None:
        return [default] * n
    values = list_of(row, field, where)
    if len(values) != n:
        raise ValueError(f"{where}: field {field!r} has {len(values)} items for {n} responses: one each is expected")
    return values


def numbers_of(row: Row, field: str, n: int, where: str) -> list[float]:
    values = parallel_of(row, field, n, where, default=None)
    for value in values:
        if type(value) is float and -sys.float_info.max <= value <= sys.float_info.max:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > sys.float_info.max:
            raise ValueError(f"{where}: field {field!r} must hold finite numbers, got {shown(value)}")
    return [float(value) for value in values]


def one_of(value: Any, literal: Any, field: str, where: str) -> Any:
    allowed = _allowed(literal)
    if value not in allowed:
        raise ValueError(f"{where}: field {field!r} must be one of {', '.join(allowed)}, got {shown(value)}")
    return value


@cache
def _allowed(literal: Any) -> tuple[Any, ...]:
    return get_args(literal)


def is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def names_of(row: Row) -> str:
    return f"fields {listed(row)}" if row else "no fields"


def id_of(row: Row, where: str) -> str:
    value = field_of(row, "id", where)
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise ValueError(f"{where}: field 'id' must be a text or a whole number, got {shown(value)}")
    return str(value)


def token_ids_of(value: Any, field: str, where: str) -> tuple[int, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(is_whole(item) and 0 <= item <= _INT32_MAX for item in value):
        raise ValueError(f"{where}: field {field!r} must hold lists of token ids (0 or more), got {shown(value)}")
    return tuple(value)

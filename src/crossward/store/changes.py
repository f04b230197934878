"""What differs between two trees of plain values, leaf by leaf: what a stage was made from, then and now."""

import json
from typing import Any

_ABSENT = "absent"


def changes(old: Any, new: Any, prefix: str = "") -> list[tuple[str, Any, Any]]:
    """Every leaf that differs, with its dotted key.

    >>> changes({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "d": 4})
    [('a.b', 1, 3), ('c', 2, 'absent'), ('d', 'absent', 4)]
    """
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            change
            for key in sorted(old.keys() | new.keys())
            for change in changes(old.get(key, _ABSENT), new.get(key, _ABSENT), f"{prefix}.{key}" if prefix else key)
        ]
    same = old == new and isinstance(old, bool) == isinstance(new, bool)
    return [] if same else [(prefix, old, new)]


def shown(value: Any) -> str:
    """A leaf as JSON, or that there is none."""
    return value if value is _ABSENT else json.dumps(value, ensure_ascii=False, sort_keys=True)

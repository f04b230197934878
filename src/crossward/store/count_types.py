"""What a manifest's counts must be for those who read them: whole numbers, numbers, and tables of numbers.

For manifests of earlier versions, which carry no checksum, and for whoever edits one by hand.
"""

from collections.abc import Mapping
from typing import Any

_WHOLE = {
    *("prompts", "responses", "answers", "tokens", "truncated", "empty", "looping", "too_long", "translated"),
    *("n_groups", "n_pairs", "n", "n_null", "letters_only", "equal_answers"),
    *("pairs", "steps", "dropped_too_long", "replayed"),
}
_NUMBERS = {
    *("mean_chars", "mean_log_ratio", "mean_spread", "mean_margin", "alpha", "length_gap_before", "length_gap_after"),
    *("fidelity", "first_shown_preferred", "named_mass", "orders_disagreed", "loss", "seconds"),
}
_TABLES = {
    *("measures", "noise", "spread_quantiles", "length_correlation", "skipped", "removed_responses"),
    *("problems", "failures", "nulls", "identified_as"),
}


def wrong_count(counts: Mapping[str, Any]) -> str | None:
    """What is wrong with the counts of a language or of a training; None where nothing is. An absent value is None.

    >>> wrong_count({"prompts": 3, "alpha": 0.5, "skipped": {"tie": 1}}), wrong_count({"prompts": "3"})
    (None, "its 'prompts' is no whole number")
    """
    for key, value in counts.items():
        if value is None:
            continue
        if key in _WHOLE and (not isinstance(value, int) or isinstance(value, bool)):
            return f"its {key!r} is no whole number"
        if key in _NUMBERS and not _is_number(value):
            return f"its {key!r} is no number"
        if key in _TABLES and not (isinstance(value, dict) and _holds_numbers(value)):
            return f"its {key!r} is no table of numbers"
        if key == "curve" and not isinstance(value, list):
            return "its 'curve' is no list"
    return None


def _holds_numbers(table: Mapping[str, Any]) -> bool:
    return all(
        _holds_numbers(value) if isinstance(value, dict) else value is None or _is_number(value)
        for value in table.values()
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

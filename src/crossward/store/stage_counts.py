"""Whether the counts of a stage.json are what whoever shows them reads: a person may have edited them.

Only what is known is looked at; what a later version counts besides passes. Knows no files.
"""

import sys
from collections.abc import Mapping
from typing import Any, Literal

Kind = Literal["whole", "number", "maybe", "tally", "numbers", "measures", "noise", "correlations", "curve"]

_SIZES = ("prompts", "responses", "answers", "truncated", "tokens", "too_long", "empty", "looping", "translated")
_KINDS: dict[str, Kind] = {
    **dict.fromkeys((*_SIZES, "n_groups", "n_pairs", "n_judged", "n_null"), "whole"),
    **dict.fromkeys(("alpha", "mean_chars"), "number"),
    **dict.fromkeys(("length_gap_before", "length_gap_after", "mean_margin", "mean_spread", "mean_rating"), "maybe"),
    **dict.fromkeys(("mean_log_ratio", "fidelity"), "maybe"),
    **dict.fromkeys(("skipped", "removed_responses", "problems", "failures", "left_out", "identified_as"), "tally"),
    "spread_quantiles": "numbers",
    "length_correlation": "correlations",
    "measures": "measures",
    "noise": "noise",
    "curve": "curve",
}
# What is read of each language without asking whether it is there.
_NEEDED: dict[str, tuple[str, ...]] = {
    "sample": ("prompts", "responses", "truncated", "mean_chars"),
    "score": ("prompts", "responses"),
    "pair": ("n_groups", "n_pairs", "alpha", "length_gap_before", "length_gap_after", "mean_margin", "skipped"),
    "translate": ("responses", "translated", "problems"),
    "evaluate": ("prompts", "answers", "truncated"),
}
_MEASURE: Mapping[str, Kind] = {"estimate": "maybe", "low": "maybe", "high": "maybe", "n_answers": "whole"}
_FLOOR: Mapping[str, Kind] = {
    "sd": "maybe",
    "largest": "maybe",
    "best_flips": "whole",
    "worst_flips": "whole",
    "n_groups": "whole",
    "n_responses": "whole",
}


def wrong_count(stage: str, counts: Mapping[str, Any]) -> str | None:
    """The first count that is not what it must be, in words; None where all are. `stage` is its kind."""
    if stage == "train":
        training = counts.get("training", {})
        wrong = (name for name, value in training.items() if not (value is None or _is_number(value)))
        found = next(wrong, None)
        return None if found is None else f"its training counts {found!r} as no number"
    for language, counted in counts["languages"].items():
        if lacking := [name for name in _NEEDED.get(stage, ()) if name not in counted]:
            return f"its language {language!r} lacks {lacking[0]!r}"
        for name, value in counted.items():
            if name in _KINDS and not _is(value, _KINDS[name]):
                return f"its language {language!r} counts {name!r} as something else than it is"
    for name in ("failures", "left_out"):
        if name in counts and not (counts[name] is None or _is(counts[name], "tally")):
            return f"it counts {name!r} as something else than it is"
    return None


def _is(value: Any, kind: Kind) -> bool:
    match kind:
        case "whole":
            return _is_number(value) and isinstance(value, int) and value >= 0
        case "number":
            return _is_number(value)
        case "maybe":
            return value is None or _is_number(value)
        case "tally":
            return isinstance(value, dict) and all(_is(n, "whole") for n in value.values())
        case "numbers":
            return value is None or (isinstance(value, dict) and all(_is(n, "maybe") for n in value.values()))
        case "correlations":
            return isinstance(value, dict) and all(_is(unit, "numbers") and unit is not None for unit in value.values())
        case "measures":
            return isinstance(value, dict) and all(one is None or _holds(one, _MEASURE) for one in value.values())
        case "noise":
            whole = isinstance(value, dict) and _is_number(value.get("margin")) and "float32" in value
            exact = value["float32"] if whole else None
            return whole and _holds(value.get("rebatched"), _FLOOR) and (exact is None or _holds(exact, _FLOOR))
        case "curve":
            return isinstance(value, list) and all(
                isinstance(point, list) and len(point) == 2 and all(map(_is_number, point)) for point in value
            )


def _holds(value: Any, kinds: Mapping[str, Kind]) -> bool:
    return isinstance(value, dict) and all(name in value and _is(value[name], kind) for name, kind in kinds.items())


def _is_number(value: Any) -> bool:
    """A number that a float can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max

"""The numbers of a finished stage that are worth a line or a curve: by name, and by language where they are.

Read from stage.json alone; what each means is said where it is counted (counts.py, measures.py, training.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from crossward.store.manifest import StageManifest

_COUNTS = (
    *("prompts", "responses", "answers", "tokens", "mean_chars", "too_long", "empty", "looping", "fidelity"),
    *("mean_log_ratio", "mean_spread", "n_groups", "n_pairs", "alpha", "length_gap_before", "length_gap_after"),
    *("mean_margin", "mean_rating", "n_judged", "n_null", "translated"),
)
_BY_REASON = ("skipped", "removed_responses", "problems")


def stage_metrics(done: StageManifest) -> dict[str, float]:
    """`seconds`, then `metric/language` for what is counted by language and `metric` for what is not.

    >>> done = StageManifest(
    ...     stage="pair", inputs={}, settings={}, seconds=2.5, shards={},
    ...     counts={"languages": {"es": {"n_pairs": 3, "alpha": 0.1, "curve": [], "skipped": {"tie": 2}}}},
    ... )
    >>> stage_metrics(done)
    {'seconds': 2.5, 'n_pairs/es': 3, 'alpha/es': 0.1, 'skipped/tie/es': 2}
    """
    found: dict[str, float] = {"seconds": done.seconds}
    for language, counts in sorted(done.counts.get("languages", {}).items()):
        found |= {f"{name}/{language}": value for name, value in _numbers(counts)}
    for name, value in done.counts.get("training", {}).items():
        if _is_number(value):
            found[name] = value
    return found


def language_rows(done: StageManifest) -> tuple[list[str], list[list[Any]]]:
    """A header and a row a language, of the numbers that any of them has."""
    numbers = {code: dict(_numbers(counts)) for code, counts in sorted(done.counts.get("languages", {}).items())}
    names = list(dict.fromkeys(name for found in numbers.values() for name in found))
    rows = [[code, *(found.get(name) for name in names)] for code, found in numbers.items()]
    return ["language", *(name.replace("_", " ") for name in names)], rows


def rate_metrics(rates: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, dict[str, float]]:
    """Win rates in percent of every policy, by metric and language: `win_rate/es`, `lc_win_rate/es`.

    `rates` is evaluation.json.
    """
    found: dict[str, dict[str, float]] = {}
    for rate in rates.get("rates", ()):
        for name in ("win_rate", "lc_win_rate"):
            if _is_number(rate.get(name)):
                found.setdefault(str(rate["model"]), {})[f"{name}/{rate['language']}"] = rate[name]
    return found


def _numbers(counts: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name in _COUNTS:
        if _is_number(counts.get(name)):
            yield name, counts[name]
    size = counts.get("responses") or counts.get("answers")
    if _is_number(counts.get("truncated")) and size:
        yield "truncated_share", counts["truncated"] / size
    for name in _BY_REASON:
        reasons = counts.get(name)
        if isinstance(reasons, Mapping):
            yield from ((f"{name}/{reason}", n) for reason, n in sorted(reasons.items()) if _is_number(n))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

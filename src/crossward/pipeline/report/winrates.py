"""Win rates as the paper tabulates them: a policy a row, a language two columns (LC and WR), the average last."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from crossward.pipeline.report.tables import table
from crossward.store import manifest
from crossward.store.run_dir import RunDir

NOTE = (
    "Percent against {baselines}; LC: length-controlled ({variants}), with its 95 % interval over instructions; WR: "
    "raw, ± its standard error. Instructions without a usable verdict are in no win rate: see the judge's table."
)


def paper_rows(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the rates that core.winrates found, as plain values."""
    languages = list(dict.fromkeys(rate["language"] for rate in found["rates"]))
    controlled = any(rate["lc_win_rate"] is not None for rate in found["rates"])
    models = list(dict.fromkeys(rate["model"] for rate in found["rates"]))
    by_key = {(rate["model"], rate["language"]): rate for rate in found["rates"]}
    means = {mean["model"]: mean for mean in found["averages"]}
    header = ["model"]
    for name in [*languages, *(["average"] if means else [])]:
        header += [f"{name} LC", f"{name} WR"] if controlled else [f"{name} WR"]
    rows = []
    for model in models:
        row = [model]
        for language in languages:
            row += _pair(by_key.get((model, language)), controlled)
        if means:
            row += _pair(means.get(model), controlled)
        rows.append(row)
    return header, rows


def winrates_section(directory: RunDir, iterations: int) -> str:
    """The section of a run's report; empty where nothing was judged."""
    if not directory.evaluation.exists():
        return ""
    found = json.loads(directory.evaluation.read_text(encoding="utf-8"))
    header, rows = paper_rows(found)
    note = NOTE.format(
        baselines=", ".join(sorted({rate["baseline"] for rate in found["rates"]})),
        variants=", ".join(sorted({rate["lc_variant"] for rate in found["rates"]})),
    )
    parts = ["## Win rates", table(header, rows), note]
    if found["differences"]:
        parts.append(
            table(
                ["difference", "language", "common", "LC", "95 %", "p", "WR", "95 %", "p"],
                [_difference(apart) for apart in found["differences"]],
            )
        )
    if judged := _judge_rows(directory, iterations):
        head = ["policy", "language", "comparisons", "null", "why", "first shown preferred", "names' mass", "letters"]
        parts += [
            table([*head, "disagreed"], judged),
            "First shown preferred: half where the judge has no bias of position. Names' mass: how probable it is that "
            "the judge names a model at all. Disagreed: asked in both orders, each names another answer.",
        ]
    return "\n\n".join(parts)


def _pair(rate: Mapping[str, Any] | None, controlled: bool) -> list[str]:
    if rate is None:
        return ["–", "–"] if controlled else ["–"]
    raw = f"{rate['win_rate']:.2f}"
    if rate.get("win_rate_se") is not None:
        raw += f" ± {rate['win_rate_se']:.2f}"
    elif rate.get("win_rate_interval") is not None:
        raw += _interval(rate["win_rate_interval"])
    if not controlled:
        return [raw]
    if rate["lc_win_rate"] is None:
        return ["–", raw]
    return [f"{rate['lc_win_rate']:.2f}{_interval(rate['lc_interval'])}", raw]


def _interval(bounds: Sequence[float] | None) -> str:
    return "" if bounds is None else f" [{bounds[0]:.1f}, {bounds[1]:.1f}]"


def _difference(apart: Mapping[str, Any]) -> list[object]:
    def signed(bounds: Sequence[float] | None) -> str:
        return "–" if bounds is None else f"{bounds[0]:+.1f} to {bounds[1]:+.1f}"

    def shown(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    return [
        f"{apart['model']} − {apart['other']}",
        apart["language"],
        apart["n_common"],
        shown(apart["lc_win_rate"], "+.2f"),
        signed(apart["lc_interval"]),
        shown(apart["lc_p"], ".3f"),
        shown(apart["win_rate"], "+.2f"),
        signed(apart["win_rate_interval"]),
        shown(apart["win_rate_p"], ".3f"),
    ]


def _judge_rows(directory: RunDir, iterations: int) -> list[list[object]]:
    policies = [("reference", directory.reference)]
    policies += [(f"π_{t}", directory.iteration(t)) for t in range(iterations + 1)]
    keys = ("n", "n_null", "nulls", "first_shown_preferred", "named_mass", "letters_only", "orders_disagreed")
    return [
        [name, language, *(counts[key] for key in keys)]
        for name, here in policies
        if (done := manifest.read(here.stage("judge"))) is not None
        for language, counts in sorted(done.counts["languages"].items())
    ]

"""Win rates: the paper's table, a chart with intervals, paired differences, and what is to be known of the judge."""

from collections.abc import Mapping, Sequence
from typing import Any

from crossward.core.comparisons import AVERAGE
from crossward.engines.charts import Intervals, Mark
from crossward.pipeline.policies import in_order, policies_of
from crossward.pipeline.report.blocks import Block, Figure, Section, Table, Words, table
from crossward.store import manifest
from crossward.store.rates_file import read_rates
from crossward.store.run_dir import RunDir

NOTE = (
    "Percent against {baselines}; {controlled}WR: raw, ± its standard error. Instructions without a usable verdict are "
    "in no win rate."
)
CONTROLLED = "LC: length-controlled ({variants}), with its 95 % interval over instructions; "
JUDGE = (
    "First shown preferred: half where the judge has no bias of position. Names' mass: how probable it is that the "
    "judge names a model at all. Disagreed: asked in both orders, each names another answer."
)


def paper_rows(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the rates that core.winrates found, as plain values."""
    languages = list(dict.fromkeys(rate["language"] for rate in found["rates"]))
    controlled = any(rate["lc_win_rate"] is not None for rate in found["rates"])
    models = in_order(rate["model"] for rate in found["rates"])
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


def winrates_section(directory: RunDir, iterations: int) -> Section | None:
    """The section, without the first figure, which is the headline's; None where nothing was judged."""
    if (found := read_rates(directory.evaluation)) is None:
        return None
    variants = sorted({rate["lc_variant"] for rate in found["rates"]} - {"none"})
    note = NOTE.format(
        baselines=", ".join(sorted({rate["baseline"] for rate in found["rates"]})),
        controlled=CONTROLLED.format(variants=", ".join(variants)) if variants else "",
    )
    if "judge" in found:
        note = f"Judged by {found['judge']}. {note}"
    blocks: list[Block] = [*rate_figures(found)[1:], table(*paper_rows(found)), Words(text=note, tone="note")]
    if found["differences"]:
        header = ["difference", "language", "common", "LC", "95 %", "p", "WR", "95 %", "p"]
        rows = [_difference(apart) for apart in found["differences"]]
        blocks.append(table(header, rows, caption="Paired differences, in points", folded=True))
    if judged := _judge_rows(directory, iterations):
        head = ["policy", "language", "comparisons", "null", "why", "first shown preferred", "names' mass", "letters"]
        blocks += [
            table([*head, "disagreed"], judged, caption="The judge", folded=True),
            Words(text=JUDGE, tone="note"),
        ]
    return Section(anchor="win-rates", title="Win rates", blocks=tuple(blocks))


def rate_figures(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Figure]:
    """Win rates and, where there are any, length-controlled ones, a row a language, the average last."""
    every = [*found["rates"], *({**mean, "language": AVERAGE} for mean in found["averages"])]
    place = {model: k for k, model in enumerate(in_order(rate["model"] for rate in every))}
    every.sort(key=lambda rate: (rate["language"] == AVERAGE, rate["language"], place[rate["model"]]))
    figures = []
    for key, bounds, name in (
        ("lc_win_rate", "lc_interval", "length-controlled win rate"),
        ("win_rate", "win_rate_interval", "win rate"),
    ):
        marks = [_mark(rate, key, bounds) for rate in every if rate.get(key) is not None]
        if marks:
            chart = Intervals(title=name.capitalize(), axis=f"{name}, %", marks=tuple(marks), rule=50.0)
            figures.append(Figure(chart=chart, table=_numbers(marks, f"{name}, %")))
    return figures


def _mark(rate: Mapping[str, Any], key: str, bounds: str) -> Mark:
    low, high = rate.get(bounds) or (None, None)
    if low is None and rate.get(f"{key}_se") is not None:
        low, high = (rate[key] + side * 1.96 * rate[f"{key}_se"] for side in (-1, 1))
    return Mark(place=rate["language"], series=rate["model"], value=rate[key], low=low, high=high)


def _numbers(marks: Sequence[Mark], name: str) -> Table:
    rows = [[mark.place, mark.series, mark.value, mark.low, mark.high] for mark in marks]
    return table(["language", "policy", name, "low", "high"], rows)


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
    keys = ("n", "n_null", "nulls", "first_shown_preferred", "named_mass", "letters_only", "orders_disagreed")
    return [
        [name, language, *(counts[key] for key in keys)]
        for name, here in policies_of(directory, iterations).items()
        if (done := manifest.read(here.stage("judge"))) is not None
        for language, counts in sorted(done.counts["languages"].items())
    ]

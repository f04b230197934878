"""The verb `crossward diagnose` with its tables, and the table of `crossward score --noise`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from crossward import console
from crossward.cli_options import Device, Input, Json, Policy, Precision, Reference, Trust


def diagnose(
    policy: Policy,
    reference: Reference,
    input: Input,
    view: Annotated[
        list[str] | None, typer.Option(help="crosslingual or multilingual; may be given twice. Left out: both.")
    ] = None,
    english: Annotated[
        Path | None, typer.Option(help="The English twins, joined by id, if the rows lack them.")
    ] = None,
    batch_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens at once; left out: what fits.")] = None,
    dtype: Precision = "bfloat16",
    device: Device = "auto",
    trust_remote_code: Trust = False,
    run: Annotated[
        Path | None, typer.Option("--record", help="Keep the accuracies in this run, for its report.")
    ] = None,
    iteration: Annotated[int, typer.Option(min=1, help="--record: whose reward it is, π_(t−1) over reference.")] = 1,
    json: Json = False,
) -> None:
    """Say what the reward rewards.

    Accuracy (where the file has "gold" or is of pairs; by subset and section for RewardBench and M-RewardBench), link
    with length, margins, where in a response it lies, and how the views agree.

    Example: crossward diagnose --policy P --reference R --input pairs.jsonl
    """
    from crossward.core.instructions import UNTRANSLATED
    from crossward.engines.protocols import ModelSpec
    from crossward.pipeline.diagnose import diagnose_file
    from crossward.pipeline.reward_record import open_record, record

    directory = open_record(run, iteration) if run is not None else None
    ours, base = (
        ModelSpec(path=path, dtype=dtype, device=device, trust_remote_code=trust_remote_code)
        for path in (policy, reference)
    )
    found = diagnose_file(
        input,
        policy=ours,
        reference=base,
        views=view or UNTRANSLATED,
        english=english,
        batch_tokens=batch_tokens,
        progress=console.Terminal(),
    )
    if directory is not None:
        n = record(directory, iteration, found["languages"], by=input.name)
        console.Terminal().say(f"{n} accuracies kept in {directory.reward_accuracy}: crossward report {run} shows them")
    if json:
        console.show_json(found)
    else:
        _show(found["languages"], str(input))


def show_noise(languages: dict[str, Any]) -> None:
    """The noise floor of each language: both rescorings and the margin."""
    rows = [
        [
            code,
            kind,
            *(floor[key] for key in ("n_responses", "sd", "largest", "best_flips", "worst_flips")),
            found["noise"]["margin"],
        ]
        for code, found in languages.items()
        for kind in ("rebatched", "float32")
        if (floor := found["noise"][kind]) is not None
    ]
    head = ["language", "scored again", "responses", "sd", "largest", "best flips", "worst flips", "margin"]
    console.show_table("noise floor (nats): a best minus worst below the margin is noise at 95 %", head, rows)


def _show(languages: dict[str, Any], title: str) -> None:
    views = [(code, view, seen) for code, found in languages.items() for view, seen in found["views"].items()]
    rewards, profiles = [], []
    for code, view, seen in views:
        rate, margins = seen["accuracy"] or {}, seen["margins"] or {}
        interval = rate.get("interval", {})
        correlation = seen["length_correlation"]
        quantiles = margins.get("quantiles", {})
        rewards.append(
            [
                code,
                view,
                interval.get("estimate"),
                _range(interval) if interval else None,
                rate.get("n_pairs"),
                *(correlation[unit][kind] for unit in ("characters", "tokens") for kind in ("pearson", "spearman")),
                *(quantiles.get(name) for name in ("p5", "p50", "p95")),
                margins.get("under_noise"),
                seen["n_too_long"],
            ]
        )
        profiles += [
            [
                code,
                view,
                name,
                part["n_tokens"],
                part["mean"],
                part["per_token"],
                part["share_of_size"],
                part["share_of_choice"],
            ]
            for name, part in seen["profile"].items()
        ]
    length = ["r chars", "ρ chars", "r tokens", "ρ tokens"]
    head = ["language", "view", "accuracy", "95 %", "pairs", *length, "margin p5", "p50", "p95", "< noise", "too long"]
    console.show_table(f"the reward on {title} (margins in nats, correlations within prompts)", head, rewards)
    sets = [
        [code, view, kind, name, found["n_pairs"], found["interval"]["estimate"], _range(found["interval"])]
        for code, view, seen in views
        for kind in ("section", "subset")
        for name, found in seen.get(f"{kind}s", {}).items()
    ]
    if sets:
        head = ["language", "view", "", "name", "pairs", "accuracy", "95 %"]
        console.show_table("accuracy in a preference set (math-prm weighs as much as all code subsets)", head, sets)
    head = ["language", "view", "part", "tokens", "mean nats", "per token", "share of size", "share of choice"]
    console.show_table("where in a response it lies", head, profiles)
    agreements = [
        [code, names, *(seen[key] for key in ("n_groups", "same_best", "same_worst", "rank_correlation"))]
        for code, found in languages.items()
        for names, seen in found["agreement"].items()
        if seen is not None
    ]
    if agreements:
        head = ["language", "views", "groups", "same best", "same worst", "rank correlation"]
        console.show_table("how the views agree", head, agreements)


def _range(interval: dict[str, float]) -> str:
    return f"{interval['low']:.3f} to {interval['high']:.3f}"

"""The verb `crossward winrate`, and the tables of win rates that other verbs show too."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from crossward import console
from crossward.cli_options import Json
from crossward.core.winrates import WinRates

LengthControl = Annotated[
    Literal["joint", "published", "minimal", "none"], typer.Option(help="How length is controlled.")
]
Difficulty = Annotated[Path | None, typer.Option(help="published: CSV of difficulties; left out: from the hub.")]
Gamed = Annotated[Path | None, typer.Option(help="published: CSV of gamed rows; left out: from the hub.")]
Resamples = Annotated[int, typer.Option(min=10, help="Bootstrap refits for the intervals.")]


def winrate(
    verdicts: Annotated[list[Path], typer.Argument(help="Files of verdicts (JSON Lines), or annotations.json.")],
    variant: LengthControl = "joint",
    difficulty: Difficulty = None,
    gamed: Gamed = None,
    language: Annotated[str | None, typer.Option(help="Language of rows that name none.")] = None,
    resamples: Resamples = 1000,
    seed: int = 0,
    differences: Annotated[
        bool, typer.Option("--differences", help="Averages and paired differences too; with --json one object.")
    ] = False,
    json: Json = False,
) -> None:
    """Win rates and length-controlled win rates of verdicts, with intervals.

    Example: crossward winrate verdicts.jsonl --differences
    """
    from crossward.pipeline.winrates import as_summary, winrate_file

    found = winrate_file(
        verdicts,
        variant=variant,
        difficulty=difficulty,
        gamed=gamed,
        language=language,
        resamples=resamples,
        seed=seed,
        progress=console.Terminal(),
    )
    if json:
        summary = as_summary(found)
        console.show_json(summary if differences else summary["rates"])
    else:
        show_rates(found, differences=differences)


def show_paper_table(found: dict[str, Any]) -> None:
    """A model a row, a language two columns."""
    from crossward.pipeline.report.winrates import paper_rows

    header, rows = paper_rows(found)
    console.show_table("win rates, %: length-controlled [95 %], raw ± SE", header, rows)


def show_rates(found: WinRates, *, differences: bool = True) -> None:
    """Tables: rates by model and language, averages, and paired differences."""
    head = ["model", "language", "baseline", "judged", "null", "win rate", "SE", "LC win rate", "LC interval", "LC by"]
    rows: list[list[Any]] = [
        [
            rate.model,
            rate.language,
            rate.baseline,
            rate.n_judged,
            rate.n_null,
            points(rate.win_rate),
            points(rate.win_rate_se),
            points(rate.lc_win_rate),
            interval(rate.lc_interval),
            rate.lc_variant,
        ]
        for rate in found.rates
    ]
    console.show_table("win rates, %", head, rows)
    if found.averages:
        console.show_table(
            "mean over languages, %, 95 % intervals",
            ["model", "languages", "win rate", "", "LC win rate", ""],
            [
                [
                    mean.model,
                    " ".join(mean.languages),
                    points(mean.win_rate),
                    interval(mean.win_rate_interval),
                    points(mean.lc_win_rate),
                    interval(mean.lc_interval),
                ]
                for mean in found.averages
            ],
        )
    if differences and found.differences:
        console.show_table(
            "differences, paired by instruction, points, 95 % intervals",
            ["model", "minus", "language", "common", "win rate", "", "p", "LC win rate", "", "p"],
            [
                [
                    apart.model,
                    apart.other,
                    apart.language,
                    apart.n_common,
                    points(apart.win_rate, "+"),
                    interval(apart.win_rate_interval, "+"),
                    probability(apart.win_rate_p),
                    points(apart.lc_win_rate, "+"),
                    interval(apart.lc_interval, "+"),
                    probability(apart.lc_p),
                ]
                for apart in found.differences
            ],
        )


def points(value: float | None, sign: str = "") -> str:
    """`12.71`; empty for None."""
    return "" if value is None else f"{value:{sign}.2f}"


def interval(bounds: tuple[float, float] | None, sign: str = "") -> str:
    """`[10.1, 15.3]`"""
    return "" if bounds is None else f"[{bounds[0]:{sign}.1f}, {bounds[1]:{sign}.1f}]"


def probability(value: float | None) -> str:
    """`0.031`"""
    return "" if value is None else f"{value:.3f}"

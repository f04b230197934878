"""From verdicts to rates: reads what the variant needs, fits, and says in words what a figure cannot say."""

from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from crossward.core.published_winrates import PublishedData
from crossward.core.verdicts import Verdict
from crossward.core.winrates import FEWEST, RESAMPLES, Variant, WinRates, n_fits, win_rates
from crossward.engines.protocols import no_progress
from crossward.pipeline.progress import Progress
from crossward.store.difficulty_file import read_published
from crossward.store.verdict_file import read_verdicts

MANY = 3  # models of a language that joint should have
_EXTREME_POINTS, _EXTREME_SHARE = 10.0, 0.25


def winrate_file(
    inputs: Sequence[Path],
    *,
    variant: Variant,
    difficulty: Path | None = None,
    gamed: Path | None = None,
    language: str | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Progress,
) -> WinRates:
    """The rates of one or more files of verdicts, read as one."""
    verdicts = [verdict for path in inputs for verdict in read_verdicts(path, language=language)]
    data = published_data(variant, difficulty, gamed)
    return rates_of(verdicts, variant=variant, published=data, resamples=resamples, seed=seed, progress=progress)


def published_data(variant: Variant, difficulty: Path | None, gamed: Path | None) -> PublishedData | None:
    """What the published variant takes from outside: from files, or both from the hub where none is named."""
    if variant != "published":
        if difficulty or gamed:
            raise ValueError(f"--difficulty and --gamed belong to the variant published, got {variant}: add --variant")
        return None
    if (difficulty is None) != (gamed is None):
        raise ValueError(
            "the variant published takes both --difficulty and --gamed, or neither (then both come from the hub)"
        )
    if difficulty is None or gamed is None:
        from crossward.engines.hub_files import published_files

        difficulty, gamed = published_files()
    return read_published(difficulty, gamed)


def rates_of(
    verdicts: Sequence[Verdict],
    *,
    variant: Variant,
    published: PublishedData | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    few: Literal["refuse", "raw"] = "refuse",
    progress: Progress,
) -> WinRates:
    """core.winrates.win_rates with progress, and what should be known of its figures told in lines."""
    total = n_fits(verdicts, variant)
    with progress.task("win rates: fits", total) if total else nullcontext(no_progress) as advance:
        found = win_rates(
            verdicts, variant=variant, published=published, resamples=resamples, seed=seed, few=few, advance=advance
        )
    for line in [*left_out(verdicts, found, variant), *remarks(found, variant)]:
        progress.say(line)
    return found


def left_out(verdicts: Sequence[Verdict], found: WinRates, variant: Variant) -> list[str]:
    """Models that have no rate in a language, or none at equal lengths, for want of verdicts."""
    judged = {(verdict.model, verdict.language) for verdict in verdicts}
    rated = {(rate.model, rate.language): rate for rate in found.rates}
    lines = [
        f"{model} ({language}): all verdicts are null, so it has no win rate"
        for model, language in sorted(judged - rated.keys())
    ]
    if variant != "none":
        lines += [
            f"{model} ({language}): {rate.n_judged} usable verdicts, fewer than {FEWEST}: its raw win rate alone"
            for (model, language), rate in rated.items()
            if rate.lc_win_rate is None
        ]
    return lines


def remarks(found: WinRates, variant: Variant) -> list[str]:
    """What a reader of the figures must know: nulls, borrowed difficulties, corrections that are extreme."""
    lines = []
    if nulls := [rate for rate in found.rates if rate.n_null]:
        told = ", ".join(f"{rate.model} {rate.language}: {rate.n_null}" for rate in nulls[:5])
        more = f" and {len(nulls) - 5} more" if len(nulls) > 5 else ""
        lines.append(f"instructions without a usable verdict, in no win rate ({told}{more})")
    if variant == "published" and (others := sorted({rate.language for rate in found.rates} - {"en"})):
        lines.append(f"published: difficulties and gamed rows are English ones, used for {', '.join(others)} too")
    if variant == "joint":
        models = Counter((rate.language, rate.baseline) for rate in found.rates if rate.lc_win_rate is not None)
        if alone := sorted({language for (language, _), n in models.items() if n < MANY}):
            lines.append(
                f"joint: fewer than {MANY} models in {', '.join(alone)}, so length bias and difficulty are hard to "
                "tell apart there: give the verdicts of other models on the same instructions too"
            )
    for rate in found.rates:
        if rate.lc_win_rate is not None and _extreme(rate.win_rate, rate.lc_win_rate):
            lines.append(
                f"{rate.model} ({rate.language}): length control moves {rate.win_rate:.1f} to {rate.lc_win_rate:.1f}; "
                "so far from equal lengths it is the model's assumption as much as the verdicts"
            )
    return lines


def _extreme(raw: float, controlled: float) -> bool:
    """alpaca_eval's own rule: by more than 10 points and by more than a quarter of what there is to lose or gain."""
    down, up = max(_EXTREME_SHARE * raw, _EXTREME_POINTS), max(_EXTREME_SHARE * (100 - raw), _EXTREME_POINTS)
    return controlled < raw - down or controlled > raw + up


def as_summary(found: WinRates) -> dict[str, Any]:
    """Everything as plain values."""
    parts = {"rates": found.rates, "averages": found.averages, "differences": found.differences}
    return {key: [asdict(item) for item in items] for key, items in parts.items()}

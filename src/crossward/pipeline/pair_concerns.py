"""The part of pipeline/concerns.py that looks at how pairs were made: the stages' counts, and the pairs."""

from collections.abc import Callable, Mapping
from typing import Any

from crossward.config import Config
from crossward.core.chance import Share
from crossward.core.concerns import Concern, Kind
from crossward.core.pair_concerns import (
    Controlled,
    PairLengths,
    alpha_at_odds,
    below_noise,
    collapsed,
    cut_responses,
    foreign_responses,
    length_gap,
)
from crossward.store import manifest
from crossward.store.manifest import StageManifest
from crossward.store.pair_numbers import PairNumbers, read_pair_numbers
from crossward.store.run_dir import IterationDir, RunDir

Note = Callable[[Kind, str, Concern | None], None]
Counts = Mapping[str, Mapping[str, Any]]  # of every language


def look_at_pairs(directory: RunDir, config: Config, note: Note) -> None:
    """Every iteration's responses and pairs, in order; `note` takes a kind, a rule's name and what it found."""
    first: dict[str, Share] = {}
    for t in range(1, config.iterations + 1):
        here = directory.iteration(t)
        sampled, paired = manifest.read(here.stage("sample")), manifest.read(here.stage("pair"))
        if sampled is None:
            continue
        asked = dict(sampled.by_language)
        title = here.stage("sample").title
        cut = {code: _of_responses(counts["truncated"], counts) for code, counts in asked.items()}
        note("truncation", "responses", cut_responses(title, cut, max_new_tokens=config.sample.max_new_tokens))
        if paired is None:
            continue
        duplicates = _removed("duplicate", paired, asked)
        _look_at_filters(here, paired, asked, duplicates, first, note)
        first = first or duplicates
        _look_at_numbers(here, config, paired, asked, note)


def _look_at_filters(
    here: IterationDir,
    paired: StageManifest,
    asked: Counts,
    duplicates: Mapping[str, Share],
    first: Mapping[str, Share],
    note: Note,
) -> None:
    title = here.stage("pair").title
    if not paired.settings.get("filter_responses", False):
        return  # nothing is removed, so nothing is counted
    if paired.settings.get("language_filter", "none") != "none":
        foreign = _removed("wrong-language", paired, asked)
        note("language-drift", "responses", foreign_responses(title, foreign))
    no_choice = {
        code: Share(part=sum(counts["skipped"].get(why, 0) for why in ("duplicate", "tie")) / n, n=n)
        for code, counts in paired.by_language
        if (n := counts["n_groups"])
    }
    note("collapsed-diversity", "duplicates", collapsed(title, duplicates, first=first, no_choice=no_choice))


def _look_at_numbers(here: IterationDir, config: Config, paired: StageManifest, asked: Counts, note: Note) -> None:
    """What the tables of pairs say, beside the score stage's noise and correlations."""
    stage, scored = here.stage("pair"), manifest.read(here.stage("score"))
    scores = dict(scored.by_language) if scored else {}
    numbers = {
        code: read_pair_numbers(stage.language_file(code)) for code, counts in paired.by_language if counts["n_pairs"]
    }
    unit = str(paired.settings.get("length_unit", "none"))
    correlations = {
        code: Share(part=pearson, n=counts["prompts"])
        for code, counts in scores.items()
        if (pearson := counts.get("length_correlation", {}).get("characters", {}).get("pearson")) is not None
    }
    lengths = {code: _lengths(found) for code, found in numbers.items()}
    found = length_gap(stage.title, lengths, correlations=correlations, controlled=unit != "none")
    note("length-exploitation", "pairs", found)
    floors = {code: counts["noise"]["margin"] for code, counts in scores.items() if "noise" in counts}
    # The floor is one of log-ratios: ratings have another unit, and a penalty is no rounding.
    bare = manifest.read(here.stage("rate")) is None and (
        config.reward.surprisal is None or config.reward.surprisal.use == "gate"
    )
    if bare and floors:
        under = {
            code: Share(part=sum(abs(margin) < floors[code] for margin in found.margins) / n, n=n)
            for code, found in numbers.items()
            if code in floors and (n := len(found.margins))
        }
        note("below-noise", "margins", below_noise(stage.title, under, margins=floors))
    if unit != "none":
        note("alpha-at-odds", "alpha", alpha_at_odds(stage.title, _controlled(paired, asked, scores, unit), unit=unit))


def _controlled(paired: StageManifest, asked: Counts, scores: Counts, unit: str) -> dict[str, Controlled]:
    found: dict[str, Controlled] = {}
    for code, counts in paired.by_language:
        sampled = asked.get(code, {})
        spread = scores.get(code, {}).get("mean_spread") or counts["mean_margin"]
        if not sampled.get("responses") or not spread or counts["length_gap_after"] is None:
            continue
        mean = sampled["tokens"] / sampled["responses"] if unit == "tokens" else sampled["mean_chars"]
        found[code] = Controlled(
            n=counts["n_groups"],
            alpha=counts["alpha"],
            mean_length=mean,
            spread=spread,
            gap_left=counts["length_gap_after"],
        )
    return found


def _lengths(found: PairNumbers) -> PairLengths:
    n, both = len(found.margins), list(zip(found.chosen_chars, found.rejected_chars, strict=True))
    return PairLengths(
        n=n,
        longer=sum(chosen > rejected for chosen, rejected in both),
        shorter=sum(chosen < rejected for chosen, rejected in both),
        gap=(sum(found.chosen_chars) - sum(found.rejected_chars)) / n,
        mean=(sum(found.chosen_chars) + sum(found.rejected_chars)) / (2 * n),
    )


def _removed(reason: str, paired: StageManifest, asked: Counts) -> dict[str, Share]:
    return {
        code: _of_responses(counts["removed_responses"].get(reason, 0), asked[code])
        for code, counts in paired.by_language
        if code in asked
    }


def _of_responses(part: int, counts: Mapping[str, Any]) -> Share:
    return Share(part=part / counts["responses"] if counts["responses"] else 0.0, n=counts["prompts"])

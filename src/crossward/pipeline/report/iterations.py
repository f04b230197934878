"""The report's section on one iteration: its stages' own counts, language by language."""

from typing import Any

from crossward.pipeline.report.blocks import Block, Section, Words, table
from crossward.pipeline.report.ranking import rating_blocks, translation_table
from crossward.pipeline.report.reward import reward_blocks
from crossward.pipeline.report.training import training_blocks
from crossward.store import manifest
from crossward.store.manifest import StageManifest
from crossward.store.run_dir import RunDir

_RESPONSES = (
    "language",
    "prompts",
    "responses",
    "truncated",
    "empty",
    "too long to score",
    "mean characters",
    "mean log-ratio",
    "mean spread",
)
_PAIRS = (
    "language",
    "pairs",
    "α",
    "length gap at 0",
    "at α",
    "mean margin",
    "skipped prompts",
    "removed responses",
)


def iteration_section(directory: RunDir, t: int) -> Section | None:
    """Everything that was counted in iteration t; None where nothing was sampled yet."""
    here = directory.iteration(t)
    sampled, scored, paired = (manifest.read(here.stage(name)) for name in ("sample", "score", "pair"))
    if sampled is None:
        return None
    blocks: list[Block] = [
        table(_RESPONSES, [_response_row(language, counts, scored) for language, counts in sampled.by_language]),
        Words(text="Log-ratios and spread (best minus worst of a prompt) are in nats.", tone="note"),
    ]
    if (translated := manifest.read(here.stage("translate"))) is not None:
        blocks.append(translation_table(translated))
    if scored is not None:
        blocks += reward_blocks(scored)
    if (rated := manifest.read(here.stage("rate"))) is not None:
        blocks += rating_blocks(rated)
    if paired is not None:
        blocks.append(table(_PAIRS, [_pair_row(language, counts) for language, counts in paired.by_language]))
    blocks += training_blocks(here.stage("train"))
    return Section(anchor=f"iteration-{t}", title=f"Iteration {t}", blocks=tuple(blocks))


def _response_row(language: str, counts: dict[str, Any], scored: StageManifest | None) -> list[object]:
    found = scored.counts["languages"].get(language, {}) if scored else {}
    return [
        language,
        counts["prompts"],
        counts["responses"],
        counts["truncated"],
        found.get("empty"),
        found.get("too_long"),
        counts["mean_chars"],
        found.get("mean_log_ratio"),
        found.get("mean_spread"),
    ]


def _pair_row(language: str, counts: dict[str, Any]) -> list[object]:
    keys = ("n_pairs", "alpha", "length_gap_before", "length_gap_after", "mean_margin", "skipped", "removed_responses")
    return [language, *(counts[key] for key in keys)]

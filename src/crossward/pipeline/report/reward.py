"""What the report says of a score stage's reward: its noise, the spread of its prompts, its link with length."""

from typing import Any

from crossward.pipeline.report.tables import table
from crossward.store.manifest import StageManifest

NOISE = (
    "Noise of the log-ratios, in nats. *Other batches*: a sample scored again in batches of another shape, which shows "
    "what is left to chance; *float32*: the same sample in float32, which shows the whole error (a dash where the run "
    "is in float32 itself). The margin is the best minus worst below which a pair is noise at 95 %; flipped: best or "
    "worst of a prompt is another response."
)
REWARD = (
    "Spread: best minus worst log-ratio of a prompt (nats; quantiles over prompts). Correlation of log-ratio and "
    "length within prompts, of values (Pearson) and of ranks (Spearman): a reward that counts length is near 1 or −1."
)


def reward_tables(scored: StageManifest) -> list[str]:
    """Tables with their notes, of what the stage has measured."""
    languages = sorted(scored.counts["languages"].items())
    parts: list[str] = []
    if any("spread_quantiles" in counts for _, counts in languages):
        header = ["reward", "spread 5 %", "50 %", "95 %", "r characters", "ρ characters", "r tokens", "ρ tokens"]
        parts += [table(header, [_reward_row(language, counts) for language, counts in languages]), REWARD]
    if noisy := [(language, counts["noise"]) for language, counts in languages if "noise" in counts]:
        kinds = [f"{name}, {kind}" for kind in ("other batches", "float32") for name in ("sd", "largest", "flipped")]
        header = ["noise", "responses", *kinds, "margin"]
        parts += [table(header, [_noise_row(language, noise) for language, noise in noisy]), NOISE]
    return parts


def _reward_row(language: str, counts: dict[str, Any]) -> list[object]:
    quantiles, length = counts.get("spread_quantiles") or {}, counts.get("length_correlation") or {}
    units = [length.get(unit, {}) for unit in ("characters", "tokens")]
    correlations = [unit.get(kind) for unit in units for kind in ("pearson", "spearman")]
    return [language, *(quantiles.get(name) for name in ("p5", "p50", "p95")), *correlations]


def _noise_row(language: str, noise: dict[str, Any]) -> list[object]:
    batch, exact = noise["rebatched"], noise["float32"]
    return [language, batch["n_responses"], *_floor(batch), *_floor(exact), noise["margin"]]


def _floor(found: dict[str, Any] | None) -> list[object]:
    if found is None:
        return [None, None, None]
    flips = f"{found['best_flips'] + found['worst_flips']} of {2 * found['n_groups']}"
    return [found["sd"], found["largest"], flips]

"""The report's words on what responses were ranked by, where it was not one log-ratio: translations and ratings."""

from crossward.config import Config
from crossward.pipeline.report.blocks import Block, Table, Words, table
from crossward.pipeline.report.tables import cell
from crossward.store.manifest import StageManifest


def told_reward(config: Config) -> str:
    """The reward of a recipe in a line."""
    reward = config.reward
    if config.method == "lidr":
        return "pairs by the direction of translation (lidr), no reward"
    seen = reward.view if reward.view != "ensemble" else f"ensemble of {', '.join(reward.views)}"
    if reward.kind != "implicit":
        return f"reward: {reward.kind}, {seen}"
    whose = "" if reward.policy == "current" else ", of the first policy in every iteration"
    broken = "" if reward.surprisal is None else f", implausible tokens: {reward.surprisal.use}"
    return f"reward: {seen}, over the {reward.reference} reference{whose}{broken}"


def translation_table(translated: StageManifest) -> Table:
    """Responses and their translations by language, failures with their reasons."""
    rows = [
        [language, counts["responses"], counts["translated"], counts["problems"]]
        for language, counts in translated.by_language
    ]
    return table(["translated from", "responses", "translations", "without, by reason"], rows)


def rating_blocks(rated: StageManifest) -> list[Block]:
    """Rated responses by language, and what could not be rated."""
    rows = [
        [language, counts.get("prompts", 0), counts.get("responses", 0), counts["mean_rating"]]
        for language, counts in rated.by_language
    ]
    reasons = {key: rated.counts[key] for key in ("failures", "left_out") if rated.counts.get(key)}
    return [
        table(["rated", "prompts", "responses", "mean rating"], rows),
        *(Words(text=f"{name.replace('_', ' ')}: {cell(found)}.") for name, found in reasons.items()),
    ]

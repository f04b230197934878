"""What the report says of the reward: how often it was right, how it is spread, its noise, its link with length."""

from collections.abc import Mapping, Sequence
from typing import Any

from crossward.core.histograms import histograms
from crossward.core.rewards import RewardAccuracy
from crossward.engines.charts import Dot, Intervals, Lines, Mark, Rule
from crossward.pipeline.policies import finished
from crossward.pipeline.report.blocks import Block, Figure, Section, Words, table
from crossward.store.manifest import StageManifest
from crossward.store.reward_accuracy_file import read_reward_accuracy
from crossward.store.run_dir import RunDir

ACCURACY = (
    "Pairs of answers to one prompt that the reward ranks as {by} does, with 95 % intervals over prompts; chance is "
    "0.5. Iteration t's reward is log π_(t−1)/π_ref."
)
NO_ACCURACY = (
    "Not known: nothing in this run can tell which answer is better. With labelled pairs: crossward diagnose "
    "(docs/rewards.md)."
)
NOISE = (
    "Noise of the log-ratios, in nats. Other batches: a sample scored again in batches of another shape, which shows "
    "what is left to chance; float32: the same sample in float32, which shows the whole error (a dash where the run "
    "is in float32 itself). The margin is the best minus worst below which a pair is noise at 95 %; flipped: best or "
    "worst of a prompt is another response."
)
REWARD = (
    "Spread: best minus worst log-ratio of a prompt (nats; quantiles over prompts). Correlation of log-ratio and "
    "length within prompts, of values (Pearson) and of ranks (Spearman): a reward that counts length is near 1 or −1."
)
Values = Mapping[str, Mapping[str, Sequence[float]]]  # by language and series


def accuracy_section(directory: RunDir, iterations: int) -> Section:
    """How often each iteration's reward was right, by view."""
    rows = [row for row in read_reward_accuracy(directory.reward_accuracy) if row.iteration <= iterations]
    blocks: tuple[Block, ...] = (Words(text=NO_ACCURACY, tone="note"),)
    if rows:
        by = ", ".join(sorted({row.by for row in rows}))
        marks = tuple(
            Mark(place=row.language, series=_series(row, rows), value=row.accuracy, low=row.low, high=row.high)
            for row in rows
        )
        numbers = [[_series(row, rows), row.language, row.n_pairs, row.accuracy, row.low, row.high] for row in rows]
        header = ["reward", "language", "pairs", "accuracy", "low", "high"]
        chart = Intervals(title="Reward accuracy", axis="pairs ranked rightly", marks=marks, rule=0.5)
        blocks = (Figure(chart=chart, table=table(header, numbers), note=ACCURACY.format(by=by)),)
    return Section(anchor="reward-accuracy", title="Reward accuracy", blocks=blocks)


def _series(row: RewardAccuracy, rows: Sequence[RewardAccuracy]) -> str:
    """What tells a measurement from the others: who judged, where several did."""
    by = f", by {row.by}" if len({other.by for other in rows}) > 1 else ""
    return f"iteration {row.iteration}, {row.view}{by}"


def distribution_figure(values: Values, *, title: str, axis: str, floors: Mapping[str, float], note: str) -> Figure:
    """A panel a language, a line an iteration; `floors` draws the margin below which a pair is noise."""
    dots: list[Dot] = []
    rows: list[list[object]] = []
    for language, series in values.items():
        for name, found in histograms(series).items():
            dots += [
                Dot(panel=language, series=name, x=edge, y=share)
                for edge, share in zip(found.edges, [*found.shares, found.shares[-1]], strict=True)
            ]
            ordered = sorted(series[name])
            quantiles = [ordered[round(q * (len(ordered) - 1))] for q in (0.05, 0.25, 0.5, 0.75, 0.95)]
            rows.append([language, name, len(ordered), *quantiles, floors.get(language)])
    rules = tuple(
        Rule(panel=language, x=floors[language], name=f"noise floor {floors[language]:.3g}") for language in floors
    )
    chart = Lines(
        title=title,
        x_axis=axis,
        y_axis="share",
        dots=tuple(dots),
        rules=rules if dots else (),
        steps=True,
        from_zero=True,
    )
    header = ["language", "iteration", "values", "5 %", "25 %", "50 %", "75 %", "95 %", "noise floor"]
    return Figure(chart=chart, table=table(header, rows), note=note)


def noise_floors(directory: RunDir, iterations: int) -> dict[str, float]:
    """The largest margin under which a pair is noise, by language, over the iterations that measured one."""
    found: dict[str, float] = {}
    for _, scored in finished(directory, "score", iterations):
        for language, counts in scored.by_language:
            if (noise := counts.get("noise")) is not None:
                found[language] = max(found.get(language, 0.0), noise["margin"])
    return found


def reward_blocks(scored: StageManifest) -> list[Block]:
    """Tables with their notes, of what the stage has measured."""
    languages = sorted(scored.counts["languages"].items())
    parts: list[Block] = []
    if any("spread_quantiles" in counts for _, counts in languages):
        header = ["reward", "spread 5 %", "50 %", "95 %", "r characters", "ρ characters", "r tokens", "ρ tokens"]
        parts += [table(header, [_reward_row(*found) for found in languages]), Words(text=REWARD, tone="note")]
    if noisy := [(language, counts["noise"]) for language, counts in languages if "noise" in counts]:
        kinds = [f"{name}, {kind}" for kind in ("other batches", "float32") for name in ("sd", "largest", "flipped")]
        header = ["noise", "responses", *kinds, "margin"]
        parts += [table(header, [_noise_row(*found) for found in noisy]), Words(text=NOISE, tone="note")]
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

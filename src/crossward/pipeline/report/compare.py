"""Several runs side by side: what differs in their recipes, and what came of it, run by run.

Runs are told apart by the shortest end of their paths that differs. Rates are each run's own, against its own baseline:
where baselines differ, that is said and not corrected.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from crossward.config import Config
from crossward.core.comparisons import AVERAGE
from crossward.core.concerns import Concern
from crossward.engines.charts import Intervals, Mark, Stacks
from crossward.pipeline.policies import finished, in_order, policies_of
from crossward.pipeline.report.answers import measured_of
from crossward.pipeline.report.blocks import Block, Bullets, Figure, Report, Section, Words, table
from crossward.pipeline.report.headline import TITLES, verdicts
from crossward.pipeline.report.times import finished_stages
from crossward.store import manifest
from crossward.store.rates_file import read_rates
from crossward.store.reward_accuracy_file import read_reward_accuracy
from crossward.store.run_dir import RunDir

Runs = Mapping[str, tuple[RunDir, Config, Sequence[Concern]]]  # by name
_COUNTS = ("n_groups", "n_pairs", "alpha", "length_gap_after", "mean_margin", "skipped")
_LAST = "Of each run's last policy that was judged. Win rates against another baseline do not compare."


def comparison_of(runs: Runs) -> Report:
    """The report of several runs; sections that no run has anything for are left out."""
    found = [
        _recipes(runs),
        _verdicts(runs),
        _rates(runs),
        _accuracies(runs),
        _pairs(runs),
        _answers(runs),
        _times(runs),
    ]
    return Report(title=" · ".join(runs), sections=tuple(section for section in found if section is not None))


def names_of(directories: Sequence[RunDir]) -> list[str]:
    """The shortest ends of the paths that tell all apart. ValueError where a run comes twice."""
    parts = [directory.root.resolve().parts for directory in directories]
    if len(set(parts)) < len(parts):
        twice = next(directory.root for k, directory in enumerate(directories) if parts.index(parts[k]) < k)
        raise ValueError(f"{twice} comes twice: name each run once")
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    raise AssertionError("different paths differ somewhere")


def _recipes(runs: Runs) -> Section:
    flat = {name: dict(_leaves(config.model_dump(mode="json"))) for name, (_, config, _) in runs.items()}
    keys = sorted({key for leaves in flat.values() for key in leaves} - {"run"})
    differing = [key for key in keys if len({repr(leaves.get(key)) for leaves in flat.values()}) > 1]
    rows = [[key, *(_shown(flat[name].get(key)) for name in runs)] for key in differing]
    said = Words(text="The recipes are the same, key by key." if not rows else "Keys in which the recipes differ.")
    blocks: list[Block] = [said]
    if rows:
        blocks.append(table(["key", *runs], rows))
    return Section(anchor="recipes", title="Recipes", blocks=tuple(blocks))


def _verdicts(runs: Runs) -> Section:
    items = [
        Words(text=f"{name}: {words.text}", tone=words.tone)
        for name, (directory, _, concerns) in runs.items()
        for words in [*verdicts(directory), *_worries(concerns)]
    ]
    return Section(anchor="headline", title="Headline", blocks=(Bullets(items=tuple(items)),))


def _worries(concerns: Sequence[Concern]) -> list[Words]:
    kinds = list(dict.fromkeys(TITLES[concern.kind] for concern in concerns))
    return [Words(text=f"to worry about: {', '.join(kinds)}", tone="bad")] if kinds else []


def _rates(runs: Runs) -> Section | None:
    marks, rows, baselines = [], [], set()
    for name, (directory, _, _) in runs.items():
        if (found := read_rates(directory.evaluation)) is None or not found["rates"]:
            continue
        last = in_order(rate["model"] for rate in found["rates"])[-1]
        averages = [{**mean, "language": AVERAGE} for mean in found["averages"]]
        for rate in [*found["rates"], *averages]:
            low, high = _bounds(rate)
            rows.append([name, rate["model"], rate["language"], rate["win_rate"], low, high, rate.get("lc_win_rate")])
            if rate["model"] == last:
                mark = Mark(place=rate["language"], series=name, value=rate["win_rate"], low=low, high=high)
                marks.append(mark)
        baselines |= {rate["baseline"] for rate in found["rates"]}
    if not marks:
        return None
    header = ["run", "policy", "language", "win rate, %", "low", "high", "LC, %"]
    chart = Intervals(title="Win rate of the last policy", axis="win rate, %", marks=tuple(marks), rule=50.0)
    note = f"{_LAST} Here: {', '.join(sorted(baselines))}."
    return Section(
        anchor="win-rates", title="Win rates", blocks=(Figure(chart=chart, table=table(header, rows), note=note),)
    )


def _bounds(rate: Mapping[str, Any]) -> tuple[float | None, float | None]:
    if rate.get("win_rate_interval") is not None:
        low, high = rate["win_rate_interval"]
        return low, high
    if rate.get("win_rate_se") is None:
        return None, None
    return rate["win_rate"] - 1.96 * rate["win_rate_se"], rate["win_rate"] + 1.96 * rate["win_rate_se"]


def _accuracies(runs: Runs) -> Section | None:
    figures = []
    every = [
        (name, row)
        for name, (directory, _, _) in runs.items()
        for row in read_reward_accuracy(directory.reward_accuracy)
    ]
    for view in dict.fromkeys(row.view for _, row in every):
        own = [(name, row) for name, row in every if row.view == view]
        marks = tuple(
            Mark(
                place=row.language,
                series=f"{name}, iteration {row.iteration}, by {row.by}",
                value=row.accuracy,
                low=row.low,
                high=row.high,
            )
            for name, row in own
        )
        rows = [[name, row.iteration, row.language, row.n_pairs, row.accuracy, row.low, row.high] for name, row in own]
        header = ["run", "iteration", "language", "pairs", "accuracy", "low", "high"]
        chart = Intervals(title=f"Reward accuracy, {view}", axis="pairs ranked rightly", marks=marks, rule=0.5)
        figures.append(Figure(chart=chart, table=table(header, rows)))
    return Section(anchor="reward-accuracy", title="Reward accuracy", blocks=tuple(figures)) if figures else None


def _pairs(runs: Runs) -> Section | None:
    rows = [
        [name, t, language, *(counts[key] for key in _COUNTS)]
        for name, (directory, config, _) in runs.items()
        for t, done in finished(directory, "pair", config.iterations)
        for language, counts in done.by_language
    ]
    header = ["run", "iteration", "language", "prompts", "pairs", "α", "length gap", "mean margin", "skipped"]
    return Section(anchor="pairs", title="Pairs", blocks=(table(header, rows),)) if rows else None


def _answers(runs: Runs) -> Section | None:
    figures: list[Block] = []
    for measure, title in (
        ("n_chars", "Length of the answers, characters"),
        ("fidelity", "Answers in the right language"),
    ):
        marks = [
            Mark(
                place=language,
                series=f"{name}, {policy}",
                value=found["estimate"],
                low=found["low"],
                high=found["high"],
            )
            for name, (directory, config, _) in runs.items()
            for policy, language, counts in measured_of(_evaluated(directory, config.iterations)[-1:])
            if (found := counts.get("measures", {}).get(measure)) is not None
        ]
        if marks:
            rows = [[mark.series, mark.place, mark.value, mark.low, mark.high] for mark in marks]
            chart = Intervals(title=title, axis="mean of the last policy", marks=tuple(marks))
            figures.append(Figure(chart=chart, table=table(["run, policy", "language", "mean", "low", "high"], rows)))
    return Section(anchor="answers", title="Answers to held-out prompts", blocks=tuple(figures)) if figures else None


def _evaluated(directory: RunDir, iterations: int) -> list[tuple[str, manifest.StageManifest]]:
    found = [(name, manifest.read(here.stage("evaluate"))) for name, here in policies_of(directory, iterations).items()]
    return [(name, done) for name, done in found if done is not None]


def _times(runs: Runs) -> Section | None:
    marks, rows = [], []
    for name, (directory, config, _) in runs.items():
        spent: dict[str, float] = {}
        for _, stage, done in finished_stages(directory, config.iterations):
            spent[stage] = spent.get(stage, 0.0) + done.seconds
        marks += [Mark(place=name, series=stage, value=seconds) for stage, seconds in spent.items()]
        rows += [[name, stage, seconds] for stage, seconds in spent.items()]
    if not marks:
        return None
    chart = Stacks(title="Time by stage", axis="seconds", marks=tuple(marks))
    figure = Figure(chart=chart, table=table(["run", "stage", "seconds"], rows))
    return Section(anchor="time", title="Time per stage", blocks=(figure,))


def _leaves(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        return [
            leaf for key, inner in value.items() for leaf in _leaves(inner, f"{prefix}.{key}" if prefix else str(key))
        ]
    return [(prefix, value)]


def _shown(value: Any) -> str:
    return "–" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)

"""From measured runs to numbers with intervals: means over seeds, gains over π_0, differences from the baseline.

Over two or more seeds an interval is Student's t over seeds, paired by seed where two sides are compared; with one seed
it is over prompts, paired by prompt, and says so. Knows no table and no figure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from crossward.core.intervals import Interval
from crossward.core.seeds_intervals import mean_over_seeds, ratio_difference_over_prompts, ratio_over_prompts
from crossward.experiment_cells import CellRun
from crossward.experiment_config import AVERAGE, NON_ENGLISH
from crossward.pipeline.experiment_measures import ByLanguage, ByPolicy, Measured
from crossward.pipeline.policies import REFERENCE, policy_number

Kind = Literal["value", "gain", "difference"]
Over = Literal["seeds", "prompts", "nothing"]
START = "π_0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its 95 % interval over seeds or prompts; `low` and `high` are None over nothing.

    `by_seed` are the numbers that it is the mean of.
    """

    estimate: float
    low: float | None
    high: float | None
    over: Over
    by_seed: Mapping[int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One number of the experiment: of a policy in a language (or group of them) in a cell."""

    metric: str
    kind: Kind
    cell: str
    policy: str
    language: str
    value: Estimate

    def row(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "metric": self.metric,
            "kind": self.kind,
            "cell": self.cell,
            "policy": self.policy,
            "language": self.language,
            "estimate": self.value.estimate,
            "low": self.value.low,
            "high": self.value.high,
            "interval_over": self.value.over,
            "n_seeds": len(self.value.by_seed),
            "by_seed": {str(seed): value for seed, value in self.value.by_seed.items()},
        }


BySeed = dict[int, Measured]


def results_of(
    measured: Sequence[tuple[CellRun, Mapping[str, ByPolicy]]], *, metrics: Sequence[str], baseline: str | None
) -> list[Result]:
    """Every number of the runs that are there, in the order of metrics, cells, policies, languages."""
    found: list[Result] = []
    for metric in metrics:
        # cell -> policy -> language -> seed
        values: dict[str, dict[str, dict[str, BySeed]]] = {}
        for run, by_metric in measured:
            for policy, by_language in by_metric[metric].items():
                for language, value in with_groups(by_language, run.config.languages).items():
                    by_policy = values.setdefault(run.cell.name, {}).setdefault(policy, {})
                    by_policy.setdefault(language, {})[run.seed] = value
        for cell, by_policy in values.items():
            for policy, by_language in sorted(by_policy.items(), key=lambda item: policy_number(item[0])):
                for language, by_seed in by_language.items():
                    start = None if policy in (REFERENCE, START) else by_policy.get(START, {}).get(language)
                    compared = baseline is not None and cell != baseline
                    theirs = values.get(baseline or "", {}).get(policy, {}).get(language) if compared else None
                    kinds: list[tuple[Kind, Estimate | None]] = [
                        ("value", over_seeds(by_seed)),
                        ("gain", None if start is None else differences_over_seeds(by_seed, start)),
                        ("difference", None if theirs is None else differences_over_seeds(by_seed, theirs)),
                    ]
                    found += [
                        Result(metric=metric, kind=kind, cell=cell, policy=policy, language=language, value=estimate)
                        for kind, estimate in kinds
                        if estimate is not None
                    ]
    return found


def with_groups(by_language: ByLanguage, languages: Sequence[str]) -> ByLanguage:
    """The languages, English first and then as the recipe names them, and their means: non-English and all."""
    order = ["en", *languages, *sorted(by_language)]
    found = {language: by_language[language] for language in dict.fromkeys(order) if language in by_language}
    others = [value for language, value in found.items() if language != "en"]
    if others:
        found[NON_ENGLISH] = mean_of(others)
    if len(by_language) > 1:
        found[AVERAGE] = mean_of([value for language, value in found.items() if language != NON_ENGLISH])
    return found


def mean_of(values: Sequence[Measured]) -> Measured:
    """The mean over languages, in which each counts the same however many answers it has.

    Prompt by prompt where all have that: a prompt then stands for itself in all its languages at once.
    """
    ratio: dict[str, tuple[float, float]] = {}
    for value in values:
        if value.ratio is None:
            return Measured(estimate=fmean(value.estimate for value in values))
        total = sum(denominator for _, denominator in value.ratio.values())
        for prompt, (above, below) in value.ratio.items():
            so_far = ratio.get(prompt, (0.0, 0.0))
            ratio[prompt] = (so_far[0] + above / total, so_far[1] + below / total)
    return Measured(estimate=fmean(value.estimate for value in values), ratio=ratio)


def over_seeds(by_seed: BySeed) -> Estimate:
    """The mean over seeds; of one seed its value, with its interval over prompts where that is known."""
    numbers = {seed: value.estimate for seed, value in sorted(by_seed.items())}
    if len(numbers) > 1:
        return _estimate(mean_over_seeds(list(numbers.values())), "seeds", numbers)
    (value,) = by_seed.values()
    if value.ratio is not None:
        return _estimate(ratio_over_prompts(value.ratio), "prompts", numbers)
    low, high = value.bounds or (None, None)
    over: Over = "nothing" if value.bounds is None else "prompts"
    return Estimate(estimate=value.estimate, low=low, high=high, over=over, by_seed=numbers)


def differences_over_seeds(ours: BySeed, theirs: BySeed) -> Estimate | None:
    """Ours − theirs over the seeds that both have, paired; None where they share none."""
    common = sorted(ours.keys() & theirs.keys())
    numbers = {seed: ours[seed].estimate - theirs[seed].estimate for seed in common}
    if len(numbers) > 1:
        return _estimate(mean_over_seeds(list(numbers.values())), "seeds", numbers)
    for seed in common:
        mine, other = ours[seed].ratio, theirs[seed].ratio
        if mine is None or other is None:
            return Estimate(estimate=numbers[seed], low=None, high=None, over="nothing", by_seed=numbers)
        return _estimate(ratio_difference_over_prompts(mine, other), "prompts", numbers)
    return None


def _estimate(found: Interval, over: Over, by_seed: Mapping[int, float]) -> Estimate:
    return Estimate(estimate=found.estimate, low=found.low, high=found.high, over=over, by_seed=by_seed)

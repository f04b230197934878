"""A finished run of the tiny world held against gold: the answers of every policy, and the reward that made the pairs.

Claims are measured on held-out requests with sampled answers. Every interval resamples requests (a request in all its
languages at once), because answers to one request resemble each other.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, fields, replace
from statistics import fmean

from crossward.config import Config
from crossward.core.comparisons import AVERAGE
from crossward.core.intervals import Interval, clustered_mean, clustered_ratio, ranked_pairs, win_share
from crossward.core.records import SampledPrompt, View
from crossward.core.rewards import RewardAccuracy
from crossward.core.verdicts import Verdict
from crossward.core.winrates import WinRates, win_rates
from crossward.pipeline.assemble import Engines, Model, checkpoint
from crossward.pipeline.progress import Progress
from crossward.pipeline.stage_files import read_sampled
from crossward.pipeline.streams import score_groups
from crossward.store import manifest
from crossward.store.run_dir import IterationDir, RunDir
from crossward.tinyworld.vocabulary import LANGUAGES
from crossward.tinyworld.world import Features, features, gold

NON_ENGLISH = "non-English"
RESAMPLES = 2000
GROUPS: dict[str, tuple[str, ...]] = {
    **{language: (language,) for language in LANGUAGES},
    NON_ENGLISH: tuple(language for language in LANGUAGES if language != "en"),
}
Key = tuple[str, str]  # language, prompt id
Ranked = dict[Key, tuple[float, int]]  # pairs of answers that a reward ranks as gold does, and pairs that gold ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyJudgement:
    """One policy on the held-out requests, by language and non-English together.

    `gold` is the mean gold of its answers (0 to 1), `win_rate` their share of wins over π_I (0 to 1; π_I has none),
    `gain` the difference of win rate from π_0's, paired by request (π_I and π_0 have none).
    """

    name: str
    gold: dict[str, Interval]
    win_rate: dict[str, Interval]
    gain: dict[str, Interval]
    features: dict[str, dict[str, float]]


def policies_of(run: RunDir) -> dict[str, IterationDir]:
    """The policies of a run by name, where their answers are."""
    return {"π_I": run.reference, **{f"π_{t}": run.iteration(t) for t in run.iterations()}}


def judge(policies: Mapping[str, IterationDir]) -> list[PolicyJudgement]:
    """Gold and win rate of the answers of several policies; π_I and π_0 must be among them."""
    golds = {name: golds_of(here) for name, here in policies.items()}
    wins = _win_rates(gold_verdicts(policies))
    return [
        PolicyJudgement(
            name=name,
            gold={g: clustered_mean(_of(golds[name], languages)) for g, languages in GROUPS.items()},
            win_rate={} if name == "π_I" else wins.rates[name],
            gain=wins.gains.get(name, {}),
            features=mean_features(here),
        )
        for name, here in policies.items()
    ]


def gold_verdicts(policies: Mapping[str, IterationDir]) -> list[Verdict]:
    """Gold as one more judge: of every policy but π_I, one verdict a request, in its files' form.

    A request has several sampled answers: the preference is the share of all their comparisons with π_I's that are won
    (ties half), the lengths are means.
    """
    answers = {
        name: {(language, group.prompt.id): group for language in LANGUAGES for group in _answers(here, language)}
        for name, here in policies.items()
    }
    golds = {name: golds_of(here) for name, here in policies.items()}
    shares = {name: win_shares(found, golds["π_I"]) for name, found in golds.items()}
    return [
        Verdict(
            id=key[1],
            language=key[0],
            model=name,
            baseline="π_I",
            preference=share,
            model_length=_mean_length(answers[name][key]),
            baseline_length=_mean_length(answers["π_I"][key]),
        )
        for name, found in shares.items()
        if name != "π_I"
        for key, share in found.items()
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wins:
    """By policy and group of languages, 0 to 1: win rates, and gains over π_0."""

    rates: dict[str, dict[str, Interval]]
    gains: dict[str, dict[str, Interval]]


def _win_rates(verdicts: Sequence[Verdict]) -> _Wins:
    """core.winrates over the verdicts; requests are what is resampled, in all their languages at once."""
    found = gold_rates(verdicts)
    others = win_rates([v for v in verdicts if v.language != "en"], variant="none", resamples=RESAMPLES)
    rates: dict[str, dict[str, Interval]] = {}
    for rate in found.rates:
        assert rate.win_rate_se is not None
        spread = 1.96 * rate.win_rate_se
        rates.setdefault(rate.model, {})[rate.language] = _share(
            rate.win_rate, (rate.win_rate - spread, rate.win_rate + spread)
        )
    for mean in others.averages:
        rates[mean.model][NON_ENGLISH] = _share(mean.win_rate, mean.win_rate_interval)
    gains: dict[str, dict[str, Interval]] = {}
    over_start = [apart for apart in found.differences if apart.language != AVERAGE]
    over_start += [replace(apart, language=NON_ENGLISH) for apart in others.differences if apart.language == AVERAGE]
    for apart in over_start:
        if apart.other == "π_0":
            gains.setdefault(apart.model, {})[apart.language] = _share(apart.win_rate, apart.win_rate_interval)
    return _Wins(rates=rates, gains=gains)


def _share(percent: float, bounds: tuple[float, float]) -> Interval:
    return Interval(estimate=percent / 100, low=bounds[0] / 100, high=bounds[1] / 100)


def _mean_length(group: SampledPrompt) -> int:
    return round(fmean(len(response.text) for response in group.responses))


def win_shares(ours: Mapping[Key, Sequence[float]], baseline: Mapping[Key, Sequence[float]]) -> dict[Key, float]:
    """Share of wins of each prompt's answers over the baseline's to the same prompt."""
    return {key: win_share(scores, baseline[key]) for key, scores in ours.items()}


def accuracies(ranked: Mapping[View, Ranked]) -> dict[View, dict[str, Interval]]:
    """Pairwise accuracy of the reward against gold, per view and group of languages."""
    return {
        view: {
            group: clustered_ratio((id, right, n) for (language, id), (right, n) in found.items() if language in codes)
            for group, codes in GROUPS.items()
        }
        for view, found in ranked.items()
    }


def rank(config: Config, run: RunDir, progress: Progress, *, t: int = 1) -> dict[View, Ranked]:
    """π_(t−1)'s own held-out answers ranked by iteration t's reward under either view, held against gold.

    The reward is log π_(t−1)/π_I, or what the recipe says of it (reward.policy, reward.reference).
    """
    engines = Engines(config)
    policies = [engines.policy(), *(_trained(engines, run, k) for k in range(1, t))]
    ours = policies[0] if config.reward.policy == "initial" else policies[-1]
    base = policies[-2] if config.reward.reference == "previous" and t > 1 else engines.reference()
    groups = [group for language in LANGUAGES for group in _answers(run.iteration(t - 1), language)]
    views: tuple[View, ...] = ("crosslingual", "multilingual")
    total = 2 * len(views) * sum(len(group.responses) for group in groups)
    with (
        closing(engines.scorer(ours)) as policy,
        closing(engines.scorer(base)) as reference,
        progress.task(f"gold: log-probabilities of π_{t - 1}'s answers under both views", total) as advance,
    ):
        return {
            view: {
                (group.prompt.language, group.prompt.id): ranked_pairs(
                    [response.log_ratio for response in group.responses],
                    [gold(group.prompt, response.response.text) for response in group.responses],
                )
                for group in score_groups(groups, view, policy, reference, advance=advance)
            }
            for view in views
        }


def _trained(engines: Engines, run: RunDir, t: int) -> Model:
    stage = run.iteration(t).stage("train")
    done = manifest.read(stage)
    assert done is not None, "a finished run"
    return checkpoint(engines, stage.checkpoint, done.digest)


def reward_accuracies(ranked: Mapping[int, Mapping[View, Ranked]]) -> list[RewardAccuracy]:
    """The same as records of a run, for its report, by iteration, view and language: where gold ranks any pair."""
    found: list[RewardAccuracy] = []
    for t, views in ranked.items():
        for view, by_key in views.items():
            for language in LANGUAGES:
                counted = [(id, right, n) for (code, id), (right, n) in by_key.items() if code == language]
                if n_pairs := sum(n for _, _, n in counted):
                    rate = clustered_ratio(counted)
                    record = RewardAccuracy(
                        iteration=t,
                        view=view,
                        language=language,
                        by="gold",
                        accuracy=rate.estimate,
                        low=rate.low,
                        high=rate.high,
                        n_pairs=n_pairs,
                    )
                    found.append(record)
    return found


def gold_rates(verdicts: Sequence[Verdict]) -> WinRates:
    """Every policy's win rate against π_I, as a judge's verdicts would give it; gold has no liking for length."""
    return win_rates(verdicts, variant="none", resamples=RESAMPLES)


def golds_of(here: IterationDir) -> dict[Key, list[float]]:
    """Gold of every answer of a policy, by language and prompt."""
    return {
        (language, group.prompt.id): [gold(group.prompt, response.text) for response in group.responses]
        for language in LANGUAGES
        for group in _answers(here, language)
    }


def _answers(here: IterationDir, language: str) -> list[SampledPrompt]:
    return read_sampled(here.stage("evaluate"), language)


def _of(golds: Mapping[Key, Sequence[float]], languages: Sequence[str]) -> list[tuple[str, float]]:
    return [(id, value) for (language, id), values in golds.items() if language in languages for value in values]


def mean_features(here: IterationDir) -> dict[str, dict[str, float]]:
    """Mean of each feature of the answers, by language and non-English together: what gold is made of."""
    found = {
        language: [
            asdict(features(group.prompt, response.text))
            for group in _answers(here, language)
            for response in group.responses
        ]
        for language in LANGUAGES
    }
    names = [field.name for field in fields(Features)]
    return {
        group: {name: fmean(item[name] for language in languages for item in found[language]) for name in names}
        for group, languages in GROUPS.items()
    }

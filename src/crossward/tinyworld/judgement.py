"""A finished run of the tiny world held against gold: the answers of every policy, and the reward that made the pairs.

Claims are measured on held-out requests with sampled answers. Every interval resamples requests (a request in all its
languages at once), because answers to one request resemble each other.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from statistics import fmean

from crossward.config import Config
from crossward.core.intervals import (
    Interval,
    clustered_mean,
    clustered_ratio,
    paired_differences,
    ranked_pairs,
    win_share,
)
from crossward.core.records import SampledPrompt, View
from crossward.pipeline.assemble import Engines
from crossward.pipeline.progress import Progress
from crossward.pipeline.stages import read_sampled
from crossward.pipeline.streams import score_groups
from crossward.store.run_dir import IterationDir, RunDir
from crossward.tinyworld.vocabulary import LANGUAGES
from crossward.tinyworld.world import Features, features, gold

NON_ENGLISH = "non-English"
GROUPS: dict[str, tuple[str, ...]] = {
    **{language: (language,) for language in LANGUAGES},
    NON_ENGLISH: tuple(language for language in LANGUAGES if language != "en"),
}
Key = tuple[str, str]  # language, prompt id
Ranked = dict[Key, tuple[float, int]]  # pairs of answers that a reward ranks as gold does, and pairs that gold ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyJudgement:
    """One policy on the held-out requests, by language and non-English together.

    `gold` is the mean gold of its answers (0 to 1), `win_rate` their share of wins against π_I's (0 to 1), `gain` the
    difference of win rate from π_0's, paired by request.
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
    shares = {name: win_shares(found, golds["π_I"]) for name, found in golds.items()}
    return [
        PolicyJudgement(
            name=name,
            gold={g: clustered_mean(_of(golds[name], languages)) for g, languages in GROUPS.items()},
            win_rate={g: clustered_mean(_by_request(shares[name], languages)) for g, languages in GROUPS.items()},
            gain={g: gain(shares[name], shares["π_0"], languages) for g, languages in GROUPS.items()},
            features=mean_features(here),
        )
        for name, here in policies.items()
    ]


def win_shares(ours: Mapping[Key, Sequence[float]], baseline: Mapping[Key, Sequence[float]]) -> dict[Key, float]:
    """Share of wins of each prompt's answers over the baseline's to the same prompt."""
    return {key: win_share(scores, baseline[key]) for key, scores in ours.items()}


def gain(ours: Mapping[Key, float], theirs: Mapping[Key, float], languages: Sequence[str]) -> Interval:
    """Mean difference of two policies' win shares, paired by prompt."""
    differences = paired_differences(
        {"\t".join(key): value for key, value in ours.items() if key[0] in languages},
        {"\t".join(key): value for key, value in theirs.items() if key[0] in languages},
    )
    return clustered_mean((key.split("\t")[1], value) for key, value in differences)


def accuracies(ranked: Mapping[View, Ranked]) -> dict[View, dict[str, Interval]]:
    """Pairwise accuracy of the reward against gold, per view and group of languages."""
    return {
        view: {
            group: clustered_ratio((id, right, n) for (language, id), (right, n) in found.items() if language in codes)
            for group, codes in GROUPS.items()
        }
        for view, found in ranked.items()
    }


def rank(config: Config, run: RunDir, progress: Progress) -> dict[View, Ranked]:
    """π_0's own held-out answers ranked by the reward log π_0/π_I under either view, held against gold."""
    engines = Engines(config)
    models = engines.policy(), engines.reference()
    groups = [group for language in LANGUAGES for group in _answers(run.iteration(0), language)]
    views: tuple[View, ...] = ("crosslingual", "multilingual")
    total = 2 * len(views) * sum(len(group.responses) for group in groups)
    with (
        closing(engines.scorer(models[0])) as policy,
        closing(engines.scorer(models[1])) as reference,
        progress.task("gold: log-probabilities of π_0's answers under both views", total) as advance,
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


def _by_request(shares: Mapping[Key, float], languages: Sequence[str]) -> list[tuple[str, float]]:
    return [(id, value) for (language, id), value in shares.items() if language in languages]


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

"""What a careful colleague would say of a run, finished or not: `concerns_of`.

From the stages' own counts, the measures of answers, the pairs' tables and whatever else the run holds; a stage that is
not there is not looked at. The rules are in core/*_concerns.py; here is where their numbers come from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from crossward.config import Config
from crossward.core.answer_concerns import cut_answers, english_regressed, language_drift, longer_answers, unfaithful
from crossward.core.chance import Paired, Share, paired
from crossward.core.comparisons import AVERAGE
from crossward.core.concerns import Concern, Kind, by_weight, told
from crossward.core.guard import FEW_PROMPTS, prompt_means
from crossward.core.judge_concerns import Gain, bought_by_length, few_judged, reward_drift
from crossward.core.model_concerns import not_the_child
from crossward.core.pair_concerns import collapsed_spread
from crossward.engines.weight_distance import weight_distances
from crossward.pipeline.guard import Guarded, english_guard
from crossward.pipeline.guard import told as told_change
from crossward.pipeline.judge_stage import english_preferences
from crossward.pipeline.pair_concerns import look_at_pairs
from crossward.store import manifest
from crossward.store.manifest import StageManifest
from crossward.store.measures_file import read_measures
from crossward.store.rates_file import read_rates
from crossward.store.reward_accuracy_file import read_reward_accuracy
from crossward.store.run_dir import IterationDir, RunDir

_COMPARED = ("fidelity", "code_switching", "n_chars")
# Of a policy: {measure: {language: {prompt id: mean over its answers}}}.
Means = Mapping[str, Mapping[str, Mapping[str, float]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look at a run gave: its concerns, heaviest first, and the kinds that the run has nothing to tell of.

    `guarded` is what the English guard found, by iteration: a report shows it too, and finding it takes a while.
    """

    concerns: list[Concern]
    unknown: list[Kind]
    guarded: dict[int, Guarded]

    def lines(self) -> list[str]:
        """For a terminal: a short block a concern, and in any case one line that says what was looked at."""
        kinds, n = len(get_args(Kind)), len(self.concerns)
        counted = "no concerns" if not n else "1 concern" if n == 1 else f"{n} concerns"
        blind = f" (the run cannot tell of {', '.join(self.unknown)})" if self.unknown else ""
        looked = f"{counted}: {kinds - len(self.unknown)} of {kinds} kinds looked at{blind}"
        return [*(line for concern in self.concerns for line in told(concern)), looked]


@dataclass(slots=True)
class _Notes:
    """Concerns as they are found. Of one rule in several iterations the last stands, and names the others."""

    found: dict[tuple[Kind, str], list[Concern]] = field(default_factory=dict)
    guarded: dict[int, Guarded] = field(default_factory=dict)
    looked: set[Kind] = field(default_factory=set)

    def note(self, kind: Kind, rule: str, concern: Concern | None) -> None:
        self.looked.add(kind)
        if concern is not None:
            self.found.setdefault((kind, rule), []).append(concern)

    def concerns(self) -> list[Concern]:
        return [_last(concerns) for concerns in self.found.values()]


def _last(concerns: list[Concern]) -> Concern:
    *earlier, last = concerns
    too = ", ".join(concern.where.partition("/")[0] for concern in earlier)
    return replace(last, seen=f"{last.seen} ({too} too)") if too else last


def concerns_of(directory: RunDir, config: Config) -> list[Concern]:
    """Every concern about a run, finished or not, heaviest first. ValueError where one of its files is damaged."""
    return look_at(directory, config).concerns


def look_at(directory: RunDir, config: Config) -> Look:
    """The same, and which kinds of concern the run's files can tell nothing of."""
    notes = _Notes()
    _look_at_models(config, notes)
    look_at_pairs(directory, config, notes.note)
    _look_at_spreads(directory, config, notes)
    _look_at_rewards(directory, config, notes)
    _look_at_answers(directory, config, notes)
    _look_at_english(directory, config, notes)
    _look_at_verdicts(directory, config, notes)
    unknown = [kind for kind in get_args(Kind) if kind not in notes.looked]
    return Look(concerns=by_weight(notes.concerns()), unknown=unknown, guarded=notes.guarded)


def takes_log_ratios(config: Config) -> bool:
    """Whether anything rests on log π − log π_ref of the two models that the recipe names."""
    return config.train.reference == "initial" or (config.method == "reward" and config.reward.kind == "implicit")


def _look_at_models(config: Config, notes: _Notes) -> None:
    if not takes_log_ratios(config):
        return
    distances = weight_distances(config.models.policy, config.models.reference)
    if distances is not None:
        notes.note("not-the-child", "distance", not_the_child(distances))


def _look_at_spreads(directory: RunDir, config: Config, notes: _Notes) -> None:
    """The mean spread of log-ratios in later iterations against the first's; another reward has another scale."""
    if config.reward.policy != "current" or config.reward.reference != "initial":
        return
    first = _spreads(directory.iteration(1))
    for t in range(2, config.iterations + 1):
        here = directory.iteration(t)
        if first and (now := _spreads(here)):
            concern = collapsed_spread(here.stage("score").title, now, first=first)
            notes.note("reward-drift", "spread", concern)


def _spreads(here: IterationDir) -> dict[str, Share]:
    scored = manifest.read(here.stage("score"))
    return {
        code: Share(part=counts["mean_spread"], n=counts["prompts"])
        for code, counts in (scored.by_language if scored else [])
        if counts.get("mean_spread") is not None
    }


def _look_at_rewards(directory: RunDir, config: Config, notes: _Notes) -> None:
    """The accuracy of the view that made the pairs, where it was measured; else of every view that was."""
    rows = read_reward_accuracy(directory.reward_accuracy)
    if used := [row for row in rows if row.view == config.reward.view] or rows:
        notes.note("reward-drift", "accuracy", reward_drift(used))


# Answers --------------------------------------------------------------------------------------------------------------


def _look_at_answers(directory: RunDir, config: Config, notes: _Notes) -> None:
    """Every policy against the start policy, the start policy against the reference."""
    policies = [("π_ref", directory.reference)]
    policies += [(f"π_{t}", directory.iteration(t)) for t in range(config.iterations + 1)]
    latest: tuple[str, Means] | None = None
    drifted: set[str] = set()
    base: tuple[str, Means] | None = None
    for name, here in policies:
        stage = here.stage("evaluate")
        done = manifest.read(stage)
        if done is None:
            continue
        if name != "π_ref":
            concern = cut_answers(stage.title, _cut(done), max_new_tokens=config.evaluate.max_new_tokens)
            notes.note("truncation", "answers", concern)
        means = _means(here)
        if base is not None and any(means.values()):
            drifted = _compare(stage.title, base, means, notes)
        if name in ("π_ref", "π_0"):
            base = (name, means)
        if name != "π_ref" and means.get("fidelity"):
            latest = (stage.title, means)
    if latest is not None:
        title, means = latest
        shares = {
            code: Share(part=sum(values.values()) / len(values), n=len(values))
            for code, values in means["fidelity"].items()
            if values and code not in drifted
        }
        notes.note("language-drift", "level", unfaithful(title, shares))


def _means(here: IterationDir) -> Means:
    """The measures that are compared, by language and prompt; languages that were not identified have no fidelity."""
    stage = here.stage("evaluate")
    found: dict[str, dict[str, dict[str, float]]] = {name: {} for name in _COMPARED}
    for code in stage.measured_languages():
        rows = read_measures(stage.measures_file(code))
        for name in _COMPARED:
            if values := prompt_means(rows, name):
                found[name][code] = values
    return found


def _compare(title: str, base: tuple[str, Means], means: Means, notes: _Notes) -> set[str]:
    """Drift and length against one other policy; the languages that drifted."""
    name, before = base
    moved = {measure: _paired(before.get(measure, {}), means[measure]) for measure in _COMPARED}
    drift = None
    if moved["fidelity"] or moved["code_switching"]:
        drift = language_drift(title, base=name, fidelity=moved["fidelity"], switching=moved["code_switching"])
        notes.note("language-drift", "drift", drift)
    if name != "π_ref" and moved["n_chars"]:
        longer = longer_answers(title, base=name, characters=moved["n_chars"])
        notes.note("length-exploitation", "answers", longer)
    return set(drift.languages) if drift else set()


def _paired(before: Mapping[str, Mapping[str, float]], after: Mapping[str, Mapping[str, float]]) -> dict[str, Paired]:
    found = {code: paired(before[code], after[code]) for code in sorted(before.keys() & after.keys())}
    return {code: both for code, both in found.items() if both is not None}


def _cut(done: StageManifest) -> dict[str, Share]:
    return {
        code: Share(part=counts["truncated"] / counts["answers"], n=counts["prompts"])
        for code, counts in done.by_language
        if counts.get("truncated") is not None and counts.get("answers")
    }


def _look_at_english(directory: RunDir, config: Config, notes: _Notes) -> None:
    for t in range(1, config.iterations + 1):
        found = english_guard(directory, t, values_of=english_preferences)
        if found is None:
            continue
        notes.guarded[t] = found
        concern = english_regressed(
            directory.iteration(t).stage("evaluate").title,
            [told_change(change) for change in found.drops],
            tests=len(found.changes),
            few=any(change.n_prompts < FEW_PROMPTS for change in found.drops),
        )
        notes.note("english-regressed", "guard", concern)


# Verdicts -------------------------------------------------------------------------------------------------------------


def _look_at_verdicts(directory: RunDir, config: Config, notes: _Notes) -> None:
    """The last judged policy against the start policy, and what the judge did not answer."""
    judged = [(t, manifest.read(directory.iteration(t).stage("judge"))) for t in range(config.iterations + 1)]
    done = [(t, found) for t, found in judged if found is not None]
    if not done:
        return
    t, last = done[-1]
    nulls = {
        code: Share(part=counts["n_null"] / counts["n"], n=counts["n"])
        for code, counts in last.by_language
        if counts.get("n")
    }
    gains = _gains(directory, f"π_{t}") if t else []
    notes.note("few-judged", "verdicts", few_judged(nulls, gains))
    if gains:
        over_all = [gain for gain in gains if gain.language == AVERAGE]
        notes.note("length-exploitation", "judge", bought_by_length(over_all or gains))


def _gains(directory: RunDir, name: str) -> list[Gain]:
    """One policy less the start policy, in every language and on average, as evaluation.json has it."""
    rates = read_rates(directory.evaluation) or {"differences": []}
    differences: list[dict[str, Any]] = rates["differences"]
    return [
        Gain(
            language=apart["language"],
            model=name,
            other="π_0",
            n=apart["n_common"],
            win_rate=apart["win_rate"],
            low=apart["win_rate_interval"][0],
            high=apart["win_rate_interval"][1],
            controlled=apart["lc_win_rate"],
            controlled_low=apart["lc_interval"][0] if apart["lc_interval"] else None,
        )
        for apart in differences
        if (apart["model"], apart["other"]) == (name, "π_0")
    ]

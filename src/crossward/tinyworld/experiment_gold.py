"""What the tiny world gives an experiment: a world for every seed, and what gold says of a finished run.

The experiment itself is the pipeline's; these functions are handed to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from crossward.config import Config
from crossward.core.records import View
from crossward.experiment_config import World
from crossward.pipeline.experiment import WorldSource
from crossward.pipeline.experiment_measures import ByPolicy, Measured, kept_in_pool, ratio_of
from crossward.pipeline.given import Given
from crossward.pipeline.policies import REFERENCE, policies_of
from crossward.pipeline.progress import Progress
from crossward.pipeline.stage_files import read_sampled
from crossward.store import manifest
from crossward.store.run_dir import IterationDir, RunDir
from crossward.tinyworld.gold_rater import GIVEN
from crossward.tinyworld.judgement import golds_of, rank, win_shares
from crossward.tinyworld.prepare import prepare
from crossward.tinyworld.world import features

_FORMAT = 1  # rises when the same answers would be ranked otherwise
_VIEWS: dict[str, View] = {"reward_accuracy": "crosslingual", "reward_accuracy_multilingual": "multilingual"}


def world_source(world: World) -> WorldSource:
    """Worlds as asked for, with gold as their measure; recipes may ask for gold's rater and identifier (`given`)."""
    return WorldSource(make=partial(_make, world), measure=measure_gold, given=_given)


def _given() -> Given:
    return GIVEN


def _make(world: World, folder: Path, seed: int, progress: Progress) -> None:
    """Two checkpoints and parallel prompts in `folder`; what is there and was made the same way stays."""
    prepare(folder, preset=world.preset, seed=seed, mode=world.mode, progress=progress)
    if world.rivals:
        from crossward.tinyworld.rivals import prepare_rivals

        prepare_rivals(folder, preset=world.preset, seed=seed, mode=world.mode, progress=progress)


def measure_gold(metrics: Sequence[str], config: Config, run: RunDir, progress: Progress) -> dict[str, ByPolicy]:
    """Gold's metrics of every policy by language.

    `gold`: percent of comparisons with the reference's answers to the same request that are won, ties half (the
    reference has none). `gold_mean` and `gold_<feature>`: means over answers, 0 to 1. `reward_accuracy`: of π_0 alone,
    the share of pairs of its answers that log π_0/π_I ranks as gold does (chance 0.5), under the crosslingual view.
    """
    policies = policies_of(run, config.iterations)
    golds = {name: golds_of(here) for name, here in policies.items()}
    found: dict[str, ByPolicy] = {}
    for metric in metrics:
        if metric == "gold":
            shares = {name: win_shares(golds[name], golds[REFERENCE]) for name in policies if name != REFERENCE}
            found[metric] = {
                name: _by_language([(*key, 100 * share) for key, share in won.items()]) for name, won in shares.items()
            }
        elif metric == "gold_mean":
            found[metric] = {
                name: _by_language([(*key, value) for key, values in by_key.items() for value in values])
                for name, by_key in golds.items()
            }
        elif metric not in _VIEWS:
            name_of_feature = metric.removeprefix("gold_")
            found[metric] = {name: _by_language(_feature(here, name_of_feature)) for name, here in policies.items()}
    if ranked := [metric for metric in metrics if metric in _VIEWS]:
        made_from = _ranked_from(config, policies["π_0"], policies[REFERENCE])
        by_view = kept_in_pool(run, "reward-accuracy", made_from, lambda: _ranked(config, run, progress))
        for metric in ranked:
            found[metric] = {"π_0": _accuracies(by_view[_VIEWS[metric]])}
    return found


def _ranked_from(config: Config, start: IterationDir, reference: IterationDir) -> list[Any]:
    """What the ranking of π_0's answers depends on: the answers, both models, how they score."""
    answered, base = (manifest.read(here.stage("evaluate")) for here in (start, reference))
    assert answered is not None
    assert base is not None
    how = [config.models.dtype, config.compatibility, config.score.engine, config.runtime.device]
    return [_FORMAT, answered.digest, answered.inputs["policy"], base.inputs["policy"], how]


def _ranked(config: Config, run: RunDir, progress: Progress) -> dict[View, dict[str, dict[str, tuple[float, float]]]]:
    """By view, language and request: pairs of answers that the reward ranks as gold does, and pairs that gold ranks."""
    found: dict[View, dict[str, dict[str, tuple[float, float]]]] = {}
    for view, by_key in rank(config, run, progress).items():
        by_language = found.setdefault(view, {})
        for (language, id), (right, n) in by_key.items():
            by_language.setdefault(language, {})[id] = (right, float(n))
    return found


def _feature(here: IterationDir, name: str) -> list[tuple[str, str, float]]:
    stage = here.stage("evaluate")
    return [
        (language, group.prompt.id, float(asdict(features(group.prompt, response.text))[name]))
        for language in stage.languages()
        for group in read_sampled(stage, language)
        for response in group.responses
    ]


def _accuracies(ranked: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, Measured]:
    ratios = {
        language: {id: (right, n) for id, (right, n) in by_request.items()} for language, by_request in ranked.items()
    }
    return {language: value for language, ratio in ratios.items() if (value := Measured.of(ratio)) is not None}


def _by_language(values: Sequence[tuple[str, str, float]]) -> dict[str, Measured]:
    """(language, prompt, value) of every answer or request as means by language."""
    found: dict[str, Measured] = {}
    for language in dict.fromkeys(language for language, _, _ in values):
        value = Measured.of(ratio_of([(id, number) for code, id, number in values if code == language]))
        if value is not None:
            found[language] = value
    return found

"""What a run needs before its first stage: models, prompts, files, keys. Read or refused here, nothing is computed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from crossward.config import Config
from crossward.core.records import Prompt
from crossward.engines.trackers import require_tracker
from crossward.pipeline.assemble import Engines, Model
from crossward.pipeline.choose import require_chat_model
from crossward.pipeline.cluster import require_cluster
from crossward.pipeline.judge_stage import Judging
from crossward.pipeline.launch import require_launch
from crossward.pipeline.measures import read_references
from crossward.pipeline.progress import Progress, Silent
from crossward.pipeline.prompts import evaluation_prompts, prompts_of_run, training_prompts
from crossward.pipeline.ranking import require_ranking, require_words
from crossward.pipeline.raters import require_rater
from crossward.pipeline.recipe_translator import require_translator
from crossward.pipeline.replay import Replayed, read_pairs, read_replay
from crossward.store.run_dir import RunDir


@dataclass(frozen=True, slots=True, kw_only=True)
class Required:
    """What a run begins with."""

    reference: Model
    policy: Model
    replay: Replayed | None
    prompts: Mapping[str, Sequence[Prompt]]
    held_out: dict[str, list[Prompt]]
    judging: Judging


def require(engines: Engines, directory: RunDir, progress: Progress) -> Required:
    """Everything that a recipe names, read; raises ValueError for what would fail later. No weights are loaded."""
    config = engines.config
    require_tracking(config)
    if trusted := say_trusted(config):
        progress.say(trusted)
    require_launch(config)
    require_cluster(config)
    reference, policy = engines.reference(), engines.policy()
    replay = read_replay(config, policy.spec, engines.tokens(policy), progress)
    engines.require_comparable(policy, reference)
    prompts, held_out = prompts_of_run(config, directory, progress), evaluation_prompts(config, progress)
    engines.require_room(policy, prompts, held_out)
    engines.require_sample_engine("sample")
    require_ranking(engines, policy)
    read_references(config.evaluate.reference_answers, held_out)
    judging = _judging(engines, directory, tuple(held_out), progress)
    return Required(
        reference=reference, policy=policy, replay=replay, prompts=prompts, held_out=held_out, judging=judging
    )


def say_trusted(config: Config) -> str:
    """A warning that names the models whose own code may run; "" where none may."""
    if not config.trusted:
        return ""
    models = ", ".join(config.trusted)
    return (
        f"models.trust_remote_code: code of {models} (of an adapter, also that of the base it names) MAY RUN on this "
        "machine with your rights"
    )


def require_tracking(config: Config) -> None:
    """Raise ValueError where the library of the recipe's tracker is not installed."""
    if config.tracking.tracker != "none":
        require_tracker(config.tracking.tracker)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One of the things that a recipe names, which can be looked at by itself: `look` raises where it is not there.

    It reads `files`, and `sources`, which may be names on the hub; what it finds is decided by `by`, as JSON.
    """

    look: Callable[[], object]
    by: tuple[Any, ...]
    files: tuple[str | None, ...] = ()
    sources: tuple[str | None, ...] = ()


def parts_of(engines: Engines) -> list[Part]:
    """What a recipe names, piece by piece: for looking at some of it while the rest is not there yet."""
    config = engines.config
    tree = config.model_dump(mode="json")
    models, replay = config.models, config.train.replay
    launch = [tree["train"][key] for key in ("launch", "batch_size", "micro_batch_size")]
    own = ["runtime", "models", "languages"]  # of every model
    sampling = None if config.sample.engine in ("openai", "given") else models.policy

    def by(name: str, *sections: str) -> tuple[Any, ...]:
        return (name, *(tree[section] for section in sections))

    parts = [
        Part(by=("tracking", config.tracking.tracker), look=lambda: require_tracking(config)),
        Part(by=("launch", *launch), look=lambda: require_launch(config)),
        Part(by=("cluster", config.cluster is None), look=lambda: require_cluster(config)),
        Part(by=by("policy", *own), sources=(models.policy,), look=lambda: engines.tokens(engines.policy())),
        Part(by=by("reference", *own), sources=(models.reference,), look=lambda: engines.tokens(engines.reference())),
        Part(
            by=(*by("engine", *own), config.sample.engine, tree["sample"]["openai"]),
            sources=(sampling,),
            look=lambda: engines.require_sample_engine("sample"),
        ),
        Part(by=by("words", "languages", "reward", "pair"), look=lambda: require_words(engines)),
        Part(
            by=by("prompts", "languages", "prompts"),
            sources=(config.prompts.path, config.prompts.english),
            look=lambda: training_prompts(config),
        ),
        *_ranking_parts(engines, by("ranking", *own, "method", "reward", "translator")),
        *_held_out_parts(engines, by("held-out", "runtime", "languages", "evaluate")),
    ]
    if replay is not None:
        parts.append(Part(by=("replay", replay.path), sources=(replay.path,), look=lambda: read_pairs(replay.path)))
    return parts


def _ranking_parts(engines: Engines, by: tuple[Any, ...]) -> list[Part]:
    """Who rates and who translates; the policy is read where it translates itself."""
    config, reward, translator = engines.config, engines.config.reward, engines.config.translator
    template = translator.template
    named = None if translator.engine == "openai" else translator.model
    files: tuple[str | None, ...] = ()
    sources: tuple[str | None, ...] = ()
    match reward.kind:
        case "reward-model" if reward.reward_model is not None:
            sources = (reward.reward_model.path,)
        case "judge":
            files, sources = (reward.judge.template,), (reward.judge.checkpoint,)
        case "translation-likelihood":
            files, sources = (template,), (named,)
        case _:
            pass
    parts = [Part(by=("rater", *by), files=files, sources=sources, look=lambda: require_rater(engines))]
    if config.method == "lidr" or "translated" in reward.scored_views:
        spec = engines.model_spec(config.models.policy, config.models.policy_revision)
        sources = (config.models.policy if translator.model is None else named,)
        look = partial(require_translator, engines, spec)
        parts.append(Part(by=("translator", *by), files=(template,), sources=sources, look=look))
    return parts


def _held_out_parts(engines: Engines, by: tuple[Any, ...]) -> list[Part]:
    """The held-out prompts, and who judges the answers to them."""
    config, section = engines.config, engines.config.evaluate
    parts: list[Part] = []
    if section.prompts is not None:
        sources = (section.prompts.path, section.prompts.english)
        parts.append(Part(by=("prompts", *by), sources=sources, look=lambda: evaluation_prompts(config)))
    if (judge := section.judge) is not None:
        files = (judge.template, section.baseline, section.difficulty, section.gamed)
        sources = (judge.checkpoint,)
        parts.append(Part(by=("judge", *by), files=files, sources=sources, look=lambda: _judging_alone(engines)))
    return parts


def _judging(engines: Engines, directory: RunDir, languages: tuple[str, ...], progress: Progress) -> Judging:
    found = Judging.of(engines.config, directory, languages, progress)
    if found.settings is not None and found.settings.checkpoint is not None:
        require_chat_model(found.settings.checkpoint)
    return found


def _judging_alone(engines: Engines) -> Judging:
    config = engines.config
    languages = config.evaluate.languages or config.languages
    return _judging(engines, RunDir(Path(config.run)), languages, Silent())

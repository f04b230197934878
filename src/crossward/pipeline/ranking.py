"""From sampled responses to what pairs are made from: scores under one view, several views together, or ratings.

The implicit reward is log π over a reference under the view's instruction (paper, equation 3); its rivals are raters.
Read after iterate.py, which says with which models.
"""

from dataclasses import asdict, dataclass
from functools import partial

from crossward.core.instructions import Steering
from crossward.core.records import Response, View
from crossward.core.surprisal import SurprisalPenalty
from crossward.engines.tokens import ChatTokens
from crossward.pipeline import stages
from crossward.pipeline.assemble import Engines, Model
from crossward.pipeline.progress import Progress
from crossward.pipeline.raters import open_rater, rater_identity, rater_settings, require_rater
from crossward.pipeline.rating import rate, rate_together
from crossward.pipeline.recipe_translator import (
    recipe_translator,
    require_translator,
    translator_identity,
    translator_manifest,
)
from crossward.pipeline.streams import ENDPOINT_WINDOW, SAMPLE_WINDOW
from crossward.pipeline.translate_stage import translate
from crossward.store.manifest import StageManifest
from crossward.store.run_dir import IterationDir, Stage, StageDir

_OWN_FOLDER: dict[View, Stage] = {
    "crosslingual": "score-crosslingual",
    "multilingual": "score-multilingual",
    "translated": "score-translated",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedStage:
    """The stage that pairs are made from, and what it was closed with."""

    folder: StageDir
    manifest: StageManifest


def rank(
    here: IterationDir,
    sampled: StageManifest,
    *,
    policy: Model,
    rewarding: tuple[Model, Model],
    engines: Engines,
    progress: Progress,
) -> RankedStage:
    """Score or rate what `policy` sampled; `rewarding` is the policy and the reference of the implicit reward."""
    reward = engines.config.reward
    translated = None
    if "translated" in reward.scored_views:
        translated = translate_responses(here, sampled, policy, engines, progress)
    if reward.kind != "implicit":
        return _rated(here, sampled, translated, policy, engines, progress)
    if reward.view != "ensemble":
        return _scored(here, "score", reward.view, sampled, translated, rewarding, engines, progress)
    views = [
        _scored(here, _OWN_FOLDER[view], view, sampled, translated, rewarding, engines, progress)
        for view in reward.views
    ]
    folder = here.stage("rate")
    manifest = rate_together(
        folder,
        [view.folder for view in views],
        settings={"views": list(reward.views)},
        inputs={name: view.manifest.digest for name, view in zip(reward.views, views, strict=True)},
        progress=progress,
    )
    return RankedStage(folder=folder, manifest=manifest)


def require_ranking(engines: Engines, policy: Model) -> dict[str, str]:
    """Who judges and who translates, in words; raises ValueError where something that they need is not there."""
    config, reward = engines.config, engines.config.reward
    found = {"reward": require_rater(engines)}
    require_words(engines)
    if config.method == "lidr" or "translated" in reward.scored_views:
        found["translator"] = require_translator(engines, policy.spec)
    return found


def require_words(engines: Engines) -> None:
    """Raise ValueError where a language has no steering line, or its identifier was not handed over."""
    config, reward = engines.config, engines.config.reward
    if config.pair.language_filter == "given":
        engines.given.require_identifier()
    for prompt_language in config.languages if "crosslingual" in reward.scored_views else ():
        if prompt_language != "en" and reward.steering.place != "none":
            steering_of(engines).text(prompt_language)


def translate_responses(
    here: IterationDir,
    sampled: StageManifest,
    policy: Model,
    engines: Engines,
    progress: Progress,
    *,
    from_english: bool = False,
) -> StageManifest:
    """The English translations of the sampled responses, by the recipe's translator; or the English ones' into each."""
    section, languages = engines.config.translator, engines.config.languages
    checked = engines.identified_by(languages) if section.checks else {}
    return translate(
        here.stage("translate-from-english" if from_english else "translate"),
        here.stage("sample"),
        from_english=from_english,
        open_translator=partial(recipe_translator, engines, policy),
        open_identifier=partial(engines.identifier, languages),
        attempts=section.attempts,
        checks=section.checks,
        window=SAMPLE_WINDOW if section.engine != "openai" else ENDPOINT_WINDOW,
        settings={**translator_manifest(engines), **checked},
        inputs={"sample": sampled.digest, "translator": translator_identity(engines, policy)},
        workers=engines.workers(here=section.engine == "openai"),
        progress=progress,
    )


def _scored(
    here: IterationDir,
    folder: Stage,
    view: View,
    sampled: StageManifest,
    translated: StageManifest | None,
    rewarding: tuple[Model, Model],
    engines: Engines,
    progress: Progress,
) -> RankedStage:
    config, (policy, reference) = engines.config, rewarding
    reward = config.reward
    inputs = {"sample": sampled.digest, "policy": policy.fingerprint, "reference": reference.fingerprint}
    if view == "translated":
        assert translated is not None
        inputs["translate"] = translated.digest
    manifest = stages.score(
        here.stage(folder),
        here.stage("sample"),
        view=view,
        steering=steering_of(engines),
        translated=here.stage("translate") if view == "translated" else None,
        penalty=None
        if reward.surprisal is None
        else SurprisalPenalty(weight=reward.surprisal.weight, threshold=reward.surprisal.threshold),
        open_scorers=(partial(engines.scorer, policy), partial(engines.scorer, reference)),
        open_exact=engines.exact_scorers(policy, reference),
        noise_sample=config.score.noise_sample,
        pieces=None
        if config.compatibility == "published"
        else lambda response: _pieces(engines.tokens(policy), response),
        settings={
            "dtype": config.models.dtype,
            "compatibility": config.compatibility,
            "engine": config.score.engine,
        },
        inputs=inputs,
        workers=engines.workers(),
        progress=progress,
    )
    return RankedStage(folder=here.stage(folder), manifest=manifest)


def _pieces(tokens: ChatTokens, response: Response) -> list[str]:
    return tokens.pieces(tokens.response_ids(response))


def _rated(
    here: IterationDir,
    sampled: StageManifest,
    translated: StageManifest | None,
    policy: Model,
    engines: Engines,
    progress: Progress,
) -> RankedStage:
    reward = engines.config.reward
    assert reward.kind != "implicit"
    assert reward.view != "ensemble"
    inputs = {"sample": sampled.digest, "rater": rater_identity(engines, policy)}
    if translated is not None:
        inputs["translate"] = translated.digest
    steering = steering_of(engines)
    manifest = rate(
        here.stage("rate"),
        here.stage("sample"),
        source=reward.kind,
        view=reward.view,
        steering=steering,
        translated=here.stage("translate") if translated is not None else None,
        open_rater=lambda: open_rater(engines, policy, answers=here.stage("rate").answers, progress=progress),
        count_tokens=lambda response: len(engines.tokens(policy).response_ids(response)),
        settings=({"steering": asdict(steering)} if reward.view == "crosslingual" else {}) | rater_settings(engines),
        inputs=inputs,
        progress=progress,
    )
    return RankedStage(folder=here.stage("rate"), manifest=manifest)


def steering_of(engines: Engines) -> Steering:
    """The steering line of a recipe."""
    return Steering(**engines.config.reward.steering.model_dump())

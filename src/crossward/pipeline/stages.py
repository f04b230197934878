"""The five stages: each reads the shards of the stage before, writes its own, and resumes where it was cut.

A stage opens its engines only when a shard is missing, and writes stage.json last. Nothing here decides anything: the
maths is in core, the models are in engines, the files in store, the order in iterate.py.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from crossward.core.pairing import PairingRules
from crossward.core.records import PreferencePair, Prompt, SampledPrompt, ScoredPrompt, View
from crossward.engines.protocols import (
    Judged,
    LanguageIdentifier,
    Sampler,
    Sampling,
    Scorer,
    Trainer,
    Training,
    TrainingPair,
)
from crossward.pipeline.counts import PairTally, sampled_counts, scored_counts
from crossward.pipeline.measures import reference_hashes, write_stage_measures
from crossward.pipeline.noise import OpenScorer, measure_noise
from crossward.pipeline.outputs import write_outputs
from crossward.pipeline.progress import Progress
from crossward.pipeline.streams import score_windows, survey, told_work
from crossward.store import manifest, tables
from crossward.store.manifest import StageManifest
from crossward.store.reference_answers import ReferenceAnswers
from crossward.store.run_dir import StageDir

Prompts = Mapping[str, Sequence[Prompt]]
Inputs = Mapping[str, str]
# The files that a stage made, and what it says of itself.
Made = tuple[list[Path], dict[str, Any]]


def sample(
    stage: StageDir,
    prompts: Prompts,
    *,
    open_sampler: Callable[[], Sampler],
    sampling: Sampling,
    shard_size: int,
    settings: Mapping[str, Any],
    inputs: Inputs,
    progress: Progress,
) -> StageManifest:
    """N responses of the policy to every prompt; one shard per language and `shard_size` prompts."""

    def work() -> Made:
        files = _write_samples(stage, prompts, open_sampler, sampling, shard_size, progress)
        return files, {"languages": {language: sampled_counts(stream_sampled(stage, language)) for language in prompts}}

    return run_stage(stage, inputs, asdict(sampling) | {"shard_size": shard_size, **settings}, work)


def score(
    stage: StageDir,
    sampled: StageDir,
    *,
    view: View,
    open_scorers: Callable[[], tuple[Scorer, Scorer]],
    open_exact: tuple[OpenScorer, OpenScorer] | None,
    noise_sample: int,
    settings: Mapping[str, Any],
    inputs: Inputs,
    progress: Progress,
) -> StageManifest:
    """log π(y|x) under policy and reference for every sampled response, judged under the view's instruction.

    `noise_sample` prompts of each language are scored again, in other batches and, with `open_exact`, in float32.
    """
    models = ExitStack()
    scorers: list[tuple[Scorer, Scorer]] = []

    def opened() -> tuple[Scorer, Scorer]:
        if not scorers:
            scorers.append(open_scorers())
            for scorer in scorers[0]:
                models.callback(scorer.close)
        return scorers[0]

    def work() -> Made:
        with models:
            return score_missing()

    def score_missing() -> Made:
        shards = {stage.shard(language, index): path for language, index, path in sampled.shards()}
        missing = {path: source for path, source in shards.items() if not path.exists()}
        if missing:
            policy, reference = opened()
            total = sum(tables.count_responses(source) for source in missing.values())
            with progress.task(f"{stage.title}: log-probabilities", 2 * total) as advance:
                for path, source in missing.items():
                    groups = tables.stream_sampled(source)
                    scored = score_windows(groups, view, policy, reference, advance=advance)
                    tables.write_scored(path, chain.from_iterable(scored))
            progress.say(f"{stage.title}: {told_work(policy, reference)}")
        counts = {
            language: scored_counts(
                stream_scored(stage, language),
                n_sampled=sum(tables.count_responses(path) for code, _, path in sampled.shards() if code == language),
            )
            for language in sampled.languages()
        }
        if noise_sample:
            again = {
                language: list(islice(stream_scored(stage, language), noise_sample)) for language in sampled.languages()
            }
            policy, reference = opened()
            floors = measure_noise(
                again, policy=policy, reference=reference, open_exact=open_exact, progress=progress, title=stage.title
            )
            counts = {language: counts[language] | {"noise": floors[language]} for language in counts}
        return list(shards), {"languages": counts}

    return run_stage(stage, inputs, {"view": view, "noise_sample": noise_sample, **settings}, work)


def pair(
    stage: StageDir,
    scored: StageDir,
    *,
    rules: PairingRules,
    margins: Mapping[str, float] | None = None,
    open_identifier: Callable[[], LanguageIdentifier | None],
    settings: Mapping[str, Any],
    inputs: Inputs,
    progress: Progress,
) -> StageManifest:
    """Best and worst of each prompt with one α per language; what gives no pair is written with its reason.

    `margins` are smallest margins by language, in the place of the rules' one.
    """

    def work() -> Made:
        identifier = open_identifier()
        counts: dict[str, Any] = {}
        files: list[Path] = []
        languages = scored.languages()
        with progress.task(f"{stage.title}: languages", len(languages)) as advance:
            for language in languages:
                found = survey(stream_scored(scored, language), with_margin(rules, margins, language), identifier)
                control = found.control()
                tally = PairTally()
                outcomes = found.outcomes(stream_scored(scored, language), control.alpha if control else 0.0)
                files.append(stage.language_file(language))
                tables.write_outcomes(files[-1], map(tally.counted, outcomes))
                counts[language] = tally.counts(found, control)
                advance(1)
        return files, {"languages": counts}

    applied = {} if margins is None else {"min_margin": dict(margins)}
    return run_stage(stage, inputs, asdict(rules) | applied | dict(settings), work)


def with_margin(rules: PairingRules, margins: Mapping[str, float] | None, language: str) -> PairingRules:
    """The rules with the smallest margin of one language, where margins are given by language."""
    if margins is None:
        return rules
    if language not in margins:
        known = ", ".join(sorted(margins)) or "no language"
        raise ValueError(
            f"no noise floor was measured for {language!r} (known: {known}): score again, or give a number"
        )
    return replace(rules, min_margin=margins[language])


def train(
    stage: StageDir,
    paired: StageDir,
    *,
    open_reference: Callable[[], Scorer],
    open_trainer: Callable[[], Trainer],
    training: Training,
    inputs: Inputs,
    progress: Progress,
) -> StageManifest:
    """DPO + NLL on the pairs of all languages, on the prompts in their own language, over an explicit reference.

    The reference's log-probabilities are computed once, before training: any checkpoint may be the reference (with LoRA
    the previous adapter too) and it is never in memory beside the policy that trains.
    """

    def work() -> Made:
        pairs = read_pairs(paired)
        if not pairs:
            raise ValueError(f"{paired.path} holds no pairs to train on: look at its stage.json for the reasons")
        if not stage.checkpoint.exists():
            judged = [
                Judged(
                    instruction=pair.prompt.instruction,
                    responses=(pair.chosen.response, pair.rejected.response),
                    name=f"prompt {pair.prompt.id!r} ({pair.prompt.language})",
                )
                for pair in pairs
            ]
            with closing(open_reference()) as reference:
                ready = with_reference(judged, reference, progress, title=f"{stage.title}: ")
            with progress.task(f"{stage.title}: optimiser steps", training.steps(len(ready))) as advance:
                result = open_trainer().train(
                    ready, training, output=stage.checkpoint, metrics=stage.metrics, advance=advance
                )
            result = counting_left_out(result, len(pairs) - len(ready))
        else:
            result = manifest.last_metrics(stage)
        return [path for path in stage.checkpoint.rglob("*") if path.is_file()], {"training": result}

    return run_stage(stage, inputs, asdict(training), work)


def with_reference(
    pairs: Sequence[Judged], reference: Scorer, progress: Progress, *, title: str = ""
) -> list[TrainingPair]:
    """Attach log π_ref to (chosen, rejected) under the prompt that is trained (the prompt's own language).

    Pairs with a response that is too long for the reference are left out and told. ValueError where none is left.
    """
    with progress.task(f"{title}reference log-probabilities", 2 * len(pairs)) as advance:
        logprobs = reference.score(pairs, advance=advance)
    ready = [
        TrainingPair(
            instruction=pair.instruction,
            chosen=pair.responses[0],
            rejected=pair.responses[1],
            reference_chosen_logprob=chosen.logprob,
            reference_rejected_logprob=rejected.logprob,
        )
        for pair, (chosen, rejected) in zip(pairs, logprobs, strict=True)
        if chosen is not None and rejected is not None
    ]
    if len(ready) < len(pairs):
        said = f"{title}{len(pairs) - len(ready)} of {len(pairs)} pairs are too long for the reference's context"
        if not ready:
            raise ValueError(f"{said}: none is left to train on, so sample shorter responses")
        progress.say(f"{said} and are left out")
    return ready


def counting_left_out(result: dict[str, float], n_left_out: int) -> dict[str, float]:
    """What a trainer says of itself, with the pairs that never reached it among those dropped as too long."""
    return result | {"dropped_too_long": result.get("dropped_too_long", 0) + n_left_out}


def evaluate(
    stage: StageDir,
    prompts: Prompts,
    *,
    open_sampler: Callable[[], Sampler],
    open_identifier: Callable[[], LanguageIdentifier | None],
    sampling: Sampling,
    shard_size: int,
    settings: Mapping[str, Any],
    inputs: Inputs,
    references: Mapping[str, ReferenceAnswers] | None = None,
    progress: Progress,
) -> StageManifest:
    """Answers of one policy to held-out prompts, and what they show by themselves (core/answer_measures.py)."""

    def work() -> Made:
        files = _write_samples(stage, prompts, open_sampler, sampling, shard_size, progress)
        answers = {language: stream_sampled(stage, language) for language in prompts}
        measured, counts = write_stage_measures(stage, answers, open_identifier(), references or {})
        outputs = write_outputs(stage, {language: stream_sampled(stage, language) for language in prompts})
        return files + measured + outputs, {"languages": counts}

    inputs = {**inputs, **reference_hashes(references or {})}
    return run_stage(stage, inputs, asdict(sampling) | {"shard_size": shard_size, **settings}, work)


def stream_sampled(stage: StageDir, language: str) -> Iterator[SampledPrompt]:
    """Every group of one language, shard by shard."""
    return (group for code, _, path in stage.shards() if code == language for group in tables.stream_sampled(path))


def read_sampled(stage: StageDir, language: str) -> list[SampledPrompt]:
    """Every group of one language, over all shards."""
    return list(stream_sampled(stage, language))


def stream_scored(stage: StageDir, language: str) -> Iterator[ScoredPrompt]:
    """Every scored group of one language, shard by shard."""
    return (group for code, _, path in stage.shards() if code == language for group in tables.stream_scored(path))


def read_scored(stage: StageDir, language: str) -> list[ScoredPrompt]:
    """Every scored group of one language, over all shards."""
    return list(stream_scored(stage, language))


def read_pairs(stage: StageDir) -> list[PreferencePair]:
    """The pairs of all languages."""
    return [
        outcome
        for path in stage.language_files()
        for outcome in tables.stream_outcomes(path)
        if isinstance(outcome, PreferencePair)
    ]


def run_stage(
    stage: StageDir,
    inputs: Inputs,
    settings: Mapping[str, Any],
    work: Callable[[], Made],
) -> StageManifest:
    """Do the work of a stage unless it is already done with the same inputs and settings."""
    done = manifest.completed(stage, inputs, settings)
    if done is not None:
        return done
    manifest.begin(stage, inputs, settings)
    started = time.monotonic()
    files, counts = work()
    seconds = round(time.monotonic() - started, 3)
    return manifest.finish(stage, inputs, settings, counts=counts, files=files, seconds=seconds)


def _write_samples(
    stage: StageDir,
    prompts: Prompts,
    open_sampler: Callable[[], Sampler],
    sampling: Sampling,
    shard_size: int,
    progress: Progress,
) -> list[Path]:
    """Sample and write the shards that are missing; returns the paths of all."""
    shards = {
        stage.shard(language, index): chunk
        for language, group in sorted(prompts.items())
        for index, chunk in enumerate(_chunks(group, shard_size))
    }
    missing = {path: chunk for path, chunk in shards.items() if not path.exists()}
    if missing:
        total = sum(len(chunk) for chunk in missing.values()) * sampling.n
        with closing(open_sampler()) as sampler, progress.task(f"{stage.title}: responses", total) as advance:
            for path, chunk in missing.items():
                tables.write_sampled(path, sampler.sample(chunk, sampling, advance=advance))
    stage.answers.unlink(missing_ok=True)
    return list(shards)


def _chunks(prompts: Sequence[Prompt], size: int) -> list[Sequence[Prompt]]:
    return [prompts[start : start + size] for start in range(0, len(prompts), size)]

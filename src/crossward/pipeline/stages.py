"""The five stages: each reads the shards of the stage before, writes its own, and resumes where it was cut.

A stage opens its engines only when a shard is missing, and writes stage.json last. Nothing here decides anything: the
maths is in core, the models are in engines, the files in store, the order in iterate.py.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from crossward.core.instructions import judged_under
from crossward.core.pairing import Pairing, PairingRules, pair_groups
from crossward.core.records import PreferencePair, Prompt, SampledPrompt, ScoredPrompt, ScoredResponse, View
from crossward.core.rewards import noise_floor
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
from crossward.pipeline.counts import answer_counts, pairing_counts, sampled_counts, scored_counts
from crossward.pipeline.progress import Progress
from crossward.store import manifest, tables
from crossward.store.manifest import StageManifest
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
    inputs: Inputs,
    progress: Progress,
) -> StageManifest:
    """N responses of the policy to every prompt; one shard per language and `shard_size` prompts."""

    def work() -> Made:
        files = _write_samples(stage, prompts, open_sampler, sampling, shard_size, progress)
        return files, {"languages": {language: sampled_counts(read_sampled(stage, language)) for language in prompts}}

    return _run(stage, inputs, asdict(sampling) | {"shard_size": shard_size}, work)


def score(
    stage: StageDir,
    sampled: StageDir,
    *,
    view: View,
    open_scorers: Callable[[], tuple[Scorer, Scorer]],
    noise_sample: int,
    settings: Mapping[str, Any],
    inputs: Inputs,
    progress: Progress,
) -> StageManifest:
    """log π(y|x) under policy and reference for every sampled response, judged under the view's instruction.

    `noise_sample` prompts of each language are scored a second time, one group at a time: another batch composition,
    hence another rounding of the same sums.
    """
    scorers: list[tuple[Scorer, Scorer]] = []

    def opened() -> tuple[Scorer, Scorer]:
        if not scorers:
            scorers.append(open_scorers())
        return scorers[0]

    def work() -> Made:
        shards = {stage.shard(language, index): path for language, index, path in sampled.shards()}
        missing = {path: source for path, source in shards.items() if not path.exists()}
        total = sum(len(group.responses) for source in missing.values() for group in tables.read_sampled(source))
        if missing:
            policy, reference = opened()
            with progress.task(f"{stage.title}: log-probabilities", 2 * total) as advance:
                for path, source in missing.items():
                    groups = tables.read_sampled(source)
                    tables.write_scored(path, score_groups(groups, view, policy, reference, advance=advance))
        counts = {language: scored_counts(read_scored(stage, language)) for language in sampled.languages()}
        if noise_sample:
            for language in sampled.languages():
                first = read_scored(stage, language)[:noise_sample]
                policy, reference = opened()
                again = [rescored for group in first for rescored in _score_again(group, policy, reference)]
                counts[language]["noise"] = asdict(noise_floor(first, again))
        return list(shards), {"languages": counts}

    return _run(stage, inputs, {"view": view, "noise_sample": noise_sample, **settings}, work)


def score_groups(
    groups: Sequence[SampledPrompt],
    view: View,
    policy: Scorer,
    reference: Scorer,
    *,
    advance: Callable[[int], None] = lambda n: None,
) -> list[ScoredPrompt]:
    """Score groups under both models; the same ids, instruction and order for both."""
    judged = [Judged(instruction=judged_under(group.prompt, view), responses=group.responses) for group in groups]
    by_policy = policy.score(judged, advance=advance)
    by_reference = reference.score(judged, advance=advance)
    return [
        ScoredPrompt(
            prompt=group.prompt,
            view=view,
            judged_under=asked.instruction,
            responses=tuple(
                ScoredResponse(
                    response=response,
                    policy_logprob=own.logprob,
                    reference_logprob=base.logprob,
                    n_tokens=own.n_tokens,
                )
                for response, own, base in zip(group.responses, ours, theirs, strict=True)
            ),
        )
        for group, asked, ours, theirs in zip(groups, judged, by_policy, by_reference, strict=True)
    ]


def pair(
    stage: StageDir,
    scored: StageDir,
    *,
    rules: PairingRules,
    open_identifier: Callable[[], LanguageIdentifier | None],
    settings: Mapping[str, Any],
    inputs: Inputs,
    progress: Progress,
) -> StageManifest:
    """Best and worst of each prompt with one α per language; what gives no pair is written with its reason."""

    def work() -> Made:
        identifier = open_identifier()
        counts: dict[str, Any] = {}
        files: list[Path] = []
        languages = scored.languages()
        with progress.task(f"{stage.title}: languages", len(languages)) as advance:
            for language in languages:
                groups = read_scored(scored, language)
                made = pair_language(groups, rules, identifier)
                files.append(stage.language_file(language))
                tables.write_outcomes(files[-1], made.outcomes)
                counts[language] = pairing_counts(len(groups), made)
                advance(1)
        return files, {"languages": counts}

    return _run(stage, inputs, asdict(rules) | dict(settings), work)


def pair_language(
    groups: Sequence[ScoredPrompt], rules: PairingRules, identifier: LanguageIdentifier | None
) -> Pairing:
    """Pair the groups of one language, filtering by language where there is an identifier that knows it."""
    if (
        identifier is None
        or not rules.filter_responses
        or any(g.prompt.language in identifier.unsupported for g in groups)
    ):
        return pair_groups(groups, rules)
    texts = [scored.response.text for group in groups for scored in group.responses]
    found = iter(identifier.identify(texts))
    languages = [[next(found) for _ in group.responses] for group in groups]
    return pair_groups(groups, rules, languages=languages)


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
            ready = with_reference(pairs, open_reference(), progress, title=stage.title)
            with progress.task(f"{stage.title}: optimiser steps", training.steps(len(pairs))) as advance:
                result = open_trainer().train(
                    ready, training, output=stage.checkpoint, metrics=stage.metrics, advance=advance
                )
        else:
            result = manifest.last_metrics(stage)
        return [path for path in stage.checkpoint.rglob("*") if path.is_file()], {"training": result}

    return _run(stage, inputs, asdict(training), work)


def with_reference(
    pairs: Sequence[PreferencePair], reference: Scorer, progress: Progress, *, title: str
) -> list[TrainingPair]:
    """Attach log π_ref of chosen and rejected under the prompt that is trained (the prompt's own language)."""
    judged = [
        Judged(instruction=pair.prompt.instruction, responses=(pair.chosen.response, pair.rejected.response))
        for pair in pairs
    ]
    with progress.task(f"{title}: reference log-probabilities", 2 * len(pairs)) as advance:
        logprobs = reference.score(judged, advance=advance)
    return [
        TrainingPair(
            instruction=pair.prompt.instruction,
            chosen=pair.chosen.response,
            rejected=pair.rejected.response,
            reference_chosen_logprob=chosen.logprob,
            reference_rejected_logprob=rejected.logprob,
        )
        for pair, (chosen, rejected) in zip(pairs, logprobs, strict=True)
    ]


def evaluate(
    stage: StageDir,
    prompts: Prompts,
    *,
    open_sampler: Callable[[], Sampler],
    open_identifier: Callable[[], LanguageIdentifier | None],
    sampling: Sampling,
    shard_size: int,
    inputs: Inputs,
    progress: Progress,
) -> StageManifest:
    """Answers of one policy to held-out prompts, with their lengths and the language they are written in."""

    def work() -> Made:
        files = _write_samples(stage, prompts, open_sampler, sampling, shard_size, progress)
        identifier = open_identifier()
        counts = {language: answer_counts(read_sampled(stage, language), identifier) for language in prompts}
        return files, {"languages": counts}

    return _run(stage, inputs, asdict(sampling) | {"shard_size": shard_size}, work)


def read_sampled(stage: StageDir, language: str) -> list[SampledPrompt]:
    """Every group of one language, over all shards."""
    return [group for code, _, path in stage.shards() if code == language for group in tables.read_sampled(path)]


def read_scored(stage: StageDir, language: str) -> list[ScoredPrompt]:
    """Every scored group of one language, over all shards."""
    return [group for code, _, path in stage.shards() if code == language for group in tables.read_scored(path)]


def read_pairs(stage: StageDir) -> list[PreferencePair]:
    """The pairs of all languages."""
    return [
        outcome
        for path in stage.language_files()
        for outcome in tables.read_outcomes(path)
        if isinstance(outcome, PreferencePair)
    ]


def _run(
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
        sampler = open_sampler()
        total = sum(len(chunk) for chunk in missing.values()) * sampling.n
        with progress.task(f"{stage.title}: responses", total) as advance:
            for path, chunk in missing.items():
                tables.write_sampled(path, sampler.sample(chunk, sampling, advance=advance))
    return list(shards)


def _chunks(prompts: Sequence[Prompt], size: int) -> list[Sequence[Prompt]]:
    return [prompts[start : start + size] for start in range(0, len(prompts), size)]


def _score_again(group: ScoredPrompt, policy: Scorer, reference: Scorer) -> list[ScoredPrompt]:
    responses = tuple(scored.response for scored in group.responses)
    return score_groups([SampledPrompt(prompt=group.prompt, responses=responses)], group.view, policy, reference)

"""Sample, score, pair, evaluate: each reads the shards of the stage before, writes its own, resumes where it was cut.

A stage opens its engines only when a shard is missing, and writes stage.json last. Nothing here decides anything: the
maths is in core, the models are in engines, the files in store, the order in iterate.py.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from crossward.core.instructions import PAPERS, Steering
from crossward.core.pairing import PairingRules
from crossward.core.records import Prompt, SampledPrompt, View
from crossward.core.surprisal import SurprisalPenalty
from crossward.engines.protocols import Advance, LanguageIdentifier, Sampler, Sampling, Work
from crossward.engines.workers import IN_PROCESS, Crew, Piece, Step, Workers
from crossward.pipeline.counts import PairTally, SampledTally, ScoredTally, sampled_counts
from crossward.pipeline.measures import reference_hashes, write_stage_measures
from crossward.pipeline.noise import OpenScorer, measure_noise
from crossward.pipeline.outputs import write_outputs
from crossward.pipeline.progress import Portion, Progress
from crossward.pipeline.run_stage import Inputs, Made, run_stage
from crossward.pipeline.scoring import Judging, score_steps
from crossward.pipeline.stage_files import in_place, prompts_of, stream_ranked, stream_sampled, stream_scored
from crossward.pipeline.streams import counted, survey, told_work
from crossward.pipeline.token_terms import Pieces, write_terms
from crossward.store import tables
from crossward.store.manifest import StageManifest
from crossward.store.parquet_files import count_rows
from crossward.store.reference_answers import ReferenceAnswers
from crossward.store.run_dir import StageDir

Prompts = Mapping[str, Sequence[Prompt]]


def sample(
    stage: StageDir,
    prompts: Prompts,
    *,
    open_sampler: Callable[[], Sampler],
    sampling: Sampling,
    shard_size: int,
    settings: Mapping[str, Any],
    inputs: Inputs,
    workers: Workers = IN_PROCESS,
    progress: Progress,
) -> StageManifest:
    """N responses of the policy to every prompt; one shard per language and `shard_size` prompts."""

    def work() -> Made:
        files, counts = _write_samples(stage, prompts, open_sampler, sampling, shard_size, workers, progress)
        return files, {"languages": counts}

    return run_stage(stage, inputs, asdict(sampling) | {"shard_size": shard_size, **settings}, work, progress=progress)


def score(
    stage: StageDir,
    sampled: StageDir,
    *,
    view: View,
    steering: Steering = PAPERS,
    translated: StageDir | None = None,
    penalty: SurprisalPenalty | None = None,
    open_scorers: tuple[OpenScorer, OpenScorer],
    open_exact: tuple[OpenScorer, OpenScorer] | None,
    noise_sample: int,
    pieces: Pieces | None = None,
    settings: Mapping[str, Any],
    inputs: Inputs,
    workers: Workers = IN_PROCESS,
    progress: Progress,
) -> StageManifest:
    """log π(y|x) under policy and reference for every sampled response, judged under the view's instruction.

    `translated` holds the responses' English translations, which the translated view judges in their place. `penalty`
    is taken off for tokens that the reference finds implausible.
    `noise_sample` prompts of each language are scored again, in other batches and, with `open_exact`, in float32;
    with `pieces`, which cuts a response into its tokens' texts, their log-ratios are kept token by token.
    """
    judging = Judging(sampled=sampled, view=view, steering=steering, translated=translated, penalty=penalty)

    def work() -> Made:
        shards = [
            Piece(
                language=language,
                index=index,
                source=path,
                target=stage.shard(language, index),
                n=tables.count_responses(path),
            )
            for language, index, path in sampled.shards()
        ]
        with workers.crew(score_steps(judging, open_scorers)) as crew:
            counts = _write_scores(stage, shards, judging, crew, progress)
            if noise_sample:
                again = {language: list(islice(stream_scored(stage, language), noise_sample)) for language in counts}
                floors = measure_noise(
                    again,
                    policy=crew.scorer(0),
                    reference=crew.scorer(1),
                    open_exact=None if open_exact is None else [partial(workers.scorer, each) for each in open_exact],
                    keep=None if pieces is None else partial(write_terms, stage, pieces),
                    progress=progress,
                    title=stage.title,
                )
                counts = {language: counts[language] | {"noise": floors[language]} for language in counts}
        return [*(piece.target for piece in shards), *stage.tokens_files()], {"languages": counts}

    # A view without a steering line is not made anew when the line changes.
    made = {"view": view} | ({"steering": asdict(steering)} if view == "crosslingual" else {})
    made |= {} if penalty is None else {"penalty": asdict(penalty)}
    return run_stage(stage, inputs, {**made, "noise_sample": noise_sample, **settings}, work, progress=progress)


def pair(
    stage: StageDir,
    ranked: StageDir,
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
        languages = ranked.languages()
        n_groups = sum(count_rows(path) for _, _, path in ranked.shards())
        # Every group is read twice: for the α of its language, and for its pair.
        with progress.task(f"{stage.title}: groups", 2 * n_groups) as advance:
            for language in languages:
                groups = counted(stream_ranked(ranked, language), advance)
                found = survey(groups, with_margin(rules, margins, language), identifier)
                control = found.control()
                tally = PairTally()
                groups = counted(stream_ranked(ranked, language), advance)
                outcomes = found.outcomes(groups, control.alpha if control else 0.0)
                files.append(stage.language_file(language))
                tables.write_outcomes(files[-1], map(tally.counted, outcomes))
                counts[language] = tally.counts(found, control)
        return files, {"languages": counts}

    applied = {} if margins is None else {"min_margin": dict(margins)}
    return run_stage(stage, inputs, asdict(rules) | applied | dict(settings), work, progress=progress)


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
    workers: Workers = IN_PROCESS,
    progress: Progress,
) -> StageManifest:
    """Answers of one policy to held-out prompts, and what they show by themselves (core/answer_measures.py)."""

    def work() -> Made:
        files, sampled = _write_samples(stage, prompts, open_sampler, sampling, shard_size, workers, progress)
        answers = {language: stream_sampled(stage, language) for language in prompts}
        asked = sampling.n * sum(map(len, prompts.values()))
        with progress.task(f"{stage.title}: measuring answers", asked) as advance:
            measured, counts = write_stage_measures(
                stage, answers, open_identifier(), references or {}, advance=advance
            )
        for language, found in counts.items():
            found["tokens"] = sampled[language]["tokens"]
        outputs = write_outputs(stage, {language: stream_sampled(stage, language) for language in prompts})
        return files + measured + outputs, {"languages": counts}

    inputs = {**inputs, **reference_hashes(references or {})}
    return run_stage(stage, inputs, asdict(sampling) | {"shard_size": shard_size, **settings}, work, progress=progress)


def _write_samples(
    stage: StageDir,
    prompts: Prompts,
    open_sampler: Callable[[], Sampler],
    sampling: Sampling,
    shard_size: int,
    workers: Workers,
    progress: Progress,
) -> tuple[list[Path], dict[str, dict[str, Any]]]:
    """Sample and write the shards that are missing; returns the paths of all, and the counts of each language."""
    shards = [
        Piece(
            language=language,
            index=index,
            target=stage.shard(language, index),
            n=sampling.n * min(shard_size, len(group) - start),
        )
        for language, group in sorted(prompts.items())
        for index, start in enumerate(range(0, len(group), shard_size))
    ]
    tallies = {language: SampledTally() for language in prompts}
    missing: list[Piece] = []
    for piece in shards:
        if piece.target.exists():
            own = _prompts_of_piece(prompts, shard_size, piece)
            tallies[piece.language].add(*in_place(piece.target, tables.stream_sampled(piece.target), own))
        else:
            missing.append(piece)
    if missing:
        left = Counter[str]()
        for piece in missing:
            left[piece.language] += piece.n // sampling.n
        portions = {
            language: Portion(prompts=len(group), before=len(group) - left[language])
            for language, group in sorted(prompts.items())
        }
        step = Step(name="sampler", open=open_sampler, do=partial(_sample_piece, prompts, sampling, shard_size))
        with progress.sampling(stage.title, portions, sampling.n) as shown, workers.crew([step]) as crew:
            for piece, groups in crew.stream(missing, advance_of=lambda piece: shown.of(piece.language)):
                tables.write_sampled(piece.target, groups)
                tallies[piece.language].add(*groups)
                shown.note(piece.language, sampled_counts(groups))
    stage.answers.unlink(missing_ok=True)
    return [piece.target for piece in shards], {language: tally.counts() for language, tally in tallies.items()}


def _sample_piece(
    prompts: Prompts, sampling: Sampling, size: int, sampler: Sampler, piece: Piece, nothing: None, advance: Advance
) -> list[SampledPrompt]:
    return sampler.sample(_prompts_of_piece(prompts, size, piece), sampling, advance=advance)


def _prompts_of_piece(prompts: Prompts, size: int, piece: Piece) -> Sequence[Prompt]:
    return prompts[piece.language][piece.index * size : (piece.index + 1) * size]


def _write_scores(
    stage: StageDir, shards: Sequence[Piece], judging: Judging, crew: Crew, progress: Progress
) -> dict[str, dict[str, Any]]:
    """Score and write the shards that are missing; returns the counts of each language."""
    tallies: dict[str, ScoredTally] = {}
    n_sampled = Counter[str]()
    missing: list[Piece] = []
    for piece in shards:
        tally = tallies.setdefault(piece.language, ScoredTally())
        n_sampled[piece.language] += piece.n
        if piece.target.exists():
            tally.add(*in_place(piece.target, tables.stream_scored(piece.target), prompts_of(piece.made_from)))
        else:
            missing.append(piece)
    if missing:
        done: list[Work] = []
        with progress.task(f"{stage.title}: log-probabilities", 2 * sum(piece.n for piece in missing)) as advance:
            for piece, scores in crew.stream(missing, advance_of=lambda piece: advance):
                groups = list(judging.rows(piece, *scores.values))
                tables.write_scored(piece.target, groups)
                tallies[piece.language].add(*groups)
                done += scores.work
        progress.say(f"{stage.title}: {told_work(done)}")
    return {language: tally.counts(n_sampled[language]) for language, tally in tallies.items()}

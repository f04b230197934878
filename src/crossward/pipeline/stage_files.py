"""What stages left on the disk, as records: groups of a language over all its shards, pairs of all languages."""

from collections.abc import Iterator
from pathlib import Path

from crossward.core.records import PreferencePair, Ranked, SampledPrompt, ScoredPrompt
from crossward.store import tables
from crossward.store.run_dir import IterationDir, StageDir


def stream_sampled(stage: StageDir, language: str) -> Iterator[SampledPrompt]:
    """Every group of one language, shard by shard."""
    return (group for _, _, path in stage.shards(language) for group in tables.stream_sampled(path))


def read_sampled(stage: StageDir, language: str) -> list[SampledPrompt]:
    """Every group of one language, over all shards."""
    return list(stream_sampled(stage, language))


def stream_scored(stage: StageDir, language: str) -> Iterator[ScoredPrompt]:
    """Every scored group of one language, shard by shard."""
    return (group for _, _, path in stage.shards(language) for group in tables.stream_scored(path))


def read_scored(stage: StageDir, language: str) -> list[ScoredPrompt]:
    """Every scored group of one language, over all shards."""
    return list(stream_scored(stage, language))


def stream_pairs(stage: StageDir) -> Iterator[PreferencePair]:
    """The pairs of all languages, one at a time."""
    return (
        outcome
        for path in stage.language_files()
        for outcome in tables.stream_outcomes(path)
        if isinstance(outcome, PreferencePair)
    )


def read_pairs(stage: StageDir) -> list[PreferencePair]:
    """The pairs of all languages, at once."""
    return list(stream_pairs(stage))


def ranked_stage(here: IterationDir) -> StageDir:
    """The stage that an iteration's pairs are made from."""
    return here.stage("rate") if here.stage("rate").languages() else here.stage("score")


def stream_ranked(stage: StageDir, language: str, *, id: str | None = None) -> Iterator[Ranked]:
    """Every group of one language, or one prompt's, that a `score` or a `rate` stage left: what pairs are made from."""
    read = tables.stream_rated if stage.name == "rate" else tables.stream_scored
    return (group for _, _, path in stage.shards(language) for group in read(path, id=id))


def stream_translated(stage: StageDir, sampled: StageDir, shard: Path) -> Iterator[SampledPrompt]:
    """The English translations of one shard of sampled responses; English responses stand as they are.

    A translation that failed is an empty text.
    """
    if shard.parent.name == "en":
        return tables.stream_sampled(shard)
    return tables.stream_sampled(stage.path / sampled.relative(shard))

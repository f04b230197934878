"""What stages left on the disk, as records: groups of a language over all its shards, pairs of all languages."""

from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

from crossward.core.records import PreferencePair, Prompt, Ranked, RatedPrompt, SampledPrompt, ScoredPrompt
from crossward.store import tables
from crossward.store.parquet_files import damaged
from crossward.store.run_dir import IterationDir, StageDir

Group = TypeVar("Group", SampledPrompt, ScoredPrompt, RatedPrompt)


def in_place(path: Path, groups: Iterable[Group], prompts: Iterable[Prompt]) -> Iterator[Group]:
    """The groups of a shard that was there already, which must be those of the prompts of its place.

    A whole and sound shard from elsewhere would lose its prompts and double others. Raises ValueError for one.
    """
    for group, prompt in zip_longest(groups, prompts):
        if group is None or prompt is None or group.prompt != prompt:
            raise ValueError(damaged(path, "its prompts are not those of its place"))
        yield group


def prompts_of(sampled: Path) -> Iterator[Prompt]:
    """The prompts of a shard of sampled responses."""
    return (group.prompt for group in tables.stream_sampled(sampled))


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

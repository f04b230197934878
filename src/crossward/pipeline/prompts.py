"""The prompts of a recipe: which sources it names, joined to their English twins by id.

Small ones are held in memory. Those of a run whose files are large are kept under the run and read as they are needed:
same prompts, same hashes, same errors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from shutil import rmtree

from crossward.config import Config
from crossward.core.records import Prompt
from crossward.pipeline.progress import SILENT, Progress
from crossward.sections import Prompts
from crossward.store.large_prompts import CountedPrompts, count_if_large
from crossward.store.manifest import ListHash
from crossward.store.prompt_join import join_on_disk, source_files
from crossward.store.prompt_shards import PromptShards, known_hash, open_prompts
from crossward.store.rows import is_on_hub
from crossward.store.run_dir import RunDir
from crossward.store.sources import Source, load_prompts

HELD_BYTES = 2**23  # of prompt files, which are some ten times that in memory


def training_prompts(config: Config, progress: Progress = SILENT) -> dict[str, list[Prompt]]:
    """The prompts to sample from, by language."""
    return _load(config.prompts, config.languages, "reading prompts: rows", progress)


def prompts_of_run(config: Config, directory: RunDir, progress: Progress = SILENT) -> Mapping[str, Sequence[Prompt]]:
    """`training_prompts`, on disk under the run where their files are of more than HELD_BYTES together."""
    sources = _sources(config.prompts, config.languages)
    english = _source(config.prompts, "en")
    if not _is_large([*sources.values(), english]):
        rmtree(directory.prompts, ignore_errors=True)  # of a recipe that had more
        return training_prompts(config, progress)
    with progress.task("keeping prompts on disk: rows", None) as advance:
        kept = join_on_disk(
            directory,
            sources,
            english=english,
            limit=config.prompts.limit,
            allow_missing=config.prompts.allow_missing,
            advance=advance,
            say=progress.say,
        )
    return {language: open_prompts(directory.prompts_of(language), found) for language, found in kept.items()}


def evaluation_prompts(config: Config, progress: Progress = SILENT) -> dict[str, list[Prompt]]:
    """The held-out prompts to answer, by language; empty where the recipe names none."""
    if config.evaluate.prompts is None:
        return {}
    languages = config.evaluate.languages or config.languages
    return _load(config.evaluate.prompts, languages, "reading held-out prompts: rows", progress)


def counted_prompts(config: Config) -> CountedPrompts | None:
    """How many prompts there are to sample from, where their files are too large to be read for a look."""
    section = config.prompts
    sources = {language: _source(section, language) for language in config.languages}
    return count_if_large(sources, _source(section, "en"), limit=section.limit)


def prompt_hashes(prompts: Mapping[str, Sequence[Prompt]]) -> dict[str, str]:
    """One hash per language, over every field of every prompt in order."""
    return {f"prompts/{language}": _hash(group) for language, group in sorted(prompts.items())}


def _hash(prompts: Sequence[Prompt]) -> str:
    known = known_hash(prompts) if isinstance(prompts, PromptShards) else None
    if known is not None:
        return known
    found = ListHash()
    for prompt in prompts:
        found.add(asdict(prompt))
    return found.value


def _is_large(sources: Sequence[Source]) -> bool:
    """Whether the files together are larger than HELD_BYTES; a dataset of the hub is taken to be."""
    files = [source_files(source) for source in sources]
    if any(found is None and is_on_hub(source) for source, found in zip(sources, files, strict=True)):
        return True
    return sum(path.stat().st_size for path in {path for found in files for path in found or ()}) > HELD_BYTES


def _sources(section: Prompts, languages: Sequence[str]) -> dict[str, Source]:
    sources = {language: _source(section, language) for language in languages}
    for language, source in sources.items():
        if language != "en" and source == _source(section, "en"):
            raise ValueError(
                f"prompts in {language!r} and in English would both be read from {source.path}: "
                "write {language} where the path names the language, or name the English file in `english`"
            )
    return sources


def _load(section: Prompts, languages: tuple[str, ...], title: str, progress: Progress) -> dict[str, list[Prompt]]:
    sources = _sources(section, languages)
    with progress.task(title, None) as advance:
        return load_prompts(
            sources,
            english=_source(section, "en"),
            limit=section.limit,
            allow_missing=section.allow_missing,
            advance=advance,
        )


def _source(section: Prompts, language: str) -> Source:
    return Source(
        path=section.of(language),
        config=None if section.config is None else section.config.replace("{language}", language),
        split=section.split,
        id_field=section.id_field,
        instruction_field=section.instruction_field,
    )

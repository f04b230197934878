"""The prompts of a recipe: which sources it names, joined to their English twins by id."""

from dataclasses import asdict

from crossward.config import Config
from crossward.core.records import Prompt
from crossward.pipeline.progress import SILENT, Progress
from crossward.sections import Prompts
from crossward.store.large_prompts import CountedPrompts, count_if_large
from crossward.store.manifest import content_hash
from crossward.store.sources import Source, load_prompts


def training_prompts(config: Config, progress: Progress = SILENT) -> dict[str, list[Prompt]]:
    """The prompts to sample from, by language."""
    return _load(config.prompts, config.languages, "reading prompts: rows", progress)


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


def prompt_hashes(prompts: dict[str, list[Prompt]]) -> dict[str, str]:
    """One hash per language, over every field of every prompt in order."""
    return {
        f"prompts/{language}": content_hash([asdict(prompt) for prompt in group])
        for language, group in sorted(prompts.items())
    }


def _load(section: Prompts, languages: tuple[str, ...], title: str, progress: Progress) -> dict[str, list[Prompt]]:
    sources = {language: _source(section, language) for language in languages}
    for language, source in sources.items():
        if language != "en" and source == _source(section, "en"):
            raise ValueError(
                f"prompts in {language!r} and in English would both be read from {source.path}: "
                "write {language} where the path names the language, or name the English file in `english`"
            )
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

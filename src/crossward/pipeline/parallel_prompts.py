"""English prompts into parallel files: one a language, the same ids, ready for a recipe's `prompts.path`.

What cannot be translated is left out of its language and written, with the reason and the last text, into a file of
its own. A journal beside the files keeps every translation: the same command again asks only for what is missing.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crossward.core.language import language_name
from crossward.core.records import Prompt
from crossward.core.translation import Translation
from crossward.engines.protocols import LanguageIdentifier
from crossward.pipeline.progress import Progress
from crossward.pipeline.streams import ENDPOINT_WINDOW, SAMPLE_WINDOW
from crossward.pipeline.translating import Attempts, Translating, TranslationTally, rounds, shown_round
from crossward.pipeline.translators import TranslatorSettings, open_translator
from crossward.store.json_lines import write_json_lines
from crossward.store.keyed_lines import KeyedLines
from crossward.store.sources import Source, load_prompts, read_rows

PLACE = "{language}"
JOURNAL = "translations.journal.jsonl"
# Told apart from whatever is asked for: what a model writes when it misses the language.
CONTRAST = ("ar", "de", "es", "fr", "it", "ja", "pt", "ru", "zh")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelFiles:
    """Where everything goes: `output` holds {language}."""

    output: str

    def __post_init__(self) -> None:
        if PLACE not in self.output:
            raise ValueError(f"--output {self.output} names one file: write {PLACE} where the path names the language")

    def of(self, language: str) -> Path:
        """The prompts of a language."""
        return Path(self.output.replace(PLACE, language))

    def failed(self, language: str) -> Path:
        """What could not be translated into a language."""
        path = self.of(language)
        return path.with_name(f"{path.stem}.failed.jsonl")

    @property
    def journal(self) -> Path:
        """In the folder that all files share."""
        return Path(self.output.split(PLACE)[0] + "x").parent / JOURNAL


def parallel_prompts(
    source: Source,
    languages: Sequence[str],
    output: str,
    *,
    settings: TranslatorSettings,
    keep_fields: bool = False,
    complete: bool = False,
    limit: int | None = None,
    progress: Progress,
) -> dict[str, Any]:
    """Translate English prompts into each language and write them; returns counts by language.

    `keep_fields`: the English rows' other fields are written into every language's rows. `complete`: only ids that
    every language has. Raises ValueError, after everything is written, where a language has no translation at all.
    """
    files = ParallelFiles(output=output)
    _require_languages(languages)
    with progress.task("reading prompts: rows", None) as advance:
        prompts = load_prompts({"en": source}, limit=limit, advance=advance)["en"]
    more = _other_fields(source, len(prompts)) if keep_fields else [{} for _ in prompts]
    _require_apart(source, files, languages, complete)
    texts = list(dict.fromkeys(prompt.instruction for prompt in prompts))
    found: dict[str, Attempts] = {}
    with KeyedLines(files.journal) as kept:
        if kept.damaged:
            progress.say(f"{files.journal}: {kept.damaged} damaged lines are passed over, their texts are asked again")
        with closing(open_translator(settings, kept=kept, progress=progress)) as translator:
            for language in languages:
                how = Translating(
                    source="en",
                    target=language,
                    identifier=_identifier(language, progress),
                    window=SAMPLE_WINDOW if settings.endpoint is None else ENDPOINT_WINDOW,
                )
                ask = shown_round(translator, how, kept=kept, task=progress.task)
                found[language] = rounds(texts, settings.attempts, ask)
    written = _write(files, prompts, more, found, complete, english=not _is_own_english(source, files))
    summary = _summary(settings, output, prompts, found, written)
    if bare := [language for language in languages if not summary["languages"][language]["n_translated"]]:
        reasons = summary["languages"][bare[0]]["failed"]
        raise ValueError(
            f"no prompt could be translated into {', '.join(bare)} ({_told(reasons)}): look at "
            f"{files.failed(bare[0])}, then name another translator or template, or more --attempts"
        )
    return summary


def _require_languages(languages: Sequence[str]) -> None:
    if not languages:
        raise ValueError("name the languages to translate into, such as --languages es,de,sw")
    for language in languages:
        language_name(language)
    if "en" in languages:
        raise ValueError("the prompts are in English already and are written beside the others: leave en out")
    if twice := sorted({language for language in languages if languages.count(language) > 1}):
        raise ValueError(f"language {twice[0]!r} is named twice: name each once")


def _require_apart(source: Source, files: ParallelFiles, languages: Sequence[str], complete: bool) -> None:
    """No output may overwrite what was read."""
    read = Path(source.path).expanduser().resolve()
    for language in languages:
        if read in (files.of(language).resolve(), files.failed(language).resolve()):
            raise ValueError(f"{source.path} would be overwritten by its translation into {language}: choose --output")
    if complete and _is_own_english(source, files):
        raise ValueError(
            f"--complete would take prompts out of the input {source.path}, which is the English file of --output: "
            "choose another --output"
        )


def _is_own_english(source: Source, files: ParallelFiles) -> bool:
    return Path(source.path).expanduser().resolve() == files.of("en").resolve()


def _other_fields(source: Source, n: int) -> list[Row]:
    """Each row's fields but id, instruction and language, in the prompts' order: the reader keeps every row's place."""
    own = {source.id_field or "id", source.instruction_field or "instruction", "id", "instruction", "language"}
    return [{name: value for name, value in row.items() if name not in own} for row in read_rows(source)[:n]]


def _identifier(language: str, progress: Progress) -> LanguageIdentifier:
    """One a language, so that what passes does not depend on the other languages named."""
    from crossward.engines.lingua_identifier import LinguaIdentifier

    identifier = LinguaIdentifier((language, *CONTRAST))
    if language in identifier.unsupported:
        progress.say(f"translations into {language} are not checked for their language: lingua does not know it")
    return identifier


def _write(
    files: ParallelFiles,
    prompts: Sequence[Prompt],
    more: Sequence[Row],
    found: Mapping[str, Attempts],
    complete: bool,
    *,
    english: bool,
) -> dict[str, int]:
    """Every file, whole or not at all; returns how many prompts stand in each language's."""
    last = {language: {text: tried[-1] for text, tried in attempts.items()} for language, attempts in found.items()}
    whole = {
        prompt.id
        for prompt in prompts
        if all(by_text[prompt.instruction].text is not None for by_text in last.values())
    }
    shown = [(prompt, row) for prompt, row in zip(prompts, more, strict=True) if not complete or prompt.id in whole]
    n_written = {"en": len(shown)}
    if english:
        _write_rows(files.of("en"), [_row(prompt, row) for prompt, row in shown])
    for language, by_text in last.items():
        rows = [
            _row(replace(prompt, language=language, instruction=text), row)
            for prompt, row in shown
            if (text := by_text[prompt.instruction].text) is not None
        ]
        n_written[language] = len(rows)
        _write_rows(files.of(language), rows)
        failed = [
            _failed_row(prompt, by_text[prompt.instruction])
            for prompt in prompts
            if by_text[prompt.instruction].text is None
        ]
        _write_rows(files.failed(language), failed)
    return n_written


def _write_rows(path: Path, rows: Sequence[Row]) -> None:
    """A file of rows; no rows, no file."""
    if rows:
        write_json_lines(path, rows)
    else:
        path.unlink(missing_ok=True)


def _row(prompt: Prompt, more: Row) -> Row:
    return {"id": prompt.id, "language": prompt.language, "instruction": prompt.instruction} | more


def _failed_row(prompt: Prompt, last: Translation) -> Row:
    return {
        "id": prompt.id,
        "reason": last.problem,
        "further_reasons": list(last.also),
        "english_instruction": prompt.instruction,
        "last_text": last.draft,
    }


def _summary(
    settings: TranslatorSettings,
    output: str,
    prompts: Sequence[Prompt],
    found: Mapping[str, Attempts],
    written: Mapping[str, int],
) -> dict[str, Any]:
    languages: dict[str, Any] = {}
    for language, attempts in found.items():
        tally = TranslationTally()
        for prompt in prompts:
            tally.add(attempts[prompt.instruction])
        languages[language] = tally.counts() | {"n_written": written[language]}
    everywhere = sum(
        all(tried[prompt.instruction][-1].text is not None for tried in found.values()) for prompt in prompts
    )
    return {
        "translator": settings.name,
        "output": output,
        "n_prompts": len(prompts),
        "n_in_every_language": everywhere,
        "languages": languages,
    }


def _told(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count} × {reason}" for reason, count in reasons.items())

"""`crossward measure`: what the answers in a file show by themselves, and against those in another file.

The same measures and the same guard that every iteration of a run has, for every language.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from crossward.core.answer_measures import AnswerMeasures
from crossward.core.guard import (
    WATCHED,
    Change,
    change_of,
    false_alarms,
    guard_values,
    prompt_means,
    watched_values,
)
from crossward.engines.protocols import LanguageIdentifier
from crossward.pipeline.measures import answer_counts, measure_answers, require_some
from crossward.pipeline.progress import Progress
from crossward.store.answer_file import AnswerFile, read_answers
from crossward.store.reference_answers import ReferenceAnswers, read_reference_answers

Measured = dict[str, list[AnswerMeasures]]  # by language
SHOWN_ONLY = ("n_chars", "repetition", "chrf")  # no better, or no promise: compared, never called a drop


def measure_file(
    input: Path,
    *,
    language: str | None,
    reference_answers: Path | None,
    against: Path | None,
    progress: Progress,
) -> dict[str, Any]:
    """The measures of a file by language and, with `against`, what changed from there; plain numbers for JSON.

    Under "against", `changes` are tested for drops (higher is better), `shown` are not.
    """
    files = [read_answers(path, language=language) for path in (input, against) if path is not None]
    if len({file.has_ids for file in files}) > 1:
        files = [file if not file.has_ids else file.by_instruction() for file in files]
    references = None if reference_answers is None else read_reference_answers(reference_answers)
    if references is not None and reference_answers is not None:
        _require_references(files[0], references, reference_answers)
    identifier = _identifier(sorted({code for file in files for code in file.groups}))
    measured = [_measured(file, identifier, references, progress) for file in files]
    found: dict[str, Any] = {"languages": {code: answer_counts(rows) for code, rows in sorted(measured[0].items())}}
    if against is not None:
        found["against"] = _compared(measured[0], measured[1], files)
    return found


def _measured(
    file: AnswerFile, identifier: LanguageIdentifier, references: ReferenceAnswers | None, progress: Progress
) -> Measured:
    if not file.has_endings:
        progress.say(f"{file.path} does not say which answers were cut (finish_reasons): truncation is not measured")
    measured: Measured = {}
    with progress.task(f"measuring {file.path}", sum(map(len, file.groups.values()))) as advance:
        for code, groups in file.groups.items():
            rows = list(measure_answers(groups, identifier, references))
            measured[code] = rows if file.has_endings else [replace(row, truncated=None) for row in rows]
            advance(len(groups))
    return measured


def _compared(ours: Measured, base: Measured, files: Sequence[AnswerFile]) -> dict[str, Any]:
    common = sorted(ours.keys() & base.keys())
    if not common:
        raise ValueError(
            f"{files[0].path} ({', '.join(ours)}) and {files[1].path} ({', '.join(base)}) have no language in common"
        )
    return {code: _changes(ours[code], base[code], code, files) for code in common}


def _changes(
    ours: Sequence[AnswerMeasures], base: Sequence[AnswerMeasures], code: str, files: Sequence[AnswerFile]
) -> dict[str, Any]:
    changes = guard_values(watched_values(base), watched_values(ours), shares=WATCHED)
    if not changes:
        raise ValueError(
            f"{files[0].path} and {files[1].path} answer no prompt in common in {code!r}: the first has "
            f"{ours[0].prompt_id!r}, the other {base[0].prompt_id!r}; they are joined by id"
        )
    shown = [change_of(name, prompt_means(base, name), prompt_means(ours, name), share=False) for name in SHOWN_ONLY]
    return {
        "changes": [_plain(change) | {"dropped": change.dropped} for change in changes],
        "shown": [_plain(change) for change in shown if change is not None],
        "expected_false_alarms": false_alarms(len(changes)),
    }


def _plain(change: Change) -> dict[str, Any]:
    return {**asdict(change), "smallest_shown": change.smallest_shown}


def _require_references(file: AnswerFile, references: ReferenceAnswers, path: Path) -> None:
    """One file of reference answers serves one language."""
    if len(file.groups) > 1:
        raise ValueError(
            f"{file.path} has answers in {', '.join(file.groups)}: {path} can answer prompts of one language"
        )
    require_some(references, [group.prompt for groups in file.groups.values() for group in groups], path)


def _identifier(languages: Sequence[str]) -> LanguageIdentifier:
    from crossward.engines.lingua_identifier import LinguaIdentifier

    return LinguaIdentifier(languages)


def dropped(found: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Every (language, change) that is a drop."""
    return [
        (code, change)
        for code, seen in found.get("against", {}).items()
        for change in seen["changes"]
        if change["dropped"]
    ]

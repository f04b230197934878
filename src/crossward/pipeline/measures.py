"""From the answers of a policy to their measures: one row an answer, and the numbers that stage.json holds.

Groups come as a stream; what the identifier is asked at once is a window of them. The definitions are in
core/answer_measures.py.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from crossward.core.answer_measures import (
    AnswerMeasures,
    MeanMeasure,
    identified_as,
    mean_measures,
    measure,
    prose,
    sentences,
)
from crossward.core.language import Identification
from crossward.core.records import Prompt, SampledPrompt
from crossward.engines.chrf import chrf
from crossward.engines.protocols import Advance, LanguageIdentifier, no_progress
from crossward.pipeline.streams import counted, windows
from crossward.store.measures_file import write_measures
from crossward.store.reference_answers import ReferenceAnswers, read_reference_answers
from crossward.store.run_dir import StageDir

Told = list[list[tuple[Identification, list[tuple[str, Identification]]]]]  # of every group, of every answer


def measure_answers(
    groups: Iterable[SampledPrompt], identifier: LanguageIdentifier | None, references: ReferenceAnswers | None
) -> Iterator[AnswerMeasures]:
    """The measures of every answer, in the order of the groups. Languages that cannot be told are not asked for."""
    for window in windows(groups):
        asked = [group for group in window if identifier and group.prompt.language not in identifier.unsupported]
        told = iter(_told(asked, identifier) if identifier else [])
        for group in window:
            known = identifier is not None and group.prompt.language not in identifier.unsupported
            yield from _measured(group, next(told) if known else None, references)


def _measured(
    group: SampledPrompt,
    told: Sequence[tuple[Identification, list[tuple[str, Identification]]]] | None,
    references: ReferenceAnswers | None,
) -> Iterator[AnswerMeasures]:
    reference = references.of(group.prompt) if references else None
    for k, response in enumerate(group.responses):
        yield measure(
            response,
            prompt_id=group.prompt.id,
            language=group.prompt.language,
            answer=k,
            identified=told[k][0] if told else None,
            by_sentence=told[k][1] if told else [],
            chrf=None if reference is None else chrf(response.text, reference),
        )


def _told(groups: Sequence[SampledPrompt], identifier: LanguageIdentifier) -> Told:
    """The language of each answer's prose, and of each of its sentences: one call for all."""
    texts = [[response.text for response in group.responses] for group in groups]
    split = [[sentences(text) for text in answers] for answers in texts]
    asked = [prose(text) for answers in texts for text in answers]
    asked += [sentence for answers in split for found in answers for sentence in found]
    identified = iter(identifier.identify(asked))
    whole = [[next(identified) for _ in answers] for answers in texts]
    parts = [[[(sentence, next(identified)) for sentence in found] for found in answers] for answers in split]
    return [list(zip(*pair, strict=True)) for pair in zip(whole, parts, strict=True)]


def answer_counts(rows: Sequence[AnswerMeasures]) -> dict[str, Any]:
    """The numbers of one language, as stage.json and `crossward measure --json` hold them.

    Counts, `mean_chars`, `fidelity` (share of answers in the language of their prompt, among those whose language could
    be told), `identified_as`, and under `measures` each mean with its 95 % interval over prompts.
    """
    means = mean_measures(rows)
    truncated = [row.truncated for row in rows if row.truncated is not None]
    counts: dict[str, Any] = {
        "prompts": len({row.prompt_id for row in rows}),
        "answers": len(rows),
        "truncated": sum(truncated) if truncated or not rows else None,
        "empty": sum(row.empty for row in rows),
        "looping": sum(row.looping for row in rows),
        "mean_chars": round(means["n_chars"].interval.estimate, 2) if rows else 0.0,
        "measures": {name: _plain(mean) for name, mean in means.items()},
    }
    named = identified_as(rows)
    if named is None:
        return counts
    fidelity = means.get("fidelity")
    return counts | {"identified_as": named, "fidelity": fidelity.interval.estimate if fidelity else None}


def _plain(mean: MeanMeasure) -> dict[str, Any]:
    return {"n_answers": mean.n_answers, **asdict(mean.interval)}


def write_stage_measures(
    stage: StageDir,
    answers: Mapping[str, Iterable[SampledPrompt]],
    identifier: LanguageIdentifier | None,
    references: Mapping[str, ReferenceAnswers],
    *,
    advance: Advance = no_progress,
) -> tuple[list[Path], dict[str, dict[str, Any]]]:
    """Measure the answers of every language: one file each, always written anew, and the counts for the manifest."""
    files: list[Path] = []
    counts: dict[str, dict[str, Any]] = {}
    for language, groups in answers.items():
        rows = list(counted(measure_answers(groups, identifier, references.get(language)), advance))
        files.append(stage.measures_file(language))
        write_measures(files[-1], rows)
        counts[language] = answer_counts(rows)
    return files, counts


def read_references(path: str | None, prompts: Mapping[str, Sequence[Prompt]]) -> dict[str, ReferenceAnswers]:
    """The reference answers to the prompts of each language; the path names the language as {language}. None: none.

    Prompts without one are measured without chrF. ValueError where a language's file is missing or has no answer to
    any prompt, or where one file would serve several languages.
    """
    if path is None:
        return {}
    if len(prompts) > 1 and "{language}" not in path:
        raise ValueError(
            f"reference answers for {', '.join(sorted(prompts))} would all be read from {path}: write {{language}} "
            "where the path names the language"
        )
    found: dict[str, ReferenceAnswers] = {}
    for language, asked in prompts.items():
        file = path.replace("{language}", language)
        found[language] = read_reference_answers(Path(file))
        require_some(found[language], asked, file)
    return found


def require_some(references: ReferenceAnswers, prompts: Iterable[Prompt], file: str | Path) -> None:
    """Raise ValueError where a file of reference answers has none to any of the prompts."""
    asked = list(prompts)
    if asked and not any(references.of(prompt) is not None for prompt in asked):
        known = next(iter(references.by_id or references.by_instruction))
        raise ValueError(
            f"{file} answers none of the {len(asked)} prompts: the first here has id {asked[0].id!r}, the first there "
            f"{known!r}; they are joined by id"
        )


def reference_hashes(references: Mapping[str, ReferenceAnswers]) -> dict[str, str]:
    """What a stage is made from, one hash per language."""
    return {f"reference_answers/{language}": found.content_hash for language, found in sorted(references.items())}

"""Single stages on single files: file in, file out, a summary back. The same functions that a run uses.

The verbs that take hours, sample and score, are in resumable.py. Pairing needs no model, so none is imported for it.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, cast

from crossward.core.language import language_name
from crossward.core.pairing import PairingRules, Survey
from crossward.core.records import PreferencePair, Prompt
from crossward.engines.protocols import Judged, LanguageIdentifier, ModelSpec, Training, no_progress
from crossward.pipeline.counts import PairTally
from crossward.pipeline.progress import MEGABYTE, SILENT, Progress, megabytes
from crossward.pipeline.stages import with_margin
from crossward.pipeline.streams import identified
from crossward.pipeline.training import counting_left_out, with_reference
from crossward.store import edges, pair_rows
from crossward.store.noise_file import read_margins
from crossward.store.sources import Source, load_prompts, read_rows

Summary = dict[str, Any]
QUIET_MEGABYTES = 50  # paired in a few seconds


def read_prompts(
    input: Path,
    *,
    language: str | None,
    english: Path | None,
    id_field: str,
    instruction_field: str,
    progress: Progress = SILENT,
) -> dict[str, list[Prompt]]:
    """Prompts of one language, named by `language` or else by the rows' own "language" field, with English twins.

    `english` may be left out where the language is English or where every row holds its "english_instruction".
    """
    source = Source(path=str(input), id_field=id_field, instruction_field=instruction_field)
    rows = read_rows(source)
    named = {str(row.get("language", "")) for row in rows} if language is None else {language}
    if len(named) != 1 or "" in named:
        found = ", ".join(sorted(named - {""})) or "none"
        raise ValueError(f"{input}: the prompts must be of one language, found {found}: name it with --language")
    code = named.pop()
    language_name(code)
    if code == "en":
        with progress.task(f"reading {input}: rows", None) as advance:
            return load_prompts({"en": source}, advance=advance)
    if english is not None:
        twins = Source(path=str(english), id_field=id_field, instruction_field=instruction_field)
    elif all("english_instruction" in row for row in rows):
        twins = Source(path=str(input), id_field=id_field, instruction_field="english_instruction")
    else:
        raise ValueError(f"{input}: prompts in {code!r} need their English twins: name their file with --english")
    with progress.task(f"reading {input}: rows", None) as advance:
        return load_prompts({code: source}, english=twins, allow_missing=True, advance=advance)


def margins_for(min_margin: str, input: Path) -> tuple[float, dict[str, float] | None]:
    """What --min-margin says: one number of nats, or with "auto" the noise floor's margin of each language."""
    if min_margin == "auto":
        return 0.0, read_margins(input)
    try:
        number = float(min_margin)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise ValueError(f"--min-margin must be a number of nats, 0 or more, or auto, got {min_margin!r}")
    return number, None


def pair_file(
    input: Path,
    output: Path,
    *,
    rules: PairingRules,
    margins: Mapping[str, float] | None = None,
    identifier: LanguageIdentifier | None,
    progress: Progress,
) -> dict[str, Summary]:
    """Pair a file of scored groups, one α per language, and write the pairs. Returns the summary per language.

    `margins` are smallest margins by language, in the place of the rules' one.
    """
    summaries: dict[str, Summary] = {}
    with edges.scored_in(input) as groups, ExitStack() as shown:
        advance = no_progress
        if groups.size > QUIET_MEGABYTES * MEGABYTE:
            title = f"pairing {input} (MB, read twice)"
            advance = shown.enter_context(progress.task(title, 2 * groups.size // MEGABYTE))
        groups.watch(megabytes(advance))
        surveys: dict[str, Survey] = {}
        for group, languages in identified(groups, rules, identifier):
            code = group.prompt.language
            if code not in surveys:
                surveys[code] = Survey(with_margin(rules, margins, code))
            surveys[code].add(group, languages)

        def pairs() -> Iterator[PreferencePair]:
            for code in groups.languages:
                found = surveys.pop(code)
                control, tally = found.control(), PairTally()
                for outcome in found.outcomes(groups.of(code), control.alpha if control else 0.0):
                    tally.counted(outcome)
                    if isinstance(outcome, PreferencePair):
                        yield outcome
                summaries[code] = tally.counts(found, control)

        pair_rows.write_pairs(output, pairs())
    return summaries


def train_file(
    input: Path,
    output: Path,
    *,
    policy: ModelSpec,
    reference: ModelSpec,
    training: Training,
    batch_tokens: int | None,
    progress: Progress,
) -> Summary:
    """Train on a file of pairs over an explicit reference; writes a checkpoint and its metrics beside it."""
    from crossward.engines.hf_scorer import HfScorer
    from crossward.engines.models import settle
    from crossward.engines.trl_trainer import TrlTrainer
    from crossward.pipeline.align_rows import with_own_ids
    from crossward.pipeline.comparable import comparable_tokens

    if output.exists():
        raise ValueError(f"{output} already exists: choose another --output, or delete it first")
    settle()
    read = pair_rows.read_pairs(input)
    tokens = comparable_tokens(policy, reference)
    rows = cast(list[pair_rows.PairRow], with_own_ids(read, tokens, progress))
    judged = [
        Judged(instruction=row.instruction, responses=(row.chosen, row.rejected), name=f"pair {row.id!r}")
        for row in rows
    ]
    with closing(HfScorer(reference, tokens, batch_tokens=batch_tokens)) as scorer:
        pairs = with_reference(judged, scorer, progress)
    metrics = output.with_name(output.name + ".metrics.jsonl")
    with progress.task("optimiser steps", training.steps(len(pairs))) as advance:
        trainer = TrlTrainer(policy, tokens, say=progress.say)
        result = trainer.train(pairs, training, output=output, metrics=metrics, advance=advance)
    return counting_left_out(result, len(rows) - len(pairs))


def identifier_for(language_filter: str, input: Path) -> LanguageIdentifier | None:
    """The identifier for the languages of a file of scored groups; None for "none"."""
    match language_filter:
        case "none":
            return None
        case "lingua":
            from crossward.engines.lingua_identifier import LinguaIdentifier

            with edges.scored_in(input) as groups:
                languages = {group.prompt.language for group in groups}
            return LinguaIdentifier(tuple(sorted({*languages, "en"})))
        case _:
            raise ValueError(f"language filter must be 'none' or 'lingua', got {language_filter!r}")

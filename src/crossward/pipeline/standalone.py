"""Single stages on single files: file in, file out, a summary back. The same functions that a run uses."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from crossward.core.language import language_name
from crossward.core.pairing import PairingRules
from crossward.core.records import PreferencePair, Prompt, SampledPrompt, ScoredPrompt, View
from crossward.engines.hf_sampler import HfSampler
from crossward.engines.hf_scorer import HfScorer
from crossward.engines.models import settle
from crossward.engines.protocols import Judged, LanguageIdentifier, ModelSpec, Sampling, Scorer, Training, TrainingPair
from crossward.engines.tokens import ChatTokens, compare_tokens, load_tokens
from crossward.pipeline.counts import pairing_counts, sampled_counts, scored_counts
from crossward.pipeline.progress import Progress
from crossward.pipeline.stages import pair_language, score_groups
from crossward.store import edges
from crossward.store.sources import Source, load_prompts, read_rows

Summary = dict[str, Any]
Group = TypeVar("Group", SampledPrompt, ScoredPrompt)


def sample_file(
    prompts: Mapping[str, Sequence[Prompt]],
    output: Path,
    *,
    policy: ModelSpec,
    sampling: Sampling,
    batch_rows: int,
    progress: Progress,
) -> Summary:
    """Sample responses to prompts and write the groups."""
    settle()
    sampler = HfSampler(policy, load_tokens(policy), batch_rows=batch_rows)
    total = sum(len(group) for group in prompts.values()) * sampling.n
    groups: list[SampledPrompt] = []
    with progress.task("responses", total) as advance:
        for _, group in sorted(prompts.items()):
            groups += sampler.sample(group, sampling, advance=advance)
    edges.write_groups(output, groups)
    return {"languages": {language: sampled_counts(found) for language, found in by_language(groups).items()}}


def read_prompts(
    input: Path, *, language: str | None, english: Path | None, id_field: str, instruction_field: str
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
        return load_prompts({"en": source})
    if english is not None:
        twins = Source(path=str(english), id_field=id_field, instruction_field=instruction_field)
    elif all("english_instruction" in row for row in rows):
        twins = Source(path=str(input), id_field=id_field, instruction_field="english_instruction")
    else:
        raise ValueError(f"{input}: prompts in {code!r} need their English twins: name their file with --english")
    return load_prompts({code: source}, english=twins, allow_missing=True)


def score_file(
    input: Path,
    output: Path,
    *,
    policy: ModelSpec,
    reference: ModelSpec,
    view: View,
    compatibility: str,
    batch_tokens: int,
    progress: Progress,
) -> Summary:
    """Score every response of a file of groups under both models and write the scored groups."""
    settle()
    groups = edges.read_groups(input)
    if view == "crosslingual":
        for code in by_language(groups):
            try:
                language_name(code)
            except ValueError as error:
                raise ValueError(f"{input}: {error}") from None
    policy_tokens, reference_tokens = load_tokens(policy), load_tokens(reference)
    if differences := compare_tokens(policy_tokens, reference_tokens):
        raise ValueError(
            f"policy {policy.path} and reference {reference.path} differ: {'; '.join(differences)}: "
            "a log-ratio needs the same ids under both, so use the checkpoint that the policy was aligned from"
        )
    scorers = [_scorer(spec, policy_tokens, compatibility, batch_tokens) for spec in (policy, reference)]
    total = 2 * sum(len(group.responses) for group in groups)
    with progress.task("log-probabilities", total) as advance:
        scored = score_groups(groups, view, *scorers, advance=advance)
    edges.write_scored(output, scored)
    return {"view": view, "languages": {code: scored_counts(found) for code, found in by_language(scored).items()}}


def pair_file(
    input: Path, output: Path, *, rules: PairingRules, identifier: LanguageIdentifier | None
) -> dict[str, Summary]:
    """Pair a file of scored groups, one α per language, and write the pairs. Returns the summary per language."""
    summaries: dict[str, Summary] = {}
    pairs: list[PreferencePair] = []
    for language, groups in by_language(edges.read_scored(input)).items():
        made = pair_language(groups, rules, identifier)
        summaries[language] = pairing_counts(len(groups), made)
        pairs += made.pairs
    edges.write_pairs(output, pairs)
    return summaries


def train_file(
    input: Path,
    output: Path,
    *,
    policy: ModelSpec,
    reference: ModelSpec,
    training: Training,
    batch_tokens: int,
    progress: Progress,
) -> Summary:
    """Train on a file of pairs over an explicit reference; writes a checkpoint and its metrics beside it."""
    from crossward.engines.trl_trainer import TrlTrainer

    if output.exists():
        raise ValueError(f"{output} already exists: choose another --output, or delete it first")
    settle()
    rows = edges.read_pairs(input)
    tokens = load_tokens(policy)
    if differences := compare_tokens(tokens, load_tokens(reference)):
        raise ValueError(f"policy {policy.path} and reference {reference.path} differ: {'; '.join(differences)}")
    judged = [Judged(instruction=row.instruction, responses=(row.chosen, row.rejected)) for row in rows]
    with progress.task("reference log-probabilities", 2 * len(rows)) as advance:
        logprobs = HfScorer(reference, tokens, batch_tokens=batch_tokens).score(judged, advance=advance)
    pairs = [
        TrainingPair(
            instruction=row.instruction,
            chosen=row.chosen,
            rejected=row.rejected,
            reference_chosen_logprob=chosen.logprob,
            reference_rejected_logprob=rejected.logprob,
        )
        for row, (chosen, rejected) in zip(rows, logprobs, strict=True)
    ]
    metrics = output.with_name(output.name + ".metrics.jsonl")
    with progress.task("optimiser steps", training.steps(len(pairs))) as advance:
        return TrlTrainer(policy, tokens).train(pairs, training, output=output, metrics=metrics, advance=advance)


def identifier_for(language_filter: str, input: Path) -> LanguageIdentifier | None:
    """The identifier for the languages of a file of scored groups; None for "none"."""
    match language_filter:
        case "none":
            return None
        case "lingua":
            from crossward.engines.lingua_identifier import LinguaIdentifier

            languages = {group.prompt.language for group in edges.read_scored(input)}
            return LinguaIdentifier(tuple(sorted({*languages, "en"})))
        case _:
            raise ValueError(f"language filter must be 'none' or 'lingua', got {language_filter!r}")


def by_language(groups: Sequence[Group]) -> dict[str, list[Group]]:
    """Groups by the language of their prompt, in the order in which they came."""
    found: dict[str, list[Group]] = {}
    for group in groups:
        found.setdefault(group.prompt.language, []).append(group)
    return dict(sorted(found.items()))


def _scorer(spec: ModelSpec, tokens: ChatTokens, compatibility: str, batch_tokens: int) -> Scorer:
    match compatibility:
        case "none":
            return HfScorer(spec, tokens, batch_tokens=batch_tokens)
        case "published":
            from crossward.engines.published_scorer import PublishedScorer

            return PublishedScorer(spec, tokens)
        case _:
            raise ValueError(f"compatibility must be 'none' or 'published', got {compatibility!r}")

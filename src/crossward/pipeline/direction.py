"""The pair stage of `method: lidr`: greedy answers, their translations both ways, and pairs by direction.

A rival of the implicit reward under the same roof: what it leaves is a pair stage as any other (core/direction.py).
"""

from collections import Counter
from pathlib import Path

from crossward.core.direction import english_pair, native_pair
from crossward.core.records import PreferencePair, SampledPrompt, Skipped
from crossward.pipeline.assemble import Engines, Model
from crossward.pipeline.progress import Progress
from crossward.pipeline.ranking import translate_responses
from crossward.pipeline.run_stage import Made, run_stage
from crossward.pipeline.stage_files import read_sampled
from crossward.store import tables
from crossward.store.manifest import StageManifest
from crossward.store.run_dir import IterationDir


def pair_by_direction(
    here: IterationDir, sampled: StageManifest, policy: Model, engines: Engines, progress: Progress
) -> StageManifest:
    """Translate both ways, then for every prompt and language one pair in English and one in the language."""
    to_english = translate_responses(here, sampled, policy, engines, progress)
    from_english = translate_responses(here, sampled, policy, engines, progress, from_english=True)

    def work() -> Made:
        outcomes = pairs_by_direction(
            {language: read_sampled(here.stage("sample"), language) for language in here.stage("sample").languages()},
            {language: read_sampled(here.stage("translate"), language) for language in to_english.counts["languages"]},
            {
                language: read_sampled(here.stage("translate-from-english"), language)
                for language in from_english.counts["languages"]
            },
        )
        files: list[Path] = []
        for language, found in outcomes.items():
            files.append(here.stage("pair").language_file(language))
            tables.write_outcomes(files[-1], found)
        return files, {"languages": {language: _counts(found) for language, found in outcomes.items()}}

    inputs = {
        "sample": sampled.digest,
        "translate": to_english.digest,
        "translate-from-english": from_english.digest,
    }
    return run_stage(here.stage("pair"), inputs, {"method": "lidr"}, work, progress=progress)


def pairs_by_direction(
    answers: dict[str, list[SampledPrompt]],
    in_english: dict[str, list[SampledPrompt]],
    from_english: dict[str, list[SampledPrompt]],
) -> dict[str, list[PreferencePair | Skipped]]:
    """By language of the prompt: a pair or a reason for every prompt, in English one for every other language."""
    english = {group.prompt.id: group for group in answers["en"]}
    outcomes: dict[str, list[PreferencePair | Skipped]] = {"en": []}
    for language in sorted(in_english):
        outcomes[language] = []
        for native, to_en, from_en in zip(answers[language], in_english[language], from_english[language], strict=True):
            assert native.prompt == to_en.prompt == from_en.prompt, "translations stand beside what they translate"
            twin = english[native.prompt.id]
            outcomes["en"].append(english_pair(twin.prompt, twin.responses[0], to_en.responses[0]))
            outcomes[language].append(native_pair(native.prompt, from_en.responses[0], native.responses[0]))
    return outcomes


def _counts(outcomes: list[PreferencePair | Skipped]) -> dict[str, object]:
    """The summary of one language, with the keys of every pair stage."""
    pairs = [outcome for outcome in outcomes if isinstance(outcome, PreferencePair)]
    gap = sum(p.chosen.n_chars - p.rejected.n_chars for p in pairs) / len(pairs) if pairs else None
    return {
        "n_groups": len(outcomes),
        "n_pairs": len(pairs),
        "alpha": 0.0,
        "length_gap_before": gap,
        "length_gap_after": gap,
        "skipped": dict(Counter(outcome.reason for outcome in outcomes if isinstance(outcome, Skipped))),
        "removed_responses": {},
        "mean_margin": None,
        "curve": [],
    }

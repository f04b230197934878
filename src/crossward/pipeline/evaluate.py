"""Answers against a baseline's, on a user's own files: joined by id, judged, tabulated; everything in one folder.

OUT/judgements.jsonl   every answer of the judge, kept as it comes: what a killed run continues from
OUT/verdicts.jsonl     one verdict an instruction, model and language
OUT/annotations/       the same as alpaca_eval's annotations, a file a model and language
OUT/evaluation.json    the rates, and what the judge did
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossward.core.judging import Comparison
from crossward.core.language import language_name
from crossward.core.published_winrates import PublishedData
from crossward.core.winrates import RESAMPLES, Variant, WinRates
from crossward.engines.protocols import Judge
from crossward.pipeline.judges import JudgeSettings, opened_judge, read_template
from crossward.pipeline.judging import Judged, estimate, judge_comparisons, questions_of, remarks
from crossward.pipeline.progress import Progress
from crossward.pipeline.winrates import as_summary, rates_of
from crossward.store.files import write_text
from crossward.store.model_outputs import ModelOutput, ModelOutputs, joined, read_model_outputs
from crossward.store.run_dir import safe_name
from crossward.store.verdict_file import write_annotations, write_verdicts


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What was found: rates, and by (language, model) what the judge did."""

    rates: WinRates
    judged: Judged
    spent: dict[str, Any]

    def summary(self) -> dict[str, Any]:
        """As plain values."""
        judge = [
            {"language": language, "model": model, **tally.counts()}
            for (language, model), tally in self.judged.tallies.items()
        ]
        return as_summary(self.rates) | {"judge": judge, "spent": self.spent}


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthControl:
    """How length is controlled, and how its intervals are drawn."""

    variant: Variant = "joint"
    published: PublishedData | None = None
    resamples: int = RESAMPLES
    seed: int = 0


def comparisons_of(
    answers: Sequence[tuple[str | None, Path]],
    baseline: Path,
    *,
    languages: Sequence[str],
    baseline_name: str | None = None,
    allow_missing: bool = False,
    progress: Progress,
) -> list[Comparison]:
    """What there is to judge: every (name, file) of answers in every language; {language} in a path is filled in.

    A name left out is the file's generator. Raises ValueError for files that do not fit, and equal or missing names.
    """
    found: list[Comparison] = []
    if len(set(languages)) < len(languages):
        raise ValueError(f"each language may be named once, got {', '.join(languages)}")
    for language in languages:
        language_name(language)
        base = _read(baseline, language, languages)
        base_name = baseline_name or base.generator
        if base_name is None:
            raise ValueError(f"{base.path} names no generator: name the baseline's model with --baseline-name")
        names: set[str] = set()
        for name, path in answers:
            ours = _read(path, language, languages)
            model = name or ours.generator
            if model is None:
                raise ValueError(f"{ours.path} names no generator: name the model with --name")
            if model in names:
                raise ValueError(f"two files of answers are named {model!r}: tell them apart with --name")
            if model == base_name:
                raise ValueError(f"{ours.path}: {model!r} would be judged against itself: name another baseline")
            names.add(model)
            rows, left_out = joined(ours, base, allow_missing=allow_missing)
            if left_out:
                progress.say(f"{model} ({language}): {left_out} instructions are in one file only and are left out")
            found += compared(rows, language, model=model, baseline=base_name)
    return found


def compared(
    rows: Sequence[tuple[str, ModelOutput, ModelOutput]], language: str, *, model: str, baseline: str
) -> list[Comparison]:
    """Rows of (id, answer, baseline's answer) as comparisons."""
    return [
        Comparison(
            id=id,
            language=language,
            instruction=answer.instruction,
            model=model,
            baseline=baseline,
            model_answer=answer.output,
            baseline_answer=other.output,
        )
        for id, answer, other in rows
    ]


def _read(path: Path, language: str, languages: Sequence[str]) -> ModelOutputs:
    here = Path(str(path).replace("{language}", language))
    if here == path and len(languages) > 1:
        raise ValueError(f"{path} is one file for {len(languages)} languages: put {{language}} where its code stands")
    if not here.is_file() and here != path:
        raise ValueError(f"file {here} does not exist: {path} has none for the language {language!r}")
    return read_model_outputs(here)


def evaluate_files(
    comparisons: Sequence[Comparison],
    output: Path,
    *,
    settings: JudgeSettings,
    control: LengthControl,
    progress: Progress,
) -> Evaluation:
    """Judge, write the folder, and tabulate. Run again, it asks only what has no answer yet.

    Raises ValueError where the judge stopped before the end: what it said is kept.
    """
    template = read_template(settings.template)
    require_room_for_names(comparisons)
    with opened_judge(settings, output / "judgements.jsonl", progress) as judge:
        tell_estimate(comparisons, settings, progress)
        judged = judge_comparisons(
            comparisons, judge, template, order=settings.order, seed=settings.seed, progress=progress
        )
        spent = told_spending(judge, settings, progress)
        require_finished(judge, judged)
    for line in remarks(judged):
        progress.say(line)
    write_verdicts(output / "verdicts.jsonl", judged.rows)
    write_all_annotations(output / "annotations", comparisons, judged, judge.name)
    rates = rates_of(
        judged.verdicts,
        variant=control.variant,
        published=control.published,
        resamples=control.resamples,
        seed=control.seed,
        few="raw",
        progress=progress,
    )
    found = Evaluation(rates=rates, judged=judged, spent=spent)
    write_text(output / "evaluation.json", json.dumps(found.summary(), ensure_ascii=False, indent=1) + "\n")
    return found


def estimate_files(comparisons: Sequence[Comparison], settings: JudgeSettings) -> dict[str, Any]:
    """What judging would take: questions, tokens, and money where prices are known. Asks nobody."""
    questions = questions_of(comparisons, read_template(settings.template), order=settings.order, seed=settings.seed)
    tokens = estimate(questions)
    return {
        "comparisons": len(comparisons),
        "questions": len(questions),
        "prompt_tokens": tokens,
        "cost": round(settings.budget.cost(tokens, len(questions)), 4),
    }


def tell_estimate(comparisons: Sequence[Comparison], settings: JudgeSettings, progress: Progress) -> None:
    """One line before anything is paid."""
    found = estimate_files(comparisons, settings)
    money = f", about {found['cost']:.2f} at the prices given" if found["cost"] else ""
    progress.say(
        f"{found['questions']} questions to {settings.name}, about {found['prompt_tokens']} tokens{money}, "
        "less what was answered before"
    )


def told_spending(judge: Judge, settings: JudgeSettings, progress: Progress) -> dict[str, Any]:
    """What this run paid for, told and returned."""
    spending = judge.spending
    spent = {
        "answers": spending.n_answers,
        "prompt_tokens": spending.prompt_tokens,
        "completion_tokens": spending.completion_tokens,
        "cost": round(spending.cost, 6),
    }
    money = f", {spending.cost:.2f} at the prices given" if spending.cost else ""
    progress.say(
        f"spent in this run: {spending.n_answers} answers, {spending.prompt_tokens} prompt and "
        f"{spending.completion_tokens} completion tokens{money}"
    )
    return spent


def require_finished(judge: Judge, judged: Judged) -> None:
    """Raise ValueError where the judge left questions unasked."""
    if judge.stopped is not None:
        n = sum(tally.n for tally in judged.tallies.values())
        nulls = sum(tally.nulls.total() for tally in judged.tallies.values())
        raise ValueError(
            f"stopped with {n - nulls} of {n} verdicts, which are kept: {judge.stopped}; the same command goes on there"
        )


def require_room_for_names(comparisons: Sequence[Comparison]) -> None:
    """Raise ValueError where a model's name cannot name a file of annotations."""
    for name in {comparison.model for comparison in comparisons}:
        safe_name(name.replace("/", "_"))


def write_all_annotations(
    folder: Path, comparisons: Sequence[Comparison], judged: Judged, judge_name: str
) -> list[Path]:
    """alpaca_eval's annotations.json by model and language: output_1 is the baseline's, preferences are 1 to 2."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for comparison, (verdict, _) in zip(comparisons, judged.rows, strict=True):
        name = f"{comparison.model.replace('/', '_')}.{comparison.language}.json"
        groups.setdefault(name, []).append(
            {
                "id": comparison.id,
                "instruction": comparison.instruction,
                "output_1": comparison.baseline_answer,
                "generator_1": comparison.baseline,
                "output_2": comparison.model_answer,
                "generator_2": comparison.model,
                "annotator": judge_name,
                "language": comparison.language,
                "preference": None if verdict.preference is None else 1 + verdict.preference,
            }
        )
    for name, rows in groups.items():
        write_annotations(folder / name, rows)
    return [folder / name for name in groups]

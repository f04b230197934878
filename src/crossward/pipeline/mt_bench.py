"""`crossward mt-bench`: questions in several languages, a policy's two-turn answers, a judge's ratings, a table.

Answers and ratings are kept in the output folder as they come: the same call again asks for nothing twice, and asks
again for every rating that is missing. The definitions are in core/mt_bench.py.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from crossward.core.judge_templates import JudgeTemplates
from crossward.core.language import language_name
from crossward.core.mt_bench import TURNS, Question, Rating, reasons, score
from crossward.engines.endpoint import Endpoint
from crossward.engines.mt_bench_judge import Graded, Grading, MtBenchJudge, ToGrade
from crossward.pipeline.mt_bench_answers import Answered, AskedPolicy, ask_policy
from crossward.pipeline.progress import Progress
from crossward.store import mt_bench_files
from crossward.store.files import write_text
from crossward.store.judge_templates import read_templates
from crossward.store.keyed_lines import KeyedLines

Summary = dict[str, Any]
Questions = dict[str, list[Question]]
Answers = Mapping[str, Mapping[str, Answered]]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionFiles:
    """Where questions and right answers are, {language} standing for the code."""

    questions: str
    languages: tuple[str, ...]
    references: str | None = None
    allow_missing_references: bool = False


def mt_bench(
    output: Path,
    *,
    files: QuestionFiles,
    answers: str | None,
    policy: AskedPolicy | None,
    judge: Endpoint,
    grading: Grading,
    templates: Path | None = None,
    progress: Progress,
) -> Summary:
    """Grade a policy, or answer files that are there; writes answers/, ratings.jsonl and scores.json in `output`."""
    if (answers is None) == (policy is None):
        raise ValueError("name what to grade: a policy (--policy, or --engine openai), or its answers (--answers)")
    questions = load_questions(files)
    wording = read_templates(templates)
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output} is a file: --output expects a folder")
    with KeyedLines(output / "ratings.journal.jsonl") as journal:
        if journal.damaged:
            progress.say(f"{journal.path}: {journal.damaged} damaged lines passed over; their ratings are asked again")
        rater = MtBenchJudge(judge, grading, kept=journal, say=progress.say)  # first: a wrong key is told before hours
        if answers is not None:
            answered = given_answers(questions, answers, progress)
        else:
            assert policy is not None
            answered = ask_policy(questions, policy, kept=output / "answers.kept.jsonl", progress=progress)
            _write_answers(output, answered, policy.name)
        ratings, graded = _grade(questions, answered, wording, rater, progress)
        mt_bench_files.write_ratings(
            output / "ratings.jsonl", ratings, [found.text for found in graded], judge=judge.model
        )
    summary = {
        "model": answers if policy is None else policy.name,
        "judge": judge.model,
        **summarise(ratings, graded, answered),
    }
    write_text(output / "scores.json", json.dumps(summary, ensure_ascii=False, indent=2) + "\n")
    return summary


def load_questions(files: QuestionFiles) -> Questions:
    """The questions of each language with their references: those of the reference file, else the question's own."""
    languages = files.languages
    if not languages:
        raise ValueError("name the languages to grade in: --language en --language es")
    if len(set(languages)) < len(languages):
        raise ValueError(f"each --language may be given once, got {', '.join(languages)}")
    mt_bench_files.require_pattern(files.questions, languages, "--questions")
    if files.references is not None:
        mt_bench_files.require_pattern(files.references, languages, "--references")
    questions: Questions = {}
    for language in languages:
        language_name(language)
        own = mt_bench_files.read_questions(mt_bench_files.file_of(files.questions, language), language)
        if files.references is not None:
            right = mt_bench_files.read_references(mt_bench_files.file_of(files.references, language))
            own = [replace(item, references=right.get(item.id, item.references)) for item in own]
        questions[language] = own
        lacking = [item.id for item in own if item.needs_reference and item.references is None]
        if lacking and not files.allow_missing_references:
            raise ValueError(
                f"{language}: {len(lacking)} questions of math, reasoning or coding have no reference answer "
                f"({', '.join(lacking)}): name a file with --references, or --allow-missing-references"
            )
    return questions


def given_answers(questions: Questions, pattern: str, progress: Progress) -> dict[str, dict[str, Answered]]:
    """Answers from files, one for each question; says how many were to other questions."""
    mt_bench_files.require_pattern(pattern, tuple(questions), "--answers")
    answered: dict[str, dict[str, Answered]] = {}
    for language, group in questions.items():
        path = mt_bench_files.file_of(pattern, language)
        found = mt_bench_files.read_answers(path)
        if missing := [item.id for item in group if item.id not in found]:
            raise ValueError(
                f"{path}: {len(missing)} of {len(group)} questions have no answer ({', '.join(missing[:10])}): "
                "add them, or take the questions out"
            )
        if len(found) > len(group):
            progress.say(f"{path}: {len(found) - len(group)} answers are to questions that are not asked: left out")
        answered[language] = {item.id: Answered(turns=found[item.id]) for item in group}
    return answered


def summarise(ratings: Sequence[Rating], graded: Sequence[Graded], answered: Answers) -> Summary:
    """Scores by language (and there by category and turn) and over all; nulls by reason; tokens spent."""
    languages = list(dict.fromkeys(rating.question.language for rating in ratings))
    pairs = list(zip(ratings, graded, strict=True))
    found: dict[str, Summary] = {}
    for language in languages:
        own = [(rating, item) for rating, item in pairs if rating.question.language == language]
        found[language] = _language([rating for rating, _ in own], [item for _, item in own], answered[language])
    return {
        "languages": found,
        "all": asdict(score(ratings)) if len(languages) > 1 else None,
        "reasons": reasons(ratings),
        "tokens": _tokens(graded),
        "tokens_this_run": _tokens([item for item in graded if item.fresh]),
    }


def _grade(
    questions: Questions, answered: Answers, wording: JudgeTemplates, judge: MtBenchJudge, progress: Progress
) -> tuple[list[Rating], list[Graded]]:
    asked = [(question, turn) for group in questions.values() for question in group for turn in TURNS]
    to_grade = [
        ToGrade(
            question_id=question.id,
            language=question.language,
            turn=turn,
            message=wording.render(question, answered[question.language][question.id].turns, turn),
        )
        for question, turn in asked
    ]
    with progress.task("ratings", len(to_grade)) as advance:
        graded = judge.grade(to_grade, advance=advance)
    ratings = [
        Rating(question=question, turn=turn, value=found.value, reason=found.reason)
        for (question, turn), found in zip(asked, graded, strict=True)
    ]
    if nulls := sum(rating.value is None for rating in ratings):
        progress.say(f"{nulls} of {len(ratings)} answers have no rating: run the same command again to ask for them")
    return ratings, graded


def _language(ratings: Sequence[Rating], graded: Sequence[Graded], answered: Mapping[str, Answered]) -> Summary:
    categories = dict.fromkeys(rating.question.category for rating in ratings)
    questions = {rating.question.id: rating.question for rating in ratings}
    return {
        **asdict(score(ratings)),
        "turns": {turn: asdict(score(item for item in ratings if item.turn == turn)) for turn in TURNS},
        "categories": {
            category: asdict(score(item for item in ratings if item.question.category == category))
            for category in categories
        },
        "questions": {id: score(item for item in ratings if item.question.id == id).mean for id in questions},
        "reasons": reasons(ratings),
        "n_without_reference": sum(item.needs_reference and item.references is None for item in questions.values()),
        "n_cut": sum(sum(item.cut) for item in answered.values()),
        "tokens": _tokens(graded),
    }


def _tokens(graded: Sequence[Graded]) -> int | None:
    """Tokens that the judge was paid for, as far as the server tells; None where it does not."""
    told = [item.tokens for item in graded if item.tokens is not None]
    return sum(told) if told or not graded else None


def _write_answers(output: Path, answered: Answers, model: str) -> None:
    for language, found in answered.items():
        mt_bench_files.write_answers(
            output / "answers" / f"{language}.jsonl",
            {id: item.turns for id, item in found.items()},
            model=model,
            cut={id: list(item.cut) for id, item in found.items()},
        )

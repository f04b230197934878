"""The English guard of a run: loud where English dropped, honest where nothing could be seen."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.recipes import config_of, make_recipe, report_text

from crossward.core.answer_measures import AnswerMeasures
from crossward.core.records import Prompt, Response, SampledPrompt
from crossward.engines.protocols import Advance, Sampling, no_progress
from crossward.pipeline.assemble import Engines, Model
from crossward.pipeline.guard import english_guard, guard_english
from crossward.pipeline.iterate import run
from crossward.pipeline.measures import answer_counts
from crossward.pipeline.progress import Silent
from crossward.pipeline.report.answers import answers_section, languages_section
from crossward.pipeline.report.guard import guard_section
from crossward.pipeline.report.markdown import section_markdown
from crossward.store import manifest
from crossward.store.measures_file import write_measures
from crossward.store.run_dir import IterationDir, RunDir, Stage

FINE = AnswerMeasures(
    prompt_id="", language="en", answer=0, n_chars=100, empty=False, truncated=False, repetition=0.0, looping=False,
    identified="en", code_switching=0.0, chrf=None,
)  # fmt: skip


class Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def answered(directory: RunDir, t: int, rows: list[AnswerMeasures], language: str = "en") -> None:
    """A finished evaluate stage that holds measures only."""
    stage = directory.iteration(t).stage("evaluate")
    rows = [replace(row, language=language) for row in rows]
    manifest.begin(stage, {}, {})
    write_measures(stage.measures_file(language), rows)
    counts = {"languages": {language: answer_counts(rows)}}
    manifest.finish(stage, {}, {}, counts=counts, files=[stage.measures_file(language)], seconds=1.0)


def rows(n: int, *, looping: int = 0, n_chars: int = 100) -> list[AnswerMeasures]:
    return [replace(FINE, prompt_id=str(i), looping=i < looping, n_chars=n_chars + i % 3) for i in range(n)]


def told_by(directory: RunDir, iterations: int, **settings: Any) -> str:
    """The report's section on English; empty where there is none."""
    found = {t: english_guard(directory, t, **settings) for t in range(1, iterations + 1)}
    section = guard_section(directory, {t: guarded for t, guarded in found.items() if guarded is not None})
    return section_markdown(section) if section is not None else ""


def test_a_drop_is_loud_in_talk_and_report(tmp_path: Path):
    directory = RunDir(tmp_path)
    answered(directory, 0, rows(40))
    answered(directory, 1, rows(40, n_chars=200))
    answered(directory, 2, rows(40, looping=16))
    heard = Heard()
    guard_english(directory, 1, heard)
    assert heard.lines == []
    guard_english(directory, 2, heard)
    (line,) = heard.lines
    assert line.startswith(
        "ENGLISH DROPPED: iteration 2 against iteration 0: not looping 1.000 → 0.600, difference -0.400 ["
    )
    assert line.endswith("over 40 prompts")
    report = told_by(directory, 2)
    assert "- iteration 1: no drop beyond its interval over 40 prompts; smallest drop" in report
    assert "not looping 0.088" in report  # 1 − 0.025^(1/40)
    assert "- **iteration 2: ENGLISH DROPPED: not looping 1.000 → 0.600" in report
    assert "| 2 | **not looping** | 40 | 0 | 1.00 | 0.60 | -0.40 | " in report
    assert "| 1 | length (characters) | 40 | 0 | 100.97 | 200.97 | 100.00 | 100.00 to 100.00 | – |" in report
    assert "5 measures tested, each at 95 %: chance alone would show 0.12 drops among them." in report
    assert "too narrow" not in report


def test_shorter_answers_are_shown_and_are_no_drop(tmp_path: Path):
    directory = RunDir(tmp_path)
    answered(directory, 0, rows(40))
    answered(directory, 1, rows(40, n_chars=10))
    found = english_guard(directory, 1)
    assert found is not None
    assert found.length is not None
    assert found.length.difference.estimate == pytest.approx(-90.0)
    assert found.drops == []
    assert "ENGLISH DROPPED" not in told_by(directory, 1)


def test_a_judges_values_are_guarded_too(tmp_path: Path):
    directory = RunDir(tmp_path)
    for t in (0, 1):
        answered(directory, t, rows(30))

    def win_rates(here: IterationDir) -> dict[str, dict[str, float]]:
        rate = 0.5 if here == directory.iteration(0) else 0.4
        return {"win rate": {str(i): rate + i / 100 for i in range(30)}}

    heard = Heard()
    guard_english(directory, 1, heard, values_of=win_rates)
    (line,) = heard.lines
    assert "win rate 0.645 → 0.545, difference -0.100 [-0.100, -0.100] over 30 prompts" in line
    assert "**iteration 1: ENGLISH DROPPED: win rate" in told_by(directory, 1, values_of=win_rates)


def test_measures_that_are_not_known_are_named(tmp_path: Path):
    directory = RunDir(tmp_path)
    for t in (0, 1):
        answered(directory, t, [replace(row, identified=None, code_switching=None) for row in rows(9)])
    assert "3 measures tested" in told_by(directory, 1)
    assert "not known of these answers: fidelity, no code-switching." in told_by(directory, 1)
    assert "fewer than 20 prompts give intervals that are too narrow" in told_by(directory, 1)


def test_without_english_one_line_says_so(tmp_path: Path):
    directory = RunDir(tmp_path)
    assert told_by(directory, 1) == ""
    for t in (0, 1):
        answered(directory, t, rows(9), language="es")
    assert english_guard(directory, 1) is None
    assert "English is not among the evaluated languages (es): what it lost is not known." in told_by(directory, 1)
    heard = Heard()
    guard_english(directory, 1, heard)
    assert heard.lines == []


def test_an_unfinished_iteration_is_not_compared(tmp_path: Path):
    directory = RunDir(tmp_path)
    answered(directory, 0, rows(9))
    write_measures(directory.iteration(1).stage("evaluate").measures_file("en"), rows(9, looping=9))
    assert english_guard(directory, 1) is None
    assert told_by(directory, 1) == ""


class Mute:
    """A policy that has stopped talking."""

    def sample(self, prompts: Sequence[Prompt], sampling: Sampling, *, advance: Advance = no_progress):
        return [SampledPrompt(prompt=prompt, responses=(Response(text=""),) * sampling.n) for prompt in prompts]

    def close(self) -> None:
        return None


def test_a_run_says_that_its_english_broke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What training made answers nothing: said while the run goes on, said in its report, and said again later."""
    sampler = Engines.sampler

    def muted(self: Engines, model: Model, stage: Stage, **settings: Any):
        trained = stage == "evaluate" and "checkpoint" in model.spec.path
        return Mute() if trained else sampler(self, model, stage, **settings)

    monkeypatch.setattr(Engines, "sampler", muted)
    recipe = make_recipe(tmp_path, iterations=1)
    for _ in range(2):
        heard = Heard()
        directory = run(config_of(recipe), progress=heard)
        (line,) = [line for line in heard.lines if line.startswith("ENGLISH DROPPED")]
        assert "iteration 1 against iteration 0: not empty 1.000 → 0.000, difference -1.000" in line
    assert report_text(directory).count("**iteration 1: ENGLISH DROPPED: not empty") == 1


def test_the_report_shows_the_stages_own_numbers(tmp_path: Path):
    directory = RunDir(tmp_path)
    mixed = [replace(row, identified=("en", "es", "unsure")[i % 3], chrf=10.0 * i) for i, row in enumerate(rows(6))]
    answered(directory, 0, mixed)
    stage = manifest.read(directory.iteration(0).stage("evaluate"))
    assert stage is not None
    found = [answers_section([("π_0", stage)]), languages_section([("π_0", stage)])]
    report = "\n".join(section_markdown(section) for section in found if section is not None)
    measures = json.loads(json.dumps(stage.counts))["languages"]["en"]["measures"]
    assert "| π_0 | en | 6 | 101.00 [" in report
    assert f"| 0.50 [{measures['fidelity']['low']:.2f}, 1.00] of 4 | 0.00 [0.00, 0.00] | 25.00 [" in report
    assert "Answers of π_0:\n\n| asked for | en | es | unsure |" in report
    assert "| en | 2 | 2 | 2 |" in report
    assert answers_section([]) is None
    assert languages_section([]) is None

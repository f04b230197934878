"""Judging within a run: one policy's held-out answers against the baseline's, and the rates of all policies together.

A stage of its own, beside evaluate: it costs money and has inputs of its own (judge, template, baseline), and answers
must not be drawn again when they change. What the judge said is in the run's one journal, so a stage that is done again
pays only for questions that are new.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crossward.config import Config
from crossward.core.judging import Comparison
from crossward.core.verdicts import Verdict
from crossward.core.winrates import WinRates
from crossward.pipeline.evaluate import (
    LengthControl,
    compared,
    require_finished,
    tell_estimate,
    told_spending,
    write_all_annotations,
)
from crossward.pipeline.judges import JudgeSettings, opened_judge, read_template
from crossward.pipeline.judging import Judged, judge_comparisons, remarks
from crossward.pipeline.outputs import first_answer
from crossward.pipeline.progress import Progress
from crossward.pipeline.run_stage import run_stage
from crossward.pipeline.stage_files import stream_sampled
from crossward.pipeline.unpack import judge_settings
from crossward.pipeline.winrates import as_summary, published_data, rates_of
from crossward.store.manifest import StageManifest, content_hash, read, redo
from crossward.store.model_outputs import ModelOutputs, joined, read_model_outputs
from crossward.store.rates_file import read_rates, write_rates
from crossward.store.run_dir import IterationDir, RunDir, StageDir
from crossward.store.verdict_file import read_verdicts, write_verdicts

OWN_BASELINE = "reference"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """The judge of a run; `settings` None where the recipe names none. `baseline` is None for OWN_BASELINE."""

    directory: RunDir
    settings: JudgeSettings | None
    baseline: Mapping[str, ModelOutputs] | None
    languages: tuple[str, ...]
    control: LengthControl
    progress: Progress

    @classmethod
    def of(cls, config: Config, directory: RunDir, languages: tuple[str, ...], progress: Progress) -> "Judging":
        """What a recipe says of it; raises ValueError for what would fail after hours (files, key, template)."""
        section = config.evaluate
        settings = None if section.judge is None else judge_settings(config)
        outside = settings is not None and section.baseline is not None and section.baseline != OWN_BASELINE
        return cls(
            directory=directory,
            settings=settings,
            baseline=baseline_files(section.baseline or "", languages) if outside else None,
            languages=languages,
            control=LengthControl(
                variant=section.length_control,
                published=published_data(
                    section.length_control,
                    None if section.difficulty is None else Path(section.difficulty),
                    None if section.gamed is None else Path(section.gamed),
                )
                if settings is not None
                else None,
                seed=config.seed,
            ),
            progress=progress,
        )

    def judge(self, name: str, here: IterationDir) -> None:
        """Verdicts on the answers of one policy. The reference is not judged against itself."""
        own = self.baseline is None
        if self.settings is None or (own and here == self.directory.reference):
            return
        stage = self.directory.reference.stage("evaluate")
        mine = {language: answers_of(stage, language, OWN_BASELINE) for language in self.languages} if own else {}
        judge(
            here,
            name,
            self.baseline or mine,
            directory=self.directory,
            settings=self.settings,
            progress=self.progress,
        )

    def tabulate(self) -> WinRates | None:
        """The win rates of all policies."""
        return None if self.settings is None else tabulate(self.directory, self.control, self.progress)


def baseline_files(baseline: str, languages: tuple[str, ...]) -> dict[str, ModelOutputs]:
    """The baseline's answers by language. Raises ValueError where a language has no file, or a file no name."""
    found = {}
    for language in languages:
        path = Path(baseline.replace("{language}", language))
        if not path.is_file():
            raise ValueError(f"evaluate.baseline: {path} does not exist: the language {language!r} has no baseline")
        outputs = read_model_outputs(path)
        found[language] = outputs if outputs.generator else replace(outputs, generator="baseline")
    return found


def answers_of(stage: StageDir, language: str, name: str) -> ModelOutputs:
    """The first answer of a policy to every held-out prompt."""
    outputs = tuple(first_answer(group, name) for group in stream_sampled(stage, language))
    return ModelOutputs(path=stage.path / language, outputs=outputs, generator=name)


def judge(
    here: IterationDir,
    name: str,
    baseline: Mapping[str, ModelOutputs],
    *,
    directory: RunDir,
    settings: JudgeSettings,
    progress: Progress,
) -> StageManifest:
    """Verdicts on one policy's answers in every language of the baseline; `name` is the policy's in tables."""
    stage, answered = here.stage("judge"), read(here.stage("evaluate"))
    assert answered is not None
    template = read_template(settings.template)

    def ask() -> tuple[list[Comparison], Judged]:
        comparisons = [
            comparison
            for language, base in baseline.items()
            for comparison in _comparisons(answers_of(here.stage("evaluate"), language, name), base, language)
        ]
        tell_estimate(comparisons, settings, progress)
        with opened_judge(settings, directory.judgements, progress) as opened:
            judged = judge_comparisons(
                comparisons, opened, template, order=settings.order, seed=settings.seed, progress=progress
            )
            told_spending(opened, settings, progress)
            require_finished(opened, judged)
        return comparisons, judged

    def work() -> tuple[list[Path], dict[str, Any]]:
        comparisons, judged = again or ask()
        for line in remarks(judged):
            progress.say(line)
        for language in baseline:
            rows = [(verdict, more) for verdict, more in judged.rows if verdict.language == language]
            write_verdicts(stage.verdicts_file(language), rows)
        written = write_all_annotations(stage.annotations, comparisons, judged, settings.name)
        counts = {language: tally.counts() for (language, _), tally in judged.tallies.items()}
        return written + [stage.verdicts_file(language) for language in baseline], {"languages": counts}

    again = _nulls_again(stage, ask, progress)
    hashes = {
        f"baseline/{language}": content_hash([[output.key, output.output] for output in base.outputs])
        for language, base in baseline.items()
    }
    asked = {
        "judge": settings.name,
        "template": content_hash([list(message) for message in template.messages]),
        "order": settings.order,
        "seed": settings.seed,
    }
    return run_stage(
        stage, {"answers": answered.digest, **hashes}, asked, work, anew=again is not None, progress=progress
    )


def _nulls_again(
    stage: StageDir, ask: Callable[[], tuple[list[Comparison], Judged]], progress: Progress
) -> tuple[list[Comparison], Judged] | None:
    """What asking again for the nulls of a finished stage brought, which is then done again with it; None for nothing.

    Where the judge cannot be had, what there is stays.
    """
    done = read(stage)
    nulls = sum(counts["n_null"] for counts in done.counts["languages"].values()) if done is not None else 0
    if not nulls:
        return None
    progress.say(f"{stage.title}: {nulls} verdicts are null: asking for them again")
    try:
        comparisons, judged = ask()
    except ValueError as error:
        progress.say(f"{stage.title}: they stay null: {error}")
        return None
    if sum(tally.nulls.total() for tally in judged.tallies.values()) >= nulls:
        return None
    redo(stage)
    return comparisons, judged


def run_verdicts(directory: RunDir) -> list[Verdict]:
    """The verdicts on every policy of a run that was judged."""
    policies = [directory.reference, *(directory.iteration(t) for t in directory.iterations())]
    stages = [here.stage("judge") for here in policies if read(here.stage("judge")) is not None]
    return [verdict for stage in stages for path in stage.verdict_files() for verdict in read_verdicts(path)]


def tabulate(directory: RunDir, control: LengthControl, progress: Progress) -> WinRates | None:
    """The rates of all judged policies together, written to evaluation.json; None where none was judged."""
    verdicts = run_verdicts(directory)
    if not verdicts:
        return None
    found = rates_of(
        verdicts,
        variant=control.variant,
        published=control.published,
        resamples=control.resamples,
        seed=control.seed,
        few="raw",
        progress=progress,
    )
    try:
        read_rates(directory.evaluation)
    except ValueError:
        progress.say(f"{directory.evaluation} was damaged: it is written anew")
    write_rates(directory.evaluation, as_summary(found))
    return found


def english_preferences(here: IterationDir) -> dict[str, dict[str, float]]:
    """The English win rate of one policy by prompt, for the English guard; nothing where it was not judged."""
    path = here.stage("judge").verdicts_file("en")
    if not path.exists():
        return {}
    found = {verdict.id: verdict.preference for verdict in read_verdicts(path) if verdict.preference is not None}
    return {"win rate": found} if found else {}


def _comparisons(answers: ModelOutputs, base: ModelOutputs, language: str) -> list[Comparison]:
    keys = {output.id for output in answers.outputs} | {output.instruction for output in answers.outputs}
    asked = replace(base, outputs=tuple(output for output in base.outputs if output.key in keys))
    rows, _ = joined(answers, asked)
    assert answers.generator is not None
    assert base.generator is not None
    return compared(rows, language, model=answers.generator, baseline=base.generator)

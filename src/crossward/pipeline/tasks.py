"""`crossward tasks`: benchmarks × languages, each task scored once, and every measure averaged over languages.

What is finished is kept beside the output (store/task_results.py) under the model's content, so the same call again
goes on where it stopped, and another language or benchmark costs only itself. The averages are in core/tasks.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from json import dumps, loads
from pathlib import Path
from typing import Any

from crossward.core.language import language_name
from crossward.core.tasks import (
    BENCHMARKS,
    METRICS,
    NOTES,
    Absent,
    Planned,
    TaskResult,
    covered,
    covered_languages,
    pooled,
)
from crossward.engines.lm_eval_tasks import Prompting, TaskFolder, harness_version, open_model
from crossward.engines.models import base_spec, model_fingerprint, settle
from crossward.engines.protocols import ModelSpec
from crossward.pipeline.progress import Progress
from crossward.store.files import write_text
from crossward.store.task_results import TaskResults

PLACE = "{language}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the user asked for: our benchmarks, and task names, in which {language} stands for each language's code."""

    languages: Sequence[str] = ()
    benchmarks: Sequence[str] = ()
    tasks: Sequence[str] = ()


def coverage(languages: Sequence[str] = (), benchmarks: Sequence[str] = ()) -> dict[str, Any]:
    """Which task measures what in which language, ready for JSON; left out: every language of the map, sw and th."""
    chosen = languages or sorted({*covered_languages(), "sw", "th"})
    names = _benchmarks(benchmarks) if benchmarks else BENCHMARKS
    found: dict[str, Any] = {}
    for language in chosen:
        entries = {name: covered(name, language) for name in names}
        absent = [entry for entry in entries.values() if isinstance(entry, Absent)]
        found[language] = {
            "tasks": {
                name: [] if isinstance(entry, Absent) else [plan.task for plan in entry]
                for name, entry in entries.items()
            },
            "alternatives": list(absent[0].alternatives) if absent else [],
        }
    return {
        "languages": found,
        "notes": {name: NOTES[name] for name in names},
        "metrics": {measure: list(metrics) for measure, metrics in METRICS.items()},
    }


def tasks_file(
    output: Path,
    *,
    model: ModelSpec,
    asked: Asked,
    prompting: Prompting,
    include: Path | None,
    batch_size: int,
    progress: Progress,
) -> dict[str, Any]:
    """Score a model on what was asked, write the results to `output` and return them."""
    settle()
    planned, absent = plan(asked)
    folder = TaskFolder(include)
    folder.require([task.task for task in planned])
    base_spec(model)  # says what is wrong with the path
    settings = {
        "model": model_fingerprint(model),
        "dtype": model.dtype,
        **asdict(prompting),
        "lm_eval": harness_version(),
    }
    for gap in absent:
        progress.say(_gap(gap))
    results = _results(output, planned, folder, model, settings, prompting, batch_size, progress)
    found = {
        "model": model.path,
        "settings": settings,
        "results": [_row(task, result) for task, result in zip(planned, results, strict=True)],
        "absent": [asdict(gap) for gap in absent],
        "pooled": _averages(planned, results),
    }
    text = dumps(found, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    write_text(output, text)
    return loads(text)


def plan(asked: Asked) -> tuple[tuple[Planned, ...], tuple[Absent, ...]]:
    """The tasks to run, and the benchmarks that a language does not have. Raises ValueError where nothing is left."""
    for language in asked.languages:
        language_name(language)
    languages = tuple(dict.fromkeys(asked.languages))
    benchmarks = _benchmarks(asked.benchmarks) or (() if asked.tasks else BENCHMARKS)
    if not languages and (benchmarks or any(PLACE in task for task in asked.tasks)):
        raise ValueError(f"name at least one --language, or a --task that has no {PLACE} in its name")
    if languages and not benchmarks and not any(PLACE in task for task in asked.tasks):
        raise ValueError(
            f"--language has nothing to choose: write {PLACE} in the --task where its code stands, such as "
            f"global_mmlu_full_{PLACE}"
        )
    found = [covered(benchmark, language) for benchmark in benchmarks for language in languages]
    planned = [task for entry in found if not isinstance(entry, Absent) for task in entry]
    absent = tuple(entry for entry in found if isinstance(entry, Absent))
    for name in asked.tasks:
        codes = languages if PLACE in name else (None,)
        planned += [Planned(measure=name, language=code, task=name.replace(PLACE, code or "")) for code in codes]
    if not planned:
        raise ValueError("nothing to run: " + "; ".join(map(_gap, absent)))
    return tuple(dict.fromkeys(planned)), absent


def _results(
    output: Path,
    planned: Sequence[Planned],
    folder: TaskFolder,
    spec: ModelSpec,
    settings: Mapping[str, Any],
    prompting: Prompting,
    batch_size: int,
    progress: Progress,
) -> list[TaskResult]:
    """The result of every task in turn: what was kept, and what the model, loaded when it is first needed, scores."""
    results, model = [], None
    with TaskResults(output) as kept:
        for task in planned:
            origin = {**settings, "task": task.task, "content": folder.content(task.task)}
            result = kept.get(origin)
            if result is None:
                model = model or open_model(spec, batch_size=batch_size, chat_template=prompting.chat_template)
                result = folder.run(task.task, model, prompting, watch=progress.task)
                kept.put(origin, result)
            else:
                progress.say(f"{task.task}: kept from before")
            if result.truncated:
                progress.say(f"{task.task}: {result.truncated} options did not fit the context: cut from the left")
            results.append(result)
    return results


def _row(task: Planned, result: TaskResult) -> dict[str, Any]:
    """All of a result but its single items."""
    shown = {
        field.name: getattr(result, field.name) for field in fields(result) if field.name not in ("questions", "items")
    }
    scores = {metric: asdict(score) for metric, score in result.scores.items()}
    return {"measure": task.measure, "language": task.language, **shown, "scores": scores}


def _averages(planned: Sequence[Planned], results: Sequence[TaskResult]) -> list[dict[str, Any]]:
    """Every metric of every measure that was taken in two languages or more."""
    measures: dict[str, dict[str, TaskResult]] = {}
    for task, result in zip(planned, results, strict=True):
        if task.language is not None:
            measures.setdefault(task.measure, {})[task.language] = result
    averages = []
    for measure, by_language in measures.items():
        if len(by_language) > 1:
            first, *others = by_language.values()
            shared = [metric for metric in first.scores if all(metric in other.scores for other in others)]
            averages += [
                {"measure": measure, "metric": metric, **asdict(pooled(by_language, metric))} for metric in shared
            ]
    return averages


def _benchmarks(names: Sequence[str]) -> tuple[Any, ...]:
    for name in names:
        if name not in BENCHMARKS:
            raise ValueError(f"unknown benchmark {name!r}: expected {', '.join(BENCHMARKS)}; others go by --task")
    return tuple(dict.fromkeys(names))


def _gap(gap: Absent) -> str:
    others = f"other benchmarks in it, for --task: {', '.join(gap.alternatives)}" if gap.alternatives else "none known"
    return f"lm-eval has no {gap.benchmark} in {language_name(gap.language)} ({gap.language}): {others}"

"""A run at a glance, and one of its stages in full, from the manifests alone."""

from pathlib import Path
from typing import Any

from crossward.pipeline.run_state import RunFound, StageFound, require_run, run_found
from crossward.pipeline.runs import usage
from crossward.pipeline.stage_metrics import language_rows, rate_metrics
from crossward.store import manifest
from crossward.store.rates_file import read_rates
from crossward.store.run_dir import RunDir

_SUMS = ("prompts", "responses", "answers", "tokens", "n_pairs", "n_judged")


def plain_run(folder: Path) -> dict[str, Any]:
    """A run as JSON: its state, what it is about, every stage, the last training metrics and the headline."""
    found, directory = run_found(folder), require_run(folder)
    _, size = usage(folder)
    config = found.config
    return {
        "run": str(folder),
        "state": found.state,
        "at": found.at,
        "problem": found.problem,
        "process": found.holder,
        "languages": list(found.languages),
        "iterations": config.get("iterations"),
        "seed": config.get("seed"),
        "policy": _of(config, "models", "policy"),
        "reference": _of(config, "models", "reference"),
        "bytes": size,
        "stages": [_plain_stage(stage) for stage in found.stages],
        "training": training_of(directory),
        "headline": headline_of(found, directory),
        "report": next((str(path) for path in (directory.report, directory.markdown) if path.is_file()), None),
    }


def plain_stage(folder: Path, title: str) -> dict[str, Any]:
    """One stage as JSON: settings, inputs, counts. Raises ValueError where there is no such stage in the run."""
    directory = require_run(folder)
    stage = directory.stage_named(title)
    if not stage.inputs.exists() and not stage.manifest.exists():
        there = ", ".join(found.title for found in run_found(folder).stages if found.state != "open") or "none"
        raise ValueError(f"{folder} has no stage {title} yet: stages that are there: {there}")
    done = manifest.read(stage)
    if done is None:
        inputs, settings = manifest.read_origin(stage)
        return {"stage": title, "state": "begun", "settings": settings, "inputs": inputs}
    return {
        "stage": title,
        "state": "done",
        "seconds": done.seconds,
        "settings": done.settings,
        "inputs": done.inputs,
        "counts": done.counts,
        "files": {name: shard["rows"] for name, shard in done.shards.items()},
    }


def stage_table(folder: Path, title: str) -> tuple[list[str], list[list[Any]]] | None:
    """The counts of a stage by language; None where it is not done or counts none."""
    done = manifest.read(require_run(folder).stage_named(title))
    if done is None or not done.counts.get("languages"):
        return None
    return language_rows(done)


def training_of(directory: RunDir) -> dict[str, dict[str, Any]]:
    """The last line of every iteration's training, finished or not."""
    stages = [directory.iteration(t).stage("train") for t in directory.iterations() if t]
    found = {stage.title: manifest.last_metrics(stage) for stage in stages}
    return {title: metrics for title, metrics in found.items() if metrics}


def headline_of(found: RunFound, directory: RunDir) -> dict[str, dict[str, float]]:
    """By policy, what its answers came to, a mean over languages: win rates where they were judged, else measures."""
    if rates := read_rates(directory.evaluation):
        return {policy: _means(values) for policy, values in rate_metrics(rates).items()}
    headline: dict[str, dict[str, float]] = {}
    for stage in found.stages:
        if stage.manifest is not None and stage.manifest.stage == "evaluate":
            counts = [counts for _, counts in stage.manifest.by_language]
            means = {name: [c[name] for c in counts if c.get(name) is not None] for name in ("fidelity", "mean_chars")}
            headline[stage.title.partition("/")[0]] = {
                name: sum(values) / len(values) for name, values in means.items() if values
            }
    return headline


def _means(values: dict[str, float]) -> dict[str, float]:
    by_name: dict[str, list[float]] = {}
    for key, value in values.items():
        by_name.setdefault(key.partition("/")[0], []).append(value)
    return {name: sum(found) / len(found) for name, found in by_name.items()}


def _plain_stage(stage: StageFound) -> dict[str, Any]:
    done = stage.manifest
    if done is None:
        return {"stage": stage.title, "state": stage.state, "seconds": None, "counts": {}}
    languages = [counts for counts in done.counts.get("languages", {}).values() if isinstance(counts, dict)]
    sums = {name: sum(counts[name] for counts in languages if name in counts) for name in _SUMS}
    counts = {name: n for name, n in sums.items() if n}
    for name in ("pairs", "steps"):
        if name in done.counts.get("training", {}):
            counts[name] = done.counts["training"][name]
    return {"stage": stage.title, "state": stage.state, "seconds": done.seconds, "counts": counts}


def _of(config: dict[str, Any], section: str, key: str) -> Any:
    inside = config.get(section)
    return inside.get(key) if isinstance(inside, dict) else None

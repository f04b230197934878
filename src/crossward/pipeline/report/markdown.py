"""The report of a run as one Markdown file, made from the stages' own counts and nothing else."""

import json
from pathlib import Path
from typing import Any, get_args

from crossward.config import Config, parse
from crossward.pipeline import provenance
from crossward.pipeline.judge_stage import english_preferences
from crossward.pipeline.report.answers import answers_section
from crossward.pipeline.report.guard import guard_section
from crossward.pipeline.report.ranking import rating_table, told_reward, translation_table
from crossward.pipeline.report.reward import reward_tables
from crossward.pipeline.report.tables import cell, table
from crossward.pipeline.report.winrates import winrates_section
from crossward.store import manifest
from crossward.store.files import write_text
from crossward.store.manifest import StageManifest
from crossward.store.run_dir import RunDir, Stage, StageDir


def write_report(directory: RunDir, config: Config) -> None:
    """Write report.md of a run, finished or not: stages that are not done yet are left out."""
    sections = [
        _headline(directory, config),
        *(_iteration(directory, t, config) for t in range(1, config.iterations + 1)),
        winrates_section(directory, config.iterations),
        _evaluation(directory, config),
        guard_section(directory, config.iterations, values_of=english_preferences),
        _times(directory, config),
        _provenance(directory),
    ]
    write_text(directory.markdown, "\n\n".join(section for section in sections if section) + "\n")


def report_again(run: Path) -> Path:
    """Write the report of an existing run; returns its path. ValueError where the folder is no run."""
    directory = RunDir(run)
    if not directory.config.exists():
        raise ValueError(f"{run} is not a run directory: it has no config.yaml")
    write_report(directory, parse(provenance.read_config(directory), where=str(directory.config)))
    return directory.markdown


def _headline(directory: RunDir, config: Config) -> str:
    steps = [
        f"- policy `{config.models.policy}`, reference `{config.models.reference}` ({config.models.dtype})",
        f"- languages {', '.join(config.languages)}; {config.iterations} iterations; seed {config.seed}",
        f"- {told_reward(config)}; trained over the {config.train.reference} one",
    ]
    return f"# {directory.root.name}\n\n" + "\n".join(steps)


def _iteration(directory: RunDir, t: int, config: Config) -> str:
    here = directory.iteration(t)
    sampled, scored, paired = (_done(here.stage(name)) for name in ("sample", "score", "pair"))
    if sampled is None:
        return ""
    parts = [f"## Iteration {t}"]
    parts.append(
        table(
            [
                "language",
                "prompts",
                "responses",
                "truncated",
                "empty",
                "too long to score",
                "mean characters",
                "mean log-ratio",
                "mean spread",
            ],
            [_response_row(language, counts, scored) for language, counts in sampled.by_language],
        )
    )
    parts.append("Log-ratios and spread (best minus worst of a prompt) are in nats.")
    if (translated := _done(here.stage("translate"))) is not None:
        parts.append(translation_table(translated))
    if scored is not None:
        parts += reward_tables(scored)
    if (rated := _done(here.stage("rate"))) is not None:
        parts.append(rating_table(rated))
    if paired is not None:
        header = [
            "language",
            "pairs",
            "α",
            "length gap at 0",
            "at α",
            "mean margin",
            "skipped prompts",
            "removed responses",
        ]
        parts.append(table(header, [_pair_row(language, counts) for language, counts in paired.by_language]))
        unit = "tokens" if paired.settings.get("length_unit") == "tokens" else "characters"
        parts.append(f"Length gap: chosen minus rejected, mean over the prompts that α was found on, in {unit}.")
    if (trained := _done(here.stage("train"))) is not None:
        parts.append(_training(here.stage("train"), trained))
    return "\n\n".join(parts)


def _response_row(language: str, counts: dict[str, Any], scored: StageManifest | None) -> list[object]:
    found = scored.counts["languages"].get(language, {}) if scored else {}
    return [
        language,
        counts["prompts"],
        counts["responses"],
        counts["truncated"],
        found.get("empty"),
        found.get("too_long"),
        counts["mean_chars"],
        found.get("mean_log_ratio"),
        found.get("mean_spread"),
    ]


def _pair_row(language: str, counts: dict[str, Any]) -> list[object]:
    keys = ("n_pairs", "alpha", "length_gap_before", "length_gap_after", "mean_margin", "skipped", "removed_responses")
    return [language, *(counts[key] for key in keys)]


def _training(stage: StageDir, trained: StageManifest) -> str:
    lines = read_metrics(stage)
    if not lines:
        return ""
    first, last = lines[0], lines[-1]
    names = [name for name in last if name not in ("step", "epoch") and isinstance(last[name], (int, float))]
    rows = [[name, first.get(name), last[name]] for name in names]
    summary = {key: value for key, value in trained.counts.get("training", {}).items() if key.startswith("dropped")}
    note = f"Pairs left out of training: {cell(summary)}." if any(summary.values()) else ""
    shown = table(["training", f"step {first.get('step')}", f"step {last.get('step')}"], rows)
    return "\n\n".join(part for part in (shown, note) if part)


def read_metrics(stage: StageDir) -> list[dict[str, Any]]:
    """The logged steps of a training stage."""
    if not stage.metrics.exists():
        return []
    return [json.loads(line) for line in stage.metrics.read_text(encoding="utf-8").splitlines() if line]


def _evaluation(directory: RunDir, config: Config) -> str:
    policies = [
        ("reference", directory.reference),
        *((f"π_{t}", directory.iteration(t)) for t in range(config.iterations + 1)),
    ]
    done = [(name, found) for name, here in policies if (found := _done(here.stage("evaluate"))) is not None]
    return answers_section(done)


def _times(directory: RunDir, config: Config) -> str:
    stages = [directory.reference.stage("evaluate"), directory.iteration(0).stage("evaluate")]
    stages += [directory.reference.stage("judge"), directory.iteration(0).stage("judge")]
    stages += [directory.iteration(t).stage(name) for t in range(1, config.iterations + 1) for name in get_args(Stage)]
    rows = [[stage.title, found.seconds] for stage in stages if (found := _done(stage)) is not None]
    return "## Time per stage\n\n" + table(["stage", "seconds"], rows) if rows else ""


def _provenance(directory: RunDir) -> str:
    if not directory.provenance.exists():
        return ""
    return "## Provenance\n\n```json\n" + directory.provenance.read_text(encoding="utf-8").strip() + "\n```"


def _done(stage: StageDir) -> StageManifest | None:
    return manifest.read(stage)

"""What is wrong with a recipe, told before anything is computed."""

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from crossward.config import Config
from crossward.core.pairing import NEAREST_IS_WORST
from crossward.core.records import Prompt
from crossward.pipeline import provenance
from crossward.pipeline.assemble import Engines, Model, Prompts
from crossward.pipeline.choose import require_engine
from crossward.pipeline.cluster import require_cluster
from crossward.pipeline.concerns_before import concerns_before
from crossward.pipeline.judge_stage import Judging
from crossward.pipeline.launch import require_launch
from crossward.pipeline.progress import Silent
from crossward.pipeline.prompts import counted_prompts, evaluation_prompts, training_prompts
from crossward.pipeline.ranking import require_ranking
from crossward.pipeline.replay import read_replay
from crossward.pipeline.requirements import require_tracking, say_trusted
from crossward.store.run_dir import RunDir


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the preflight: what was looked at, how it is, and what was seen."""

    level: Literal["ok", "warning", "error"]
    subject: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What was found, and the prompts that were read for it; empty where they could not be.

    `counts` are by language where files were too large to be read: `prompts` are then their first ones.
    """

    findings: list[Finding]
    prompts: Prompts
    held_out: Prompts
    counts: Mapping[str, int]


def check(config: Config) -> list[Finding]:
    """Every finding about a recipe, errors last; no model weights are loaded."""
    return look(config).findings


def look(config: Config, *, planned: frozenset[str] = frozenset()) -> Looked:
    """The same with what was read.

    `planned` names subjects that a plan has numbers for in their place: where they are not there yet, that is a
    warning.
    """
    findings: list[Finding] = []
    prompts, held_out, counts = _prompts(config, findings)
    _languages(config, findings)
    if trusted := say_trusted(config):
        findings.append(Finding(level="warning", subject="trusted code", text=trusted))
    later = "policy" in planned and not all(
        Path(path).is_dir() for path in (config.models.policy, config.models.reference)
    )
    if later:  # the hub, too, is not asked
        for subject, path in (("policy", config.models.policy), ("reference", config.models.reference)):
            findings.append(
                Finding(level="warning", subject=subject, text=f"{path}: not looked at, planned by its size")
            )
    else:
        _models(config, prompts, held_out, findings)
        _engines(config, findings)
    _pairing(config, findings)
    if config.train.launch is not None:
        _attempt(findings, "launch", lambda: require_launch(config))
    _judge(config, held_out, findings)
    _run_folder(config, findings)
    _concerns(config, held_out, findings)
    findings = [
        replace(each, level="warning") if each.level == "error" and each.subject in planned else each
        for each in findings
    ]
    return Looked(
        findings=by_level(findings),
        prompts=prompts,
        held_out=held_out,
        counts=counts,
    )


def _attempt(findings: list[Finding], subject: str, look: Callable[[], str]) -> bool:
    """Note what `look` says, or the sentence of the ValueError that it raises."""
    try:
        findings.append(Finding(level="ok", subject=subject, text=look()))
    except (ValueError, OSError) as error:
        findings.append(Finding(level="error", subject=subject, text=str(error)))
        return False
    return True


def _prompts(config: Config, findings: list[Finding]) -> tuple[Prompts, Prompts, Mapping[str, int]]:
    loaded: dict[str, list[Prompt]] = {}
    asked: dict[str, list[Prompt]] = {}
    counts: dict[str, int] = {}

    def training() -> str:
        if (large := counted_prompts(config)) is not None:
            loaded.update(large.first)
            counts.update(large.counts)
            told = ", ".join(f"{language} {count}" for language, count in counts.items())
            return f"{told}: {large.n_bytes / 1e9:.1f} GB, counted and not read but for the first of each"
        loaded.update(training_prompts(config))
        return ", ".join(f"{language} {len(group)}" for language, group in loaded.items())

    def held_out() -> str:
        asked.update(evaluation_prompts(config))
        shared = {prompt.instruction for group in asked.values() for prompt in group} & {
            prompt.instruction for group in loaded.values() for prompt in group
        }
        if shared:
            text = f"{len(shared)} evaluation prompts are also trained on, for instance {sorted(shared)[0][:60]!r}"
            findings.append(Finding(level="warning", subject="evaluation prompts", text=text))
        return ", ".join(f"{language} {len(group)}" for language, group in asked.items()) or "none named"

    _attempt(findings, "prompts", training)
    _attempt(findings, "evaluation prompts", held_out)
    return loaded, asked, counts


def _languages(config: Config, findings: list[Finding]) -> None:
    if config.pair.language_filter != "lingua":
        return
    from crossward.engines.lingua_identifier import LinguaIdentifier

    if unknown := LinguaIdentifier(config.languages).unsupported:
        text = f"lingua cannot tell {', '.join(unknown)} from other languages: nothing is filtered by language there"
        findings.append(Finding(level="warning", subject="language filter", text=text))
    else:
        findings.append(Finding(level="ok", subject="language filter", text="lingua knows every language of the run"))


def _models(config: Config, prompts: Prompts, held_out: Prompts, findings: list[Finding]) -> None:
    engines = Engines(config)
    models: list[Model] = []

    def look(open_model: Callable[[], Model]) -> str:
        model = open_model()
        tokens = engines.tokens(model)
        models.append(model)
        tokens.prompt_ids("Hello")
        (end,) = tokens.names([tokens.end_of_turn_id])
        return f"{model.spec.path}: end of turn {end}, stops on {', '.join(tokens.names(sorted(tokens.stop_ids)))}"

    for subject, open_model in (("policy", engines.policy), ("reference", engines.reference)):
        _attempt(findings, subject, lambda open_model=open_model: look(open_model))
    if len(models) < 2:
        return
    policy, reference = models

    _attempt(findings, "policy and reference", lambda: engines.require_comparable(policy, reference))
    if prompts:
        _attempt(findings, "lengths", lambda: engines.require_room(policy, prompts, held_out))
    _attempt(findings, "ranking", lambda: "; ".join(map(": ".join, require_ranking(engines, policy).items())))
    if config.train.replay is not None:
        _attempt(findings, "replay", lambda: _replayed(config, policy, engines))


def _replayed(config: Config, policy: Model, engines: Engines) -> str:
    replay = read_replay(config, policy.spec, engines.tokens(policy), Silent())
    assert replay is not None
    return f"{len(replay.pairs)} offline pairs, to be {replay.share:.0%} of what is trained on"


def _engines(config: Config, findings: list[Finding]) -> None:
    """Which engines will be used, and whether they are there."""
    engines = Engines(config)
    for stage in ("sample", "evaluate"):
        _attempt(findings, f"engine of {stage}", lambda stage=stage: engines.require_sample_engine(stage))
    if config.cluster is not None:
        _attempt(findings, "cluster", lambda: require_cluster(config))
    if config.tracking.tracker != "none":
        _attempt(findings, "tracker", lambda: _tracker(config))
    _attempt(findings, "engine of score", lambda: require_engine(config.score.engine, config.runtime.device))


def _tracker(config: Config) -> str:
    require_tracking(config)
    return f"{config.tracking.tracker}, project {config.tracking.project}"


def _pairing(config: Config, findings: list[Finding]) -> None:
    """A choice that can be no other than the plain one, by the number of responses."""
    if config.pair.choice == "mean-2sd" and config.sample.n <= NEAREST_IS_WORST:
        text = (
            f"pair.choice mean-2sd always rejects the worst of {NEAREST_IS_WORST} responses or fewer, as reward "
            f"does, and sample.n is {config.sample.n}: draw more (CroCo: 64)"
        )
        findings.append(Finding(level="warning", subject="pairs", text=text))


def _judge(config: Config, held_out: Prompts, findings: list[Finding]) -> None:
    """Who judges, whether key, template and baseline are there, and how many questions that makes."""
    if config.evaluate.judge is None:
        return

    def look() -> str:
        judging = Judging.of(config, RunDir(Path(config.run)), tuple(held_out), Silent())
        assert judging.settings is not None
        policies = config.iterations + 1 + (judging.baseline is not None)
        orders = 2 if judging.settings.order == "both" else 1
        n = policies * orders * sum(len(group) for group in held_out.values())
        return (
            f"{judging.settings.name}: {n} questions for {policies} policies; tokens and money: "
            "crossward evaluate --estimate, on answers that you have"
        )

    _attempt(findings, "judge", look)


def _concerns(config: Config, held_out: Prompts, findings: list[Finding]) -> None:
    """What a careful colleague would say of the recipe, and of what its run has done so far."""
    try:
        concerns = concerns_before(config, held_out)
    except ValueError as error:
        findings.append(Finding(level="error", subject="concerns", text=str(error)))
        return
    for concern in concerns:
        text = f"{concern.where}: {concern.seen}. Why: {concern.why}. Try: {concern.advice}. {concern.page}"
        findings.append(Finding(level="warning", subject=concern.kind, text=text))


def _run_folder(config: Config, findings: list[Finding]) -> None:
    directory = RunDir(Path(config.run))

    def owner() -> str:
        provenance.require_same_config(directory, config)
        return f"{config.run} " + ("continues" if directory.config.exists() else "is new")

    _attempt(findings, "run folder", owner)
    findings.append(disk_finding(config))


def disk_finding(config: Config, planned: float | None = None) -> Finding:
    """Whether what is needed is free: `planned` bytes, or without a plan what can be said from the weights' files."""
    root = Path(config.run)
    existing = next(parent for parent in (root, *root.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    needed = _bytes_needed(config) if planned is None else planned
    told = f"{needed / 1e9:.1f} GB" if needed else "an unknown size (the policy's weights are not on this disk)"
    what = "checkpoints and optimiser states" if planned is None else "all that the plan writes"
    text = f"{told} needed for {what}, {free / 1e9:.1f} GB free"
    return Finding(level="ok" if free > needed else "error", subject="disk", text=text)


def by_level(findings: Iterable[Finding]) -> list[Finding]:
    """What is well first, errors last."""
    order = {"ok": 0, "warning": 1, "error": 2}
    return sorted(findings, key=lambda finding: order[finding.level])


def _bytes_needed(config: Config) -> float:
    """Weights of every iteration as saved, and once float32 weights with both Adam moments while one trains."""
    weights = Path(config.models.policy)
    stored = sum(path.stat().st_size for path in weights.glob("*.safetensors")) if weights.is_dir() else 0
    if config.train.lora is not None:
        return 0.05 * stored * (config.iterations + 3)
    return 2.0 * stored * config.iterations + 6.0 * stored

"""`crossward check` as a whole: what is wrong with a recipe, and what it will take on the machines asked for."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from crossward.config import Config
from crossward.core.hardware import Hardware
from crossward.pipeline.assemble import Engines
from crossward.pipeline.check import Finding, by_level, disk_finding, look
from crossward.pipeline.plan import (
    SIDE_BY_SIDE,
    JudgeCost,
    OnHardware,
    judge_cost,
    on_hardware,
    workload_of,
)
from crossward.pipeline.plan_inputs import NOTHING_GIVEN, Given, Inputs, inputs_of
from crossward.pipeline.probe import Probe, machine_row, probe
from crossward.pipeline.progress import Progress
from crossward.plan_tables import hardware_table, named, price_table, read_probe, write_probe


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line asks of a plan: machines by name, tables over the package's, whether to measure."""

    hardware: Sequence[str] = ()
    hardware_file: Path | None = None
    prices: Path | None = None
    given: Given = NOTHING_GIVEN
    probe: bool = False
    probe_input: Path | None = None
    probe_output: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """Findings, and the plan; where there can be none, `problem` says why in one sentence."""

    findings: list[Finding]
    inputs: Inputs | None
    plans: tuple[OnHardware, ...]
    judged: JudgeCost | None
    probed: Probe | None
    problem: str | None


def check_and_plan(config: Config, asked: Asked, progress: Progress) -> Checked:
    """Look at a recipe and plan it. ValueError for tables, names and probes that cannot be: findings are of recipes."""
    if asked.probe and asked.probe_input is not None:
        raise ValueError("--probe measures anew and --probe-input takes what was measured: give one of them")
    if asked.probe and asked.given.parameters is not None:
        raise ValueError("--probe measures the recipe's own model: leave --parameters out")
    if asked.probe_output is not None and not asked.probe:
        raise ValueError("--probe-output keeps what --probe measures: give --probe too")
    table, prices = hardware_table(asked.hardware_file), price_table(asked.prices)
    rows = [named(name, table) for name in asked.hardware]
    known = None if asked.probe_input is None else read_probe(asked.probe_input)
    looked = look(config, planned=_planned(asked.given))
    engines = Engines(config)
    found = None
    try:
        inputs = inputs_of(config, looked.prompts, looked.held_out, engines, asked.given, looked.counts)
    except (ValueError, OSError) as error:
        if asked.probe:
            raise
        problem = " ".join(str(error).split())
        return Checked(findings=looked.findings, inputs=None, plans=(), judged=None, probed=None, problem=problem)
    if asked.probe:
        works = {kind: workload_of(config, inputs, kind) for kind in ("cpu", "gpu")}
        found = probe(engines, looked.prompts, works, table, progress)
        known = found.hardware, found.response_tokens
        if asked.probe_output is not None:
            write_probe(asked.probe_output, *known)
    if known is not None:
        rows = [known[0], *rows]
        if asked.given.response_tokens is None and known[1] is not None:
            told = replace(asked.given, response_tokens=known[1])
            inputs = inputs_of(config, looked.prompts, looked.held_out, engines, told, looked.counts)
    plans = tuple(on_hardware(config, inputs, row) for row in rows or _default(config, table))
    judged = judge_cost(config, workload_of(config, inputs, "gpu"), prices)
    findings = _with_disk(config, looked.findings, plans[0], asked.given)
    return Checked(findings=findings, inputs=inputs, plans=plans, judged=judged, probed=found, problem=None)


def _with_disk(config: Config, findings: list[Finding], first: OnHardware, given: Given) -> list[Finding]:
    """The plan's figure in the place of the weights' alone: all machines have the same one.

    A plan for other prompts, languages or models than are here is for another disk too: too little is a warning.
    """
    disk = disk_finding(config, first.plan.disk.total)
    if disk.level == "error" and (_planned(given) or given.languages is not None):
        disk = replace(disk, level="warning")
    return by_level(disk if finding.subject == "disk" else finding for finding in findings)


def _planned(given: Given) -> frozenset[str]:
    """Subjects of findings that numbers were given for: the prompts and the models of a recipe may come later."""
    prompts = ("prompts", "evaluation prompts") if given.prompts_per_language is not None else ()
    models = ("policy", "reference") if given.parameters is not None else ()
    return frozenset((*prompts, *models))


def _default(config: Config, table: dict[str, Hardware]) -> list[Hardware]:
    """This machine where it is recognised and the recipe is for a GPU that is here; else four machines side by side."""
    try:
        here = machine_row(config.runtime.device, table)
    except ValueError:  # the recipe's device is elsewhere
        here = None
    if here is not None and here.kind == "gpu":
        return [here]
    first = "laptop" if here is None else here.name
    return [table[name] for name in (first, *SIDE_BY_SIDE[1:])]


def as_plain(checked: Checked) -> dict[str, Any]:
    """Everything as JSON: findings, and the plan or why there is none."""
    plan: dict[str, Any] | None = None
    if checked.inputs is not None:
        plan = {
            "inputs": asdict(checked.inputs),
            "hardware": [each.plain() for each in checked.plans],
            "judge": None if checked.judged is None else asdict(checked.judged),
            "probe": None if checked.probed is None else checked.probed.plain(),
        }
    return {
        "findings": [asdict(finding) for finding in checked.findings],
        "plan": plan,
        "problem": checked.problem,
    }

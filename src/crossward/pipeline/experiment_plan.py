"""What an experiment would compute, told without computing: its stages, how many are distinct, how many are done.

Two stages are the same here where the recipes alone say so. Stages whose inputs turn out equal (another rule that chose
the same pairs) are shared too, so that what is told is the most that there is to do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crossward.config import Config
from crossward.experiment_cells import CellRun
from crossward.store.experiment_dir import ExperimentDir
from crossward.store.manifest import content_hash
from crossward.store.run_dir import IterationDir, RunDir, Stage, StageDir

Planned = list[tuple[StageDir, str]]  # a stage, and what it is made from as a hash
# Of `reward`, what is asked for below one by one, and what is of raters alone; every other key decides every score.
_NOT_SCORING = ("kind", "view", "views", "agreement", "reference", "policy", "steering", "reward_model", "judge")
# Of `evaluate`, what decides verdicts and rates, not answers.
_JUDGING = ("judge", "baseline", "length_control", "difficulty", "gamed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`stages` of all runs together, at most `distinct` of them different, and `done` of those there already.

    `runs` is by cell: how many stages each of its seeds has, and how many of them are there.
    """

    stages: int
    distinct: int
    done: int
    cells: Mapping[str, Mapping[int, tuple[int, int]]]


def unrecorded(config: Config) -> dict[str, Any]:
    """What decides a stage's files beside the inputs and settings in its stage.json, by kind of stage.

    Within one run all of it is constant, so stage.json need not name it; between the runs of an experiment it must be
    in the key under which stages are shared. Whoever lets a new key decide a stage names it here or in its settings.
    """
    models = {"dtype": config.models.dtype, "device": config.runtime.device, "code": config.models.trust_remote_code}
    told = {**models, "languages": list(config.languages), "language_filter": config.pair.language_filter}
    return {
        "sample": models,
        "translate": told,
        "score": models,
        "rate": models,
        "pair": told,
        "train": models,
        "evaluate": told,
        "judge": None,
    }


def plan_of(runs: Sequence[CellRun], directory: ExperimentDir) -> Plan:
    """The plan of some cells and seeds."""
    planned = {(run.cell.name, run.seed): stages_of(run.config, directory.run(run.cell.name, run.seed)) for run in runs}
    everything = [found for stages in planned.values() for found in stages]
    cells: dict[str, dict[int, tuple[int, int]]] = {}
    for (cell, seed), stages in planned.items():
        cells.setdefault(cell, {})[seed] = (len(stages), sum(stage.manifest.exists() for stage, _ in stages))
    return Plan(
        stages=len(everything),
        distinct=len({key for _, key in everything}),
        done=len({key for stage, key in everything if stage.manifest.exists()}),
        cells=cells,
    )


def stages_of(config: Config, run: RunDir) -> Planned:
    """The stages of a run in their order, each with the hash of what it is made from as far as the recipe says."""
    tree = config.model_dump(mode="json")
    reference, policies = content_hash([tree["models"], "reference"]), [content_hash([tree["models"], "policy"])]
    planned: Planned = []
    _answered(planned, tree, run.reference, reference, judged=config.evaluate.baseline != "reference")
    _answered(planned, tree, run.iteration(0), policies[0])
    for t in range(1, config.iterations + 1):
        here = run.iteration(t)
        pairs = _paired(planned, config, tree, here, policies, reference)
        anchor = policies[-1] if config.train.reference == "previous" else reference
        policies.append(_add(planned, tree, here.stage("train"), [pairs, policies[-1], anchor, tree["train"]]))
        _answered(planned, tree, here, policies[-1])
    return planned


def _paired(
    planned: Planned,
    config: Config,
    tree: Mapping[str, Any],
    here: IterationDir,
    policies: Sequence[str],
    reference: str,
) -> str:
    """The stages from sampling to pairs; the last one's hash."""
    reward, policy = config.reward, policies[-1]
    drawn = [policy, tree["prompts"], tree["sample"], tree["shard_size"], tree["method"]]
    made = _add(planned, tree, here.stage("sample"), drawn)
    translated = ""
    if config.method == "lidr" or "translated" in reward.scored_views:
        translated = _add(planned, tree, here.stage("translate"), [made, tree["translator"]])
    if config.method == "lidr":
        back = _add(planned, tree, here.stage("translate-from-english"), [made, tree["translator"]])
        return _add(planned, tree, here.stage("pair"), [translated, back])
    if reward.kind == "implicit":
        ours = policies[0] if reward.policy == "initial" else policy
        base = policies[-2] if reward.reference == "previous" and len(policies) > 1 else reference
        more = {key: value for key, value in tree["reward"].items() if key not in _NOT_SCORING}
        scoring = [made, ours, base, tree["score"], tree["compatibility"], more]
        names: dict[str, Stage] = {
            "crosslingual": "score-crosslingual",
            "multilingual": "score-multilingual",
            "translated": "score-translated",
        }
        scores = [
            _add(
                planned,
                tree,
                here.stage("score" if reward.view != "ensemble" else names[view]),
                [*scoring, view, {"crosslingual": tree["reward"]["steering"], "translated": translated}.get(view)],
            )
            for view in reward.scored_views
        ]
        ranked = scores[0]
        if reward.view == "ensemble":
            ranked = _add(planned, tree, here.stage("rate"), scores)
    else:
        ranked = _add(planned, tree, here.stage("rate"), [made, translated, tree["reward"]])
    return _add(planned, tree, here.stage("pair"), [ranked, tree["pair"], reward.agreement, tree["compatibility"]])


def _answered(
    planned: Planned, tree: Mapping[str, Any], here: IterationDir, policy: str, *, judged: bool = True
) -> None:
    """Held-out answers of a policy and the verdicts on them, where the recipe asks for any."""
    section = tree["evaluate"]
    if section["prompts"] is None:
        return
    answering = {key: value for key, value in section.items() if key not in _JUDGING}
    answers = _add(planned, tree, here.stage("evaluate"), [policy, answering, tree["sample"]["engine"]])
    if section["judge"] is not None and judged:
        _add(planned, tree, here.stage("judge"), [answers, section["judge"], section["baseline"]])


def _add(planned: Planned, tree: Mapping[str, Any], stage: StageDir, made_from: Any) -> str:
    kind = stage.name if stage.name == "score" else stage.path.name
    always = [tree["seed"], tree["languages"], tree["pair"]["language_filter"], tree["runtime"]["device"]]
    key = content_hash([stage.path.parent.name, kind, made_from, always])
    planned.append((stage, key))
    return key

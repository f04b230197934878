"""A checkpoint of a run with a model card: safetensors as they are, and what was trained, measured and lost."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crossward.core.plain_markdown import code, one_line
from crossward.pipeline.concerns import look_at
from crossward.pipeline.exports import cards
from crossward.pipeline.exports.exported_run import ExportedRun, hub_dataset
from crossward.pipeline.exports.method import method_section, preference_limit, replay_notes, trained_on
from crossward.pipeline.exports.rows import Written, shown_path
from crossward.pipeline.guard import english_guard, told, told_tests
from crossward.pipeline.judge_stage import english_preferences
from crossward.store import manifest
from crossward.store.checked_files import file_sha256
from crossward.store.files import write_text
from crossward.store.rates_file import read_rates
from crossward.store.run_dir import StageDir

ADAPTER = "adapter_config.json"
_LIMITS = """\
## Limits

- {preferences} A win rate is a judge's, on the prompts judged.
- Languages that are not named above were not trained on and not measured.
- What the model knew, and what it does wrongly, it has from the model it was made from: that model's card holds too."""


def write_model(
    folder: Path,
    run: ExportedRun,
    iteration: int,
    *,
    license: str,
    base_model: str | None,
    link: bool,
    output: Path,
) -> Written:
    """The checkpoint's files and README.md. `link`: hard links in the place of copies, where the disk can."""
    cards.require_license(license)
    stage = run.directory.iteration(iteration).stage("train")
    for path in _whole_files(stage):
        target = folder / path.relative_to(stage.checkpoint)
        target.parent.mkdir(parents=True, exist_ok=True)
        _put(path, target, link=link)
    adapter = (folder / ADAPTER).exists()
    base = base_model or run.hub_name(run.config.models.policy)
    front = front_of(run, iteration, license=license, base=base, adapter=adapter)
    write_text(folder / "README.md", cards.card(front, _parts(run, iteration, license=license, adapter=adapter)))
    notes = list(replay_notes(run))
    if base is None:
        notes.append(
            "the policy is a local folder (or no stage records that it came from a hub), so the card names no "
            "base_model: give its hub name with --base-model"
        )
    if adapter and run.hub_name(run.config.models.policy) is None:
        notes.append(
            f"the checkpoint is an adapter, and its {ADAPTER} names the base by a path of this machine: edit it before "
            "others are to load it"
        )
    loader = "peft.AutoPeftModelForCausalLM" if adapter else "transformers.AutoModelForCausalLM"
    return Written(commands=(f"{loader}.from_pretrained({shown_path(output)!r})",), notes=tuple(notes))


def front_of(run: ExportedRun, iteration: int, *, license: str, base: str | None, adapter: bool) -> dict[str, Any]:
    """The front matter of the card."""
    front: dict[str, Any] = {
        "language": cards.hub_languages(sorted(run.config.languages)),
        "license": license,
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["dpo", "multilingual", "preference", "crossward"],
        "model_name": f"{run.name}, iteration {iteration}",
    }
    if base is not None:
        front["base_model"] = base
        front["base_model_relation"] = "adapter" if adapter else "finetune"
    source = hub_dataset(run.config.prompts.path)
    return front | ({"datasets": [source]} if source is not None else {})


def _whole_files(stage: StageDir) -> list[Path]:
    """The checkpoint's files as training listed them. Raises ValueError where one is not what it was."""
    made = manifest.read(stage)
    assert made is not None
    found = []
    for name, listed in sorted(made.shards.items()):
        path = stage.path / name
        if not path.is_file() or file_sha256(path) != listed["sha256"]:
            raise ValueError(
                f"checkpoint file {path} is missing or damaged (its sha256 is not the one in stage.json): train again "
                f"with --redo {stage.title}"
            )
        found.append(path)
    return [path for path in found if stage.checkpoint in path.parents]


def _put(path: Path, target: Path, *, link: bool) -> None:
    if link:
        try:
            os.link(path, target)
            return
        except OSError:  # another disk, or one without links
            pass
    shutil.copyfile(path, target)


def _parts(run: ExportedRun, iteration: int, *, license: str, adapter: bool) -> list[str]:
    config = run.config
    kind = "A LoRA adapter" if adapter else "A checkpoint"
    policy = code(run.public_name(config.models.policy))
    what = (
        f"# {code(run.name)}, iteration {iteration}\n\n{kind} of {policy}, aligned in "
        f"{', '.join(map(code, config.languages))} {trained_on(run, iteration)}."
    )
    stages = [f"iteration-{iteration}/pair", f"iteration-{iteration}/train"]
    return [
        what,
        method_section(run, range(1, iteration + 1)),
        _training(run, iteration),
        _win_rates(run, iteration),
        _english(run, iteration),
        _concerns(run),
        cards.provenance_section(run, stages),
        _LIMITS.format(preferences=preference_limit(run)),
        cards.license_section(license),
        f"## Citation\n\n{cards.CITATION}",
    ]


def _concerns(run: ExportedRun) -> str:
    """What a careful colleague would say of the run that the checkpoint is of."""
    look = look_at(run.directory, run.config)
    seen = [f"{concern.kind} ({concern.where}): {concern.seen}" for concern in look.concerns]
    lines = [f"- {one_line(text).replace('<', '&lt;')}" for text in seen]
    return "\n\n".join(["## Concerns", *lines, f"{look.lines()[-1].capitalize()}."])


def _training(run: ExportedRun, iteration: int) -> str:
    """Settings and last metrics of the training stage."""
    made = manifest.read(run.directory.iteration(iteration).stage("train"))
    assert made is not None
    rows: list[Sequence[object]] = [[code(key), code(json.dumps(value))] for key, value in made.settings.items()]
    rows.append([code("reference"), code(run.config.train.reference)])
    last = made.counts.get("training", {})
    known = ("steps", "pairs", "dpo_loss", "nll_loss", "rewards/accuracies", "rewards/margins")
    told_last = [f"{key} {last[key]:.4g}" for key in known if isinstance(last.get(key), int | float)]
    n_offline = f"{last['replayed']:g} " if "replayed" in last else ""
    offline = f", and on {n_offline}offline pairs (`train.replay`)" if run.config.train.replay else ""
    settings = cards.table(["setting", "value"], rows)
    text = f"## Training\n\nDPO + NLL on the pairs of this iteration{offline}.\n\n{settings}"
    return text + (f"\n\nAt the end: {', '.join(told_last)}." if told_last else "")


def _win_rates(run: ExportedRun, iteration: int) -> str:
    """Measured win rates of this policy and of the start policy, with intervals; or that there are none."""
    found = read_rates(run.directory.evaluation)
    if found is None:
        return "## Win rates\n\nNot measured: this run asked no judge."
    rows = [
        [
            code(rate["model"]),
            code(rate["language"]),
            rate["n_judged"],
            rate["n_null"],
            f"{rate['win_rate']:.2f} ± {rate['win_rate_se']:.2f}" if rate["win_rate_se"] is not None else None,
            cards.number(rate["lc_win_rate"], ".2f"),
            _interval(rate["lc_interval"]),
        ]
        for rate in found["rates"]
        if rate["model"] in ("π_0", f"π_{iteration}")
    ]
    section = run.config.evaluate
    named = section.judge.model or section.judge.checkpoint if section.judge is not None else None
    judge = None if named is None else run.public_name(named)
    by = f" Judge {code(judge)}." if judge else ""
    baselines = ", ".join(sorted({code(rate["baseline"]) for rate in found["rates"]}))
    head = ["policy", "language", "judged", "null", "win rate ± SE", "length-controlled", "95 % interval"]
    note = (
        f"Percent against {baselines}; π_0 is the model this was made from, π_{iteration} this one.{by} Length "
        f"control: {code(section.length_control)}."
    )
    return f"## Win rates\n\n{cards.table(head, rows)}\n\n{note}"


def _english(run: ExportedRun, iteration: int) -> str:
    """What English lost against iteration 0."""
    found = english_guard(run.directory, iteration, values_of=english_preferences)
    if found is None:
        return "## English\n\nNot measured: no held-out English answers of this iteration and of iteration 0."
    lines = [f"- {'DROPPED: ' if change.dropped else ''}{told(change)}" for change in found.changes]
    head = "Against iteration 0, on the same held-out prompts"
    return "\n".join(["## English", "", f"{head} ({told_tests(found)}):", "", *lines])


def _interval(bounds: Sequence[float] | None) -> str | None:
    return None if bounds is None else f"[{bounds[0]:.1f}, {bounds[1]:.1f}]"

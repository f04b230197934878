"""Whose run a folder is and what it was made with: config.yaml as resolved, provenance.json with versions, hardware."""

import difflib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from crossward.config import Config
from crossward.store import manifest
from crossward.store.files import remove, write_text
from crossward.store.manifest import content_hash
from crossward.store.reward_accuracy_file import read_reward_accuracy, write_reward_accuracy
from crossward.store.run_dir import RunDir, Stage, StageDir
from crossward.yaml_keys import load_yaml

PACKAGES = ("crossward", "torch", "transformers", "trl", "peft", "accelerate", "datasets", "lingua-language-detector")
# A server may move and be asked more patiently; its model's name may not change. No manifest records these keys. But
# samples and points of an unfinished shard are kept under the address: a server that moved is asked for them again.
_SERVER = ("base_url", "api_key_env", "concurrency", "timeout_s")
# Keys that may change between two runs of the same folder: they move or extend the work, they do not alter it.
FREE = (
    *("runtime", "cluster", "iterations", "run", "tracking", "train.launch"),
    *("evaluate.length_control", "evaluate.difficulty", "evaluate.gamed"),  # win rates are computed anew each time
    *(f"{section}.{key}" for section in ("sample.openai", "reward.judge") for key in (*_SERVER, "attempts")),
    *(f"translator.{key}" for key in (*_SERVER, "request_attempts")),  # its attempts are at texts, not requests
    *(f"evaluate.judge.{key}" for key in (*_SERVER, "attempts", "prompt_price", "completion_price")),
    *(f"evaluate.judge.{key}" for key in ("max_cost", "max_tokens")),
)
_SEAL = "# checksum of the lines below: "  # config.yaml's first line; none in runs of earlier versions
# Every stage of an iteration is made from the one before; answers come from the policy that training made.
CHAIN: tuple[Stage, ...] = get_args(Stage)
# The stage that the keys of a section decide first; other keys (models, prompts, languages, seed) decide all of them.
DECIDES: dict[str, tuple[Stage, ...]] = {
    "sample": ("sample",),
    "reward": ("score", "rate"),
    "translator": ("translate",),
    "score": ("score",),
    "compatibility": ("score",),
    "pair": ("pair",),
    "train": ("train",),
    "evaluate": ("evaluate",),
    "evaluate.judge": ("judge",),
    "evaluate.baseline": ("judge",),
}


def stages_to_redo(directory: RunDir, config: Config, redo: Sequence[str]) -> list[StageDir]:
    """The stages named, such as "iteration-1/pair", and all that are made from them; nothing is removed yet."""
    found = {stage.title: stage for name in redo for stage in _stages_from(directory, name, config.iterations)}
    return list(found.values())


def claim(
    directory: RunDir, config: Config, again: Sequence[StageDir], *, say: Callable[[str], None] = lambda line: None
) -> None:
    """Take the folder for this config: remove the stages to do `again`, write config and provenance.

    `say` hears where what the folder was made with is no longer known. Call when all that can be checked beforehand is
    sound: what is removed here is gone.
    """
    begun = _begun(directory)
    stages = again if begun else _stages(directory)
    for stage in stages:
        manifest.redo(stage)
    if stages:
        _forget_what_was_said(directory, stages)
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    if begun and not directory.config.exists():
        say(f"{directory.config} is gone: it is written anew, from the recipe of now")
    write_text(directory.config, f"{_SEAL}{content_hash(text)}\n{text}")
    if begun and read_provenance(directory) is None:
        say(f"{directory.provenance} is missing or damaged: it is written anew, with the versions of now")
    if not begun or read_provenance(directory) is None:
        remove(directory.provenance)
        found = _provenance(config)
        sealed = {**found, "checksum": content_hash(found)}
        write_text(directory.provenance, json.dumps(sealed, indent=2, sort_keys=True) + "\n")


def read_provenance(directory: RunDir) -> dict[str, Any] | None:
    """What a run was made with; None where that is missing or damaged."""
    try:
        found = json.loads(directory.provenance.read_bytes())
        whole = found.pop("checksum", None) in (None, content_hash(found))  # none in runs of earlier versions
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return None
    tables = all(isinstance(found.get(key) or {}, dict) for key in ("packages", "git"))
    return found if whole and tables else None


def _forget_what_was_said(directory: RunDir, again: Sequence[StageDir]) -> None:
    """Remove rates and accuracies of policies that are made anew; a judge's answers and other accuracies stay."""
    directory.evaluation.unlink(missing_ok=True)
    trained = [t for t in directory.iterations() if directory.iteration(t).stage("train") in again]
    known = read_reward_accuracy(directory.reward_accuracy)
    if trained and known:  # iteration t's reward is the policy that iteration t − 1 trained
        write_reward_accuracy(directory.reward_accuracy, [row for row in known if row.iteration <= min(trained)])


def read_config(directory: RunDir) -> dict[str, Any]:
    """config.yaml of a run as nested dictionaries. Raises ValueError where it is no config, or was changed."""
    try:
        text = directory.config.read_text(encoding="utf-8")
        tree = load_yaml(text)
    except (yaml.YAMLError, ValueError, IsADirectoryError):
        tree, text = None, ""
    seal, _, lines = text.partition("\n")
    if not isinstance(tree, dict) or (seal.startswith(_SEAL) and seal != f"{_SEAL}{content_hash(lines)}"):
        raise ValueError(
            f"{directory.config} is damaged or was changed: delete it and run the recipe that the run was made with, "
            "which writes it anew and does no stage again"
        )
    return tree


def _stages(directory: RunDir) -> list[StageDir]:
    """Every stage of the folders that are there."""
    folders = [directory.reference, *(directory.iteration(t) for t in directory.iterations())]
    return [folder.stage(name) for folder in folders for name in CHAIN]


def _begun(directory: RunDir) -> bool:
    """Whether anything was computed: a folder in which nothing was belongs to nobody yet."""
    return any(path != stage.inputs for stage in _stages(directory) for path in stage.path.rglob("*"))


def _stages_from(directory: RunDir, name: str, iterations: int) -> list[StageDir]:
    """The stage called `name` and every later stage that is made from it; of answers only verdicts are made."""
    folders = [directory.reference, directory.iteration(0)]
    answers = [folder.stage(stage) for folder in folders for stage in ("evaluate", "judge")]
    chain = [
        directory.iteration(t).stage(stage)
        for t in range(1, max(iterations, *directory.iterations(), 1) + 1)
        for stage in CHAIN
    ]
    known = {stage.title: stage for stage in (*answers, *chain)}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise ValueError(
            f"--redo {name}: no such stage; "
            + (f"did you mean {near[0]}?" if near else f"stages are {', '.join(known)}")
        )
    if name.endswith("/judge"):
        return [known[name]]
    if name == directory.reference.stage("evaluate").title:  # it may be the baseline of all
        return [known[name], *(stage for stage in known.values() if stage.name == "judge")]
    if name.endswith("/evaluate"):
        return [known[name], known[name.removesuffix("evaluate") + "judge"]]
    return chain[chain.index(known[name]) :]


def require_same_config(directory: RunDir, config: Config, again: Sequence[StageDir] = ()) -> None:
    """Raise ValueError that names every key in which what the folder holds was made otherwise.

    A key may change where no stage that it decides has begun, or where all of them are done `again`.
    """
    directory.require_folder()
    if not directory.config.exists() or not _begun(directory):
        return
    titles = {stage.title for stage in again}
    changed: list[str] = []
    hint = ""
    for key, text in _differences(_with_defaults(read_config(directory)), config.model_dump(mode="json")):
        owner = next((name for name in _prefixes(key) if name in DECIDES or name in FREE), "")
        decided = DECIDES.get(owner, CHAIN)
        kept = [
            stage.title
            for stage in _stages(directory)
            if stage.name in decided
            and stage.title not in titles
            and (stage.inputs.exists() or stage.manifest.exists())
        ]
        if owner not in FREE and kept:
            changed.append(text)
            hint = hint or (f", or do {kept[0]} again with --redo" if owner in DECIDES else "")
    if changed:
        raise ValueError(
            f"{directory.root} belongs to another config: {'; '.join(changed)}: "
            f"choose another folder with run=FOLDER, change the recipe back{hint}"
        )


def _with_defaults(tree: dict[str, Any]) -> dict[str, Any]:
    """A config as it was saved, with the defaults of keys that did not exist then."""
    try:
        return Config.model_validate(tree).model_dump(mode="json")
    except ValidationError:
        return tree  # saved by a version with other keys: what differs is told


def _prefixes(key: str) -> list[str]:
    """`a.b.c`, `a.b`, `a`: the longest that is known says which stages a key decides."""
    parts = key.split(".")
    return [".".join(parts[:n]) for n in range(len(parts), 0, -1)]


def _differences(before: Any, after: Any, key: str = "") -> list[tuple[str, str]]:
    """Every leaf that differs: its dotted key, and 'a.b was X, now Y'."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            found
            for name in sorted({*before, *after})
            for found in _differences(before.get(name), after.get(name), f"{key}.{name}" if key else name)
        ]
    return [] if before == after else [(key, f"{key} was {before!r}, now {after!r}")]


def _provenance(config: Config) -> dict[str, Any]:
    return {
        "seed": config.seed,
        "packages": {name: _version(name) for name in PACKAGES},
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "git": _git_state(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_state() -> dict[str, Any] | None:
    """Commit of the checkout that holds this package, and whether it has changes; None outside a checkout."""
    here = Path(__file__).parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True, timeout=10
        )
        status = subprocess.run(
            ["git", "status", "--porcelain"], cwd=here, capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit.stdout.strip(), "changed": bool(status.stdout.strip())}

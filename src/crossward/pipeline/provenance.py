"""Whose run a folder is and what it was made with: config.yaml as resolved, provenance.json with versions, hardware."""

import difflib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from crossward.config import Config
from crossward.store import manifest
from crossward.store.files import write_text
from crossward.store.run_dir import RunDir, Stage, StageDir

PACKAGES = ("crossward", "torch", "transformers", "trl", "peft", "accelerate", "datasets", "lingua-language-detector")
# Keys that may change between two runs of the same folder: they move or extend the work, they do not alter it.
FREE = ("runtime", "iterations", "run")
# Every stage of an iteration is made from the one before; answers come from the policy that training made.
CHAIN: tuple[Stage, ...] = ("sample", "score", "pair", "train", "evaluate")


def claim(directory: RunDir, config: Config, *, redo: Sequence[str]) -> None:
    """Take the folder for this config: check that it is new or belongs to it, then write config and provenance.

    With `redo`, the stages named and all that follow from them are removed, and the folder takes the new config; a
    stage before them that was made from other settings still stops the run.
    """
    if not redo:
        require_same_config(directory, config)
    for name in redo:
        for stage in _stages_from(directory, name, config.iterations):
            manifest.redo(stage)
    resolved = config.model_dump(mode="json")
    write_text(directory.config, yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True))
    if not directory.provenance.exists():
        write_text(directory.provenance, json.dumps(_provenance(config), indent=2, sort_keys=True) + "\n")


def _stages_from(directory: RunDir, name: str, iterations: int) -> list[StageDir]:
    """The stage called `name`, such as iteration-1/pair, and every later stage that is made from it."""
    answers = [directory.reference.stage("evaluate"), directory.iteration(0).stage("evaluate")]
    chain = [
        directory.iteration(t).stage(stage)
        for t in range(1, max(iterations, *directory.iterations(), 1) + 1)
        for stage in CHAIN
    ]
    names = [stage.title for stage in (*answers, *chain)]
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        raise ValueError(
            f"--redo {name}: no such stage; "
            + (f"did you mean {near[0]}?" if near else f"stages are {', '.join(names)}")
        )
    for stage in answers:
        if stage.title == name:
            return [stage]
    return chain[[stage.title for stage in chain].index(name) :]


def require_same_config(directory: RunDir, config: Config) -> None:
    """Raise ValueError that names every key in which the folder's config differs from this one."""
    if not directory.config.exists():
        return
    before = yaml.safe_load(directory.config.read_text(encoding="utf-8"))
    differences = _differences(before, config.model_dump(mode="json"))
    if changed := [text for key, text in differences if key.split(".")[0] not in FREE]:
        raise ValueError(
            f"{directory.root} belongs to another config: {'; '.join(changed)}: "
            "choose another folder with run=FOLDER, or change the recipe back"
        )


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

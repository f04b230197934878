"""What the shell is offered: scripts for three shells, verbs, runs, recipes, keys, stages, languages; quickly."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from crossward import cli_complete

LIGHT = ("torch", "transformers", "trl", "pyarrow", "datasets")
REPORT = (
    "import sys, atexit; atexit.register(lambda: print('|'.join(m for m in {light!r} if m in sys.modules), "
    "file=sys.stderr)); from crossward.cli import main; main()"
)


def completed(words: str, folder: Path) -> list[str]:
    """What bash is offered for the last word; fails where a heavy library was loaded for it."""
    typed = words.split(" ")
    done = subprocess.run(
        [sys.executable, "-c", REPORT.format(light=LIGHT)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ
        | {
            "_CROSSWARD_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(typed) - 1),
            "PYTHONPATH": os.pathsep.join(map(os.path.abspath, filter(None, sys.path))),
        },
    )
    assert done.stderr.strip() == "", done.stderr
    return done.stdout.split()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A working directory with a recipe and a run of it."""
    run = tmp_path / "runs" / "grid" / "cells" / "a" / "seed-1"
    for stage in ("sample", "pair"):
        (run / "iteration-1" / stage).mkdir(parents=True)
        (run / "iteration-1" / stage / "inputs.json").write_text("{}")
    tree = {"run": str(run), "languages": ["en", "es", "el"], "iterations": 2}
    (run / "config.yaml").write_text(yaml.safe_dump(tree))
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.yaml").write_text(yaml.safe_dump(tree))
    (tmp_path / "runs" / "loop").symlink_to(tmp_path / "runs")
    return tmp_path


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_every_shell(shell: str):
    done = subprocess.run(
        [sys.executable, "-m", "crossward", "--show-completion", shell],
        capture_output=True,
        text=True,
        env=os.environ
        | {
            "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
            "PYTHONPATH": os.pathsep.join(map(os.path.abspath, filter(None, sys.path))),
        },
    )
    assert done.returncode == 0, done.stderr
    assert f"_CROSSWARD_COMPLETE=complete_{shell}" in done.stdout


def test_verbs_and_keys_without_a_heavy_library(place: Path):
    assert completed("crossward sc", place) == ["score"]
    keys = completed("crossward run recipes/mine.yaml sample.", place)
    assert {"sample.n=", "sample.temperature=", "sample.openai.base_url="} <= set(keys)
    assert all(key.startswith("sample.") for key in keys)


def test_runs_and_their_languages(place: Path):
    run = "runs/grid/cells/a/seed-1"
    assert completed("crossward show ru", place) == [run]
    assert completed(f"crossward show {run} --language e", place) == ["en", "es", "el"]


def test_the_modes_of_progress_behind_a_verb(place: Path):
    assert completed("crossward run recipes/mine.yaml --progress ", place) == ["auto", "bar", "plain", "json", "none"]
    behind = completed("crossward run recipes/mine.yaml --progress --redo ", place)
    assert behind == ["iteration-1/sample", "iteration-1/pair"]


def context(**params: object) -> typer.Context:
    found = typer.Context(typer.main.get_command(typer.Typer(callback=lambda: None)))
    found.params = dict(params)
    return found


def test_stages_of_the_run_that_a_recipe_names(place: Path):
    there = ["iteration-1/sample", "iteration-1/pair"]
    recipe = place / "recipes" / "mine.yaml"
    assert cli_complete.stages_of(context(recipe=recipe), "") == there
    elsewhere = context(recipe=recipe, overrides=[f"run={place / 'new'}"])
    assert cli_complete.stages_of(elsewhere, "iteration-2/tr") == [
        "iteration-2/translate",
        "iteration-2/translate-from-english",
        "iteration-2/train",
    ]
    assert cli_complete.iterations_of(context(run=str(place)), "") == []
    assert cli_complete.iterations_of(context(recipe=recipe), "") == ["1", "2"]
    assert cli_complete.languages_of(context(), "") == []


def test_recipes_and_sections(place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(place)
    assert cli_complete.recipes("") == ["recipes/mine.yaml"]
    assert cli_complete.recipes("recipes/m") == ["recipes/mine.yaml"]
    assert cli_complete.recipes("nowhere/x") == []
    assert {"sample.", "seed="} <= set(cli_complete.override_keys("s"))
    assert cli_complete.run_folders("nowhere/") == []

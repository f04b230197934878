"""Every file of recipes/paper is valid without any model, explains itself, and says what it aims at and what it costs.

The GPU-hours and dollars in its comments are those of the formula in docs/paper.md, computed here from the recipes.
"""

import os
import re
import subprocess
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.core import TyperGroup

from crossward.cli import app
from crossward.config import Config, load
from crossward.engines.published_scorer import BATCH_PROMPTS
from crossward.experiment_cells import cell_runs
from crossward.experiment_config import read_experiment
from crossward.pipeline.experiment_plan import stages_of
from crossward.pipeline.streams import WINDOW
from crossward.store.run_dir import RunDir, safe_name

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "recipes" / "paper").glob("*.yaml"))
SCRIPTS = sorted((ROOT / "recipes" / "paper").glob("*.sh"))
DOC = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
BASE = "table-2-dpo"

# The numbers of docs/paper.md, "What it costs".
PARAMETERS = 8.03e9
TRANSLATION_PARAMETERS = 0.6e9
PEAK_FLOPS = 989e12
SAMPLING, SCORING, TRAINING = 0.15, 0.40, 0.30
PROMPT_TOKENS, RESPONSE_TOKENS = 250, 400
QUESTIONS = 805
DOLLARS_A_QUESTION = 0.013


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)


def tree_of(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def configs_of(path: Path) -> list[Config]:
    """The recipe of a file, or of every cell and seed of an experiment."""
    if "experiment" not in tree_of(path):
        return [load(path)]
    experiment = read_experiment(path)
    return [run.config for run in cell_runs(experiment, root=Path(experiment.experiment))]


def head_of(path: Path, *, first: int = 0) -> str:
    """The comments at the head, from line `first` on, as one line."""
    lines = path.read_text(encoding="utf-8").split("\nset -eu")[0].split("\n\n")[0].splitlines()[first:]
    assert all(line.startswith("# ") for line in lines), path.name
    return " ".join(line.removeprefix("# ").strip() for line in lines)


def test_the_rows_and_figures_have_their_files():
    assert {path.stem for path in RECIPES} >= {
        *(BASE, "table-2", "table-5-low-resource", "figure-3-rewards", "figure-4-prompts"),
        *("ablation-references", "ablation-length-control", "rivals", "rival-dice", "more-iterations"),
        "without-english",
    }


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_cell_is_valid_and_writes_to_a_folder_of_its_own(path: Path):
    configs = configs_of(path)
    assert len({config.run for config in configs}) == len(configs)
    for config in configs:
        assert config.run.startswith(f"runs/paper/{path.stem}")
        assert all(safe_name(part) == part for part in Path(config.run).parts)
        assert config.evaluate.judge is not None
        assert config.models.reference == "princeton-nlp/Llama-3-Base-8B-SFT"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_published_scorers_batches_stay_whole(path: Path):
    for config in configs_of(path):
        if config.compatibility == "published":
            assert config.shard_size % BATCH_PROMPTS == WINDOW % BATCH_PROMPTS == 0


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_value_is_commented(path: Path):
    for before, line in pairwise(path.read_text(encoding="utf-8").splitlines()):
        sets_a_value = re.match(r" *(- \S|[\w.,' -]+: +[^ #])", line)
        assert not sets_a_value or " # " in line or before.lstrip().startswith("# "), f"{path.name}: {line!r}"
        assert len(line) <= 150, f"{path.name}: {line!r}"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_head_says_what_is_published_and_what_is_not(path: Path):
    head = head_of(path)
    published = re.search(r"Published.*?(?=Known)", head)
    assert published is not None
    assert re.search(r"\d\.\d|no number that we know", published[0]), "which published number, or none?"
    assert re.search(r"x-alpacaeval\.png|picture|plot|table-2-dpo\.yaml|model card", published[0]), "published where?"
    for part in ("Known", "Not published:", "Hardware:", "GPU-hours:", "nobody has measured it", "Run: crossward "):
        assert part in head, part
    verb = "experiment" if "experiment" in tree_of(path) else "run"
    assert f"crossward {verb} recipes/paper/{path.name}" in head


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_hours_and_dollars_are_those_of_the_formula(path: Path):
    hours, questions = work_of(configs_of(path))
    said = re.search(r"GPU-hours: (\d+) .*?Judge: (\d+) dollars", head_of(path))
    assert said is not None
    assert (int(said[1]), int(said[2])) == (round(hours), round(questions * DOLLARS_A_QUESTION, -1))
    row = next(line for line in DOC.splitlines() if line.startswith("|") and f"{path.name})" in line and "$" in line)
    assert f"| {said[1]} | ${said[2]} |" in row


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_file_that_names_another_names_one_that_is_there(path: Path):
    for named in re.findall(r"[\w-]+\.yaml", path.read_text(encoding="utf-8")):
        assert (path.parent / named).exists(), f"{path.name} names {named}"


def test_the_doc_links_every_file():
    linked = set(re.findall(r"\]\(\.\./recipes/paper/([\w-]+\.\w+)\)", DOC))
    assert linked == {path.name for path in (*RECIPES, *SCRIPTS)}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_table_that_is_no_recipe_is_a_script_of_valid_commands_over_the_same_policies(path: Path, tmp_path: Path):
    """Run with a `crossward` that writes down what it is called with; the real one then reads that."""
    calls = tmp_path / "calls"
    stand_in = tmp_path / "crossward"
    stand_in.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" END >> {calls}\n')
    stand_in.chmod(0o755)
    subprocess.run(
        ["bash", str(path), "--dtype", "float32"],
        check=True,
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    main_run = load(ROOT / "recipes" / "paper" / f"{BASE}.yaml")
    checkpoints = [f"{main_run.run}/iteration-{t}/train/checkpoint" for t in (1, 2)]
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    asked: list[str] = []
    for call in calls.read_text(encoding="utf-8").split("\nEND\n")[:-1]:
        verb, *arguments = call.split("\n")
        options = group.commands[verb].make_context(verb, arguments).params
        assert (tuple(options["language"]), options["dtype"]) == (main_run.languages, "float32")
        asked.append(options["policy"] if verb == "mt-bench" else options["model"])
    assert asked == [main_run.models.policy, *checkpoints]
    head = head_of(path, first=1)
    for part in (
        "Published (",
        "Known:",
        "Not published:",
        "Hardware:",
        "nobody has measured",
        f"Run: bash recipes/paper/{path.name}",
    ):
        assert part in head, part


def test_only_what_a_cell_says_differs_from_the_main_run():
    base = load(ROOT / "recipes" / "paper" / f"{BASE}.yaml").model_dump(exclude={"run"})
    for path in RECIPES:
        if path.stem == BASE:
            continue
        experiment = read_experiment(path)
        assert experiment.recipe == f"recipes/paper/{BASE}.yaml"
        for run in cell_runs(experiment, root=Path(experiment.experiment)):
            changed = {key.split(".")[0] for key in {**experiment.set, **run.cell.changes}}
            found = run.config.model_dump(exclude={"run"})
            assert {key for key in base if found[key] != base[key]} <= changed


def test_the_formula_by_hand():
    """3,000 prompts × 5 languages × 10 responses of 400 tokens are 60 million; 16,100 questions are 4 policies'."""
    config = load(ROOT / "recipes" / "paper" / f"{BASE}.yaml")
    hours = {name: hours_of(name, config) for name in ("sample", "score", "train", "evaluate")}
    flops = 2 * 8.03e9
    assert hours["sample"] == pytest.approx(60e6 * flops / (0.15 * 989e12) / 3600)
    assert hours["score"] == pytest.approx(2 * (60e6 + 15_000 * 250) * flops / (0.4 * 989e12) / 3600)
    assert hours["train"] == pytest.approx(15_000 * (250 + 800) * 5 * flops / (0.3 * 989e12) / 3600)
    assert hours["evaluate"] == pytest.approx(805 * 5 * 400 * flops / (0.15 * 989e12) / 3600)
    total, questions = work_of([config])
    assert total == pytest.approx(2 * (hours["sample"] + hours["score"] + hours["train"]) + 4 * hours["evaluate"])
    assert questions == 16_100


def work_of(configs: Sequence[Config]) -> tuple[float, int]:
    """(GPU-hours, questions to the judge) of all runs together, a stage that they share counted once."""
    seen: set[str] = set()
    hours, questions = 0.0, 0
    for config in configs:
        for stage, key in stages_of(config, RunDir(Path(config.run))):
            if key not in seen:
                seen.add(key)
                hours += hours_of(stage.path.name, config)
                if stage.path.name == "judge":
                    questions += QUESTIONS * len(config.evaluate.languages or config.languages)
    return hours, questions


def hours_of(stage: str, config: Config) -> float:
    """H100-hours of one stage of one iteration."""
    assert config.prompts.limit is not None
    groups = config.prompts.limit * len(config.languages)
    foreign = config.prompts.limit * sum(language != "en" for language in config.languages)
    responses = config.sample.n * RESPONSE_TOKENS
    read = PROMPT_TOKENS + responses
    match stage:
        case "sample":
            return _hours(groups * responses, SAMPLING)
        case "translate":
            both = 2 if config.method == "lidr" else 1
            return _hours(both * foreign * responses, SAMPLING)
        case "score":
            return _hours(2 * groups * read, SCORING)
        case "rate":
            return _rating_hours(config, groups, foreign)
        case "train":
            share = 0.0 if config.train.replay is None else config.train.replay.share
            pairs = groups / (1 - share)
            return _hours(config.train.epochs * pairs * 5 * (PROMPT_TOKENS + 2 * RESPONSE_TOKENS), TRAINING)
        case "evaluate":
            languages = len(config.evaluate.languages or config.languages)
            return _hours(QUESTIONS * languages * RESPONSE_TOKENS, SAMPLING)
        case _:
            return 0.0


def _rating_hours(config: Config, groups: int, foreign: int) -> float:
    n = config.sample.n
    match config.reward.kind:
        case "reward-model":
            return _hours(groups * n * (PROMPT_TOKENS + RESPONSE_TOKENS), SCORING)
        case "judge":
            asked = groups * n * config.reward.judge.draws
            return _hours(asked * (PROMPT_TOKENS + RESPONSE_TOKENS), SCORING) + _hours(asked * 200, SAMPLING)
        case "translation-likelihood":
            tokens = foreign * n * n * 2 * RESPONSE_TOKENS
            return _hours(tokens, SCORING) * TRANSLATION_PARAMETERS / PARAMETERS
        case kind:
            raise AssertionError(kind)


def _hours(tokens: float, utilisation: float) -> float:
    """Tokens × 2 × parameters / (peak × utilisation), in hours."""
    return tokens * 2 * PARAMETERS / (PEAK_FLOPS * utilisation) / 3600

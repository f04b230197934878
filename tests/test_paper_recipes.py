"""Every file of recipes/paper is valid without any model, explains itself, and says what it aims at and what it costs.

The GPU-hours and dollars in its comments are those of `crossward check` on an H100 with the numbers of docs/paper.md.
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
from crossward.core.plan_cost import StageCost
from crossward.core.workload import ModelShape
from crossward.engines.published_scorer import BATCH_PROMPTS
from crossward.experiment_cells import cell_runs
from crossward.experiment_config import read_experiment
from crossward.pipeline.experiment_plan import stages_of
from crossward.pipeline.plan import judge_cost, on_hardware, workload_of
from crossward.pipeline.plan_inputs import Inputs
from crossward.pipeline.streams import WINDOW
from crossward.plan_tables import hardware_table, price_table
from crossward.store.run_dir import RunDir, safe_name

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "recipes" / "paper").glob("*.yaml"))
SCRIPTS = sorted((ROOT / "recipes" / "paper").glob("*.sh"))
DOC = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
BASE = "table-2-dpo"

# The numbers of docs/paper.md, "What it costs": Llama-3-8B, and what is assumed of prompts and responses.
LLAMA_3_8B = ModelShape(
    parameters=8_030_261_248,
    layers=32,
    hidden=4096,
    intermediate=14336,
    attention_width=4096,
    kv_width=1024,
    vocabulary=128_256,
    tied=False,
    adapter_width=32 * (2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 14336)),
)
PROMPT_TOKENS, RESPONSE_TOKENS, QUESTIONS, TEMPLATE_TOKENS = 250, 400, 805, 250
H100 = hardware_table()["h100-80gb"]


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
    hours, dollars = work_of(configs_of(path))
    said = re.search(r"GPU-hours: (\d+) .*?Judge: (\d+) dollars", head_of(path))
    assert said is not None
    assert (int(said[1]), int(said[2])) == (round(hours), round(dollars, -1))
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


def test_the_main_run_in_counts():
    """3,000 prompts × 5 languages × 10 responses of 400 tokens are 60 million; 16,100 questions are 4 policies'."""
    config = load(ROOT / "recipes" / "paper" / f"{BASE}.yaml")
    costs = costs_of(config)
    assert costs["sample"].generated_tokens == 60e6
    assert costs["score"].scored_tokens >= 2 * (60e6 + 15_000 * 250)
    assert costs["train"].trained_tokens == 15_000 * (250 + 800)
    assert costs["evaluate"].generated_tokens == 805 * 5 * 400
    hours, dollars = work_of([config])
    each = {name: cost.wall_seconds / 3600 for name, cost in costs.items()}
    ours = each["sample"] + each["score"] + each["pair"] + each["train"]
    assert hours == pytest.approx(2 * ours + 4 * each["evaluate"])
    assert dollars == pytest.approx(16_100 * (1_300 * 10 + 30) / 1e6)


def work_of(configs: Sequence[Config]) -> tuple[float, float]:
    """(GPU-hours, dollars of the judge) of all runs together, a stage that they share counted once."""
    seen: set[str] = set()
    hours, dollars = 0.0, 0.0
    for config in configs:
        costs = costs_of(config)
        judged = judge_cost(config, workload_of(config, inputs(config), "gpu"), price_table())
        assert judged is not None
        assert judged.cost is not None
        policies = config.iterations + 1 + (config.evaluate.baseline != "reference")
        for stage, key in stages_of(config, RunDir(Path(config.run))):
            if key not in seen:
                seen.add(key)
                cost = costs.get(stage.path.name)
                hours += 0.0 if cost is None else cost.wall_seconds / 3600
                dollars += judged.cost / policies if stage.path.name == "judge" else 0.0
    return hours, dollars


def costs_of(config: Config) -> dict[str, StageCost]:
    """What each stage takes once, on one H100."""
    return {stage.name: stage for stage in on_hardware(config, inputs(config), H100).plan.stages}


def inputs(config: Config) -> Inputs:
    assert config.prompts.limit is not None
    answered = len(config.evaluate.languages or config.languages)
    return Inputs(
        shape=LLAMA_3_8B,
        prompts=config.prompts.limit * len(config.languages),
        languages=len(config.languages),
        foreign_share=sum(language != "en" for language in config.languages) / len(config.languages),
        prompt_tokens=PROMPT_TOKENS,
        judged_tokens=PROMPT_TOKENS,
        response_tokens=RESPONSE_TOKENS,
        answers=QUESTIONS * answered,
        answer_languages=answered,
        answer_prompt_tokens=PROMPT_TOKENS,
        answer_tokens=RESPONSE_TOKENS,
        template_tokens=TEMPLATE_TOKENS,
    )

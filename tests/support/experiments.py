"""An experiment on tiny random models: a recipe of tests/support/recipes.py written inline, cells over it."""

from pathlib import Path
from typing import Any

import yaml
from tests.support.recipes import make_recipe

from crossward.experiment_cells import CellRun, cell_runs
from crossward.experiment_config import Experiment
from crossward.pipeline.experiment import Outcome, run_experiment
from crossward.pipeline.progress import Progress, Silent
from crossward.store.experiment_dir import ExperimentDir


def make_experiment(folder: Path, **changes: Any) -> dict[str, Any]:
    """An experiment as nested dictionaries, in `folder`/experiment; one iteration, no figures, no noise."""
    few_and_large = {"device": "cpu", "sample_rows": 64, "score_tokens": 2048}
    recipe = make_recipe(folder, iterations=1, shard_size=6, score={"noise_sample": 0}, runtime=few_and_large)
    tree: dict[str, Any] = {
        "experiment": str(folder / "experiment"),
        "recipe": recipe,
        "seeds": [1],
        "measure": {"metric": "n_chars"},
        "figures": [],
    }
    return tree | changes


def checked(tree: dict[str, Any]) -> tuple[Experiment, list[CellRun], ExperimentDir]:
    experiment = Experiment.model_validate(tree)
    directory = ExperimentDir(Path(experiment.experiment))
    return experiment, cell_runs(experiment, root=directory.root), directory


def silent(title: str) -> Progress:
    return Silent()


def run_all(tree: dict[str, Any], *, part: list[CellRun] | None = None, jobs: int = 1) -> Outcome:
    """Run an experiment without a world."""
    experiment, runs, directory = checked(tree)
    return run_experiment(
        experiment,
        runs,
        part=runs if part is None else part,
        directory=directory,
        jobs=jobs,
        world=None,
        progress=Silent(),
        progress_of=silent,
    )


def write_experiment(folder: Path, tree: dict[str, Any]) -> Path:
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(tree, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path


def results(directory: ExperimentDir) -> dict[str, bytes]:
    """Every file of results/."""
    return {path.name: path.read_bytes() for path in sorted(directory.results.iterdir())}

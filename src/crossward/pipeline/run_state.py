"""What is there of a run: which of its stages are done, whether it is going on, and what is damaged.

Read from config.yaml, stage.json and inputs.json alone, so that a folder of many runs is told in a moment: no shard is
opened and nothing is hashed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from crossward.config import Config, parse
from crossward.pipeline import provenance
from crossward.pipeline.experiment_plan import stages_of
from crossward.store import manifest
from crossward.store.lock import holder_of
from crossward.store.manifest import StageManifest
from crossward.store.run_dir import RunDir, Stage, StageDir, require_no_way_out

StageState = Literal["done", "begun", "open", "damaged"]
State = Literal["done", "running", "stopped", "damaged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFound:
    """One stage of a run; `manifest` where it is done."""

    title: str
    state: StageState
    manifest: StageManifest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFound:
    """A run; `at` is the first stage that is not done, `problem` what is damaged, `holder` the process that runs it.

    `config` is the file as it stands, whatever it says; `languages` are of a recipe that parses, else none.
    """

    root: Path
    state: State
    config: dict[str, Any]
    languages: tuple[str, ...]
    stages: tuple[StageFound, ...]
    at: str | None
    problem: str | None
    holder: str | None

    @property
    def n_done(self) -> int:
        return sum(stage.state == "done" for stage in self.stages)


def is_run(folder: Path) -> bool:
    """Whether a run has claimed the folder: its config.yaml names what every recipe must name, and itself."""
    try:
        tree = provenance.read_config(RunDir(folder))
    except (ValueError, OSError):
        return (folder / "config.yaml").is_file() and (folder / "provenance.json").is_file()
    return {"run", "languages", "models", "prompts", "iterations"} <= tree.keys()


def require_run(folder: Path) -> RunDir:
    """The run in a folder. Raises ValueError where there is none."""
    directory = RunDir(folder)
    if not directory.config.is_file():
        raise ValueError(f"{folder} is not a run directory: it has no config.yaml")
    require_no_way_out(folder)
    return directory


def open_run(folder: Path) -> tuple[RunDir, Config]:
    """The run in a folder and its recipe. Raises ValueError where there is none, or its config is damaged."""
    directory = require_run(folder)
    return directory, parse(provenance.read_config(directory), where=str(directory.config))


def run_found(folder: Path) -> RunFound:
    """The state of the run in a folder; what cannot be read is told in it, not raised."""
    directory = require_run(folder)
    problem = None
    tree: dict[str, Any] = {}
    planned: list[StageDir] = []
    languages: tuple[str, ...] = ()
    try:
        tree = provenance.read_config(directory)
        config = parse(tree, where=str(directory.config))
        languages, planned = config.languages, _planned(config, directory)
    except (ValueError, OSError) as error:
        problem = str(error)
    stages: list[StageFound] = []
    for stage in planned or _there(directory):
        try:
            stages.append(_stage(stage))
        except (ValueError, OSError) as error:
            problem = problem or str(error)
            stages.append(StageFound(title=stage.title, state="damaged"))
    at = next((stage.title for stage in stages if stage.state != "done"), None)
    holder = holder_of(directory)
    state: State = "damaged" if problem else "done" if at is None else "stopped"
    return RunFound(
        root=folder,
        state="running" if holder is not None else state,
        config=tree,
        languages=languages,
        stages=tuple(stages),
        at=at,
        problem=problem,
        holder=holder,
    )


def _planned(config: Config, directory: RunDir) -> list[StageDir]:
    return [stage for stage, _ in stages_of(config, directory)]


def _there(directory: RunDir) -> list[StageDir]:
    """The stages that have a folder: all that can be said where the config cannot be read."""
    names: tuple[Stage, ...] = get_args(Stage)
    folders = [directory.reference, *(directory.iteration(t) for t in directory.iterations())]
    return [folder.stage(name) for folder in folders for name in names if folder.stage(name).path.is_dir()]


def _stage(stage: StageDir) -> StageFound:
    done = manifest.read(stage)
    if done is not None:
        return StageFound(title=stage.title, state="done", manifest=done)
    return StageFound(title=stage.title, state="begun" if stage.inputs.exists() else "open")

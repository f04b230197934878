"""A tracker hears every training step and every stage once, over stops and redoing, and never ends a run."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.support.recipes import config_of, make_recipe

from crossward.config import Config
from crossward.engines.trackers import Kind, TrackedRun
from crossward.pipeline import tracking
from crossward.pipeline.experiment_requirements import _what_matters
from crossward.pipeline.iterate import run
from crossward.pipeline.progress import SILENT, Silent
from crossward.pipeline.requirements import require_tracking
from crossward.pipeline.tracking import Tracked, tracked
from crossward.store.manifest import StageManifest
from crossward.store.run_dir import RunDir


@dataclass
class Noted:
    """A tracker that keeps what it is told, all runs in one list; fails at what is called `failing`."""

    opened: list[TrackedRun] = field(default_factory=list)
    points: list[tuple[str, str, int, float]] = field(default_factory=list)
    closed: int = 0
    failing: str = ""

    def open(self, kind: Kind, run: TrackedRun) -> "Noted":
        self.opened.append(run)
        return self

    def log(self, values: Mapping[str, float], *, axis: str, at: int) -> None:
        for name, value in values.items():
            if name == self.failing:
                raise RuntimeError("the server\nis gone")
            self.points.append((name, axis, at, value))

    def flush(self) -> None:
        return None

    def close(self) -> None:
        self.closed += 1

    def steps(self) -> list[int]:
        return [at for name, _, at, _ in self.points if name == "train/loss"]


class Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> Noted:
    found = Noted()
    monkeypatch.setattr(tracking, "open_tracker", found.open)
    return found


def recipe(folder: Path) -> Config:
    tree = make_recipe(folder, tracking={"tracker": "tensorboard", "project": "mine"})
    return config_of(tree)


def done(stage: str, digest: str, **counts: object) -> StageManifest:
    return StageManifest(
        stage=stage, inputs={}, settings={}, counts=counts, seconds=1.5, shards={"a": {"sha256": digest}}
    )


def write_steps(run: RunDir, t: int, *steps: int, half: bool = False) -> Path:
    path = run.iteration(t).stage("train").metrics
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.dumps({"step": step, "loss": step / 10, "epoch": 0.5}) + "\n" for step in steps]
    path.write_text("".join(rows) + ('{"step": 99, "lo' if half else ""))
    return path


def test_steps_and_stages_are_told_once(tmp_path: Path, noted: Noted, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tracking, "EVERY_S", 0.0)
    config, directory = recipe(tmp_path), RunDir(tmp_path / "run")
    pairs = {"es": {"n_pairs": 3, "alpha": 0.25, "skipped": {"tie": 2}, "curve": [[0, 1]]}}

    def listen() -> Tracked:
        return Tracked(config, directory, SILENT, "tensorboard")

    first = listen()
    first.stage_ended("reference/evaluate", done("evaluate", "r"), made=True)
    first.stage_ended("iteration-1/pair", done("pair", "p", languages=pairs), made=True)
    first.stage_begun("iteration-1/train")
    first.trained("iteration-1/train", write_steps(directory, 1, 1, 2, half=True))
    assert noted.steps() == [1, 2]
    # Killed here, continued from the state at step 1.
    second = listen()
    second.stage_ended("reference/evaluate", done("evaluate", "r"), made=False)
    second.stage_ended("iteration-1/pair", done("pair", "p", languages=pairs), made=False)
    second.stage_begun("iteration-1/train")
    second.trained("iteration-1/train", write_steps(directory, 1, 1, 2, 3))
    write_steps(directory, 1, 1, 2, 3, 4)
    second.stage_ended("iteration-1/train", done("train", "t", training={"steps": 4, "loss": 0.4}), made=True)
    write_steps(directory, 2, 1, 2)
    second.stage_ended("iteration-2/train", done("train", "u", training={"steps": 2}), made=True)
    second.close()
    assert noted.steps() == [1, 2, 3, 4, 5, 6], "the steps of iteration 2 lie behind those of iteration 1"
    stages = [(name, at, value) for name, axis, at, value in noted.points if axis == "iteration"]
    assert stages == [
        ("reference/evaluate/seconds", 0, 1.5),
        *(
            ("pair/seconds", 1, 1.5),
            ("pair/n_pairs/es", 1, 3),
            ("pair/alpha/es", 1, 0.25),
            ("pair/skipped/tie/es", 1, 2),
        ),
        *(("trained/seconds", 1, 1.5), ("trained/steps", 1, 4), ("trained/loss", 1, 0.4)),
        *(("trained/seconds", 2, 1.5), ("trained/steps", 2, 2)),
    ]
    assert {opened.id for opened in noted.opened} == {noted.opened[0].id}, "one run there, over both of ours"
    assert noted.opened[1].logged == 4
    assert (noted.opened[0].project, noted.opened[0].name) == ("mine", "run")
    assert noted.opened[0].folder == tmp_path / "run" / "tracking"
    # Done anew: its folder is gone, its steps begin at 1, other bytes come of it.
    write_steps(directory, 2).unlink()
    third = listen()
    third.stage_begun("iteration-2/train")
    third.stage_ended("iteration-1/train", done("train", "t", training={"steps": 4}), made=False)
    write_steps(directory, 2, 1, 2)
    third.stage_ended("iteration-2/train", done("train", "v", training={"steps": 2}), made=True)
    assert noted.steps()[6:] == [5, 6]


def test_win_rates_are_told_when_they_change(tmp_path: Path, noted: Noted):
    config, directory = recipe(tmp_path), RunDir(tmp_path / "run")
    directory.root.mkdir()
    counted = {"n_judged": 10, "n_null": 0, "win_rate_se": None, "lc_variant": "none", "lc_interval": None}
    rates = [{"model": "π_1", "baseline": "π_I", "language": "es", "win_rate": 60.0, "lc_win_rate": None} | counted]
    for win_rate in (60.0, 60.0, 61.0):
        rates[0]["win_rate"] = win_rate
        directory.evaluation.write_text(json.dumps({"rates": rates, "averages": [], "differences": []}))
        with tracked(config, directory, SILENT):
            pass
    assert noted.points == [("judge/win_rate/es", "iteration", 1, 60.0), ("judge/win_rate/es", "iteration", 1, 61.0)]


def test_a_run_goes_on_when_its_tracker_fails(tmp_path: Path, noted: Noted):
    noted.failing = "train/loss"
    config, directory, heard = recipe(tmp_path), RunDir(tmp_path / "run"), Heard()
    counts = {"es": {"n_groups": 6}}
    write_steps(directory, 1, 1, 2)

    def go() -> None:
        with tracked(config, directory, heard) as progress:
            progress.stage_ended("iteration-1/pair", done("pair", "p", languages=counts), made=True)
            progress.stage_begun("iteration-1/train")
            progress.trained("iteration-1/train", directory.iteration(1).stage("train").metrics)
            progress.stage_ended("iteration-1/train", done("train", "t", training={"steps": 2}), made=True)
            progress.stage_ended("iteration-1/evaluate", done("evaluate", "e"), made=True)

    go()
    (line,) = heard.lines
    assert line == ("TensorBoard failed and is told nothing more; the run goes on: RuntimeError: the server is gone")
    assert ("pair/n_groups/es", "iteration", 1, 6) in noted.points
    assert not noted.steps()
    # Mended: what was not told is told now, and nothing else.
    noted.failing, told = "", len(noted.points)
    go()
    assert noted.steps() == [1, 2]
    names = {name.partition("/")[0] for name, *_ in noted.points[told:]}
    assert names == {"train", "trained", "evaluate"}
    assert (len(heard.lines), noted.closed) == (1, 2), "one that failed is closed too"


def test_a_run_is_told_to_the_tracker_that_it_names(tmp_path: Path, noted: Noted, monkeypatch: pytest.MonkeyPatch):
    """The pipeline itself listens; stopped here before its first stage."""
    heard: list[str] = []

    def begin(self: Tracked, titles: object) -> None:
        heard.append(self._name)
        raise KeyboardInterrupt

    monkeypatch.setattr(Tracked, "plan", begin)
    with pytest.raises(KeyboardInterrupt):
        run(recipe(tmp_path), progress=SILENT)
    assert heard == ["run"]


def test_a_damaged_record_begins_a_new_one(tmp_path: Path, noted: Noted):
    directory = RunDir(tmp_path / "run")
    directory.root.mkdir()
    directory.tracking.write_text("[")
    listening = Tracked(recipe(tmp_path), directory, SILENT, "tensorboard")
    listening.stage_ended("iteration-1/pair", done("pair", "p"), made=True)
    (kept,) = json.loads(directory.tracking.read_text()).values()
    assert list(kept["stages"]) == ["iteration-1/pair"]


def test_tracking_matters_to_no_stage_and_its_library_to_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = recipe(tmp_path)
    named = config.model_copy(update={"tracking": config.tracking.model_copy(update={"name": "other"})})
    assert _what_matters(config) == _what_matters(named)
    monkeypatch.setattr("crossward.engines.trackers.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install 'crossward\\[tensorboard\\]'"):
        require_tracking(config)

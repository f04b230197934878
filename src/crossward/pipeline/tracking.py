"""A tracker that listens to a run: every training step and every finished stage, each told once.

What the tracker was told stands in RUN/tracking.json, so that a continued run continues and a finished stage is never
logged again. A tracker that fails is said once and not used again: no run ends because of it, and none is changed by
it. Training metrics come from metrics.jsonl, which the trainer's journal writes line by line.
"""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from crossward.config import Config
from crossward.engines.trackers import NAMES, Kind, TrackedRun, Tracker, open_tracker
from crossward.pipeline.progress import Progress, Relay
from crossward.pipeline.stage_metrics import rate_metrics, stage_metrics
from crossward.store.manifest import StageManifest, content_hash
from crossward.store.metrics_file import read_metrics
from crossward.store.rates_file import read_rates
from crossward.store.run_dir import RunDir
from crossward.store.tracking_file import Told, read_told, write_told

EVERY_S = 2.0  # between two looks at a training's metrics
STEP, ITERATION = "train/step", "iteration"  # the axes
_NOT_A_METRIC = ("step", "epoch")


@contextmanager
def tracked(config: Config, directory: RunDir, progress: Progress) -> Iterator[Progress]:
    """Progress that a tracker listens to, where the recipe names one; the tracker opens when there is something."""
    kind = config.tracking.tracker
    if kind == "none":
        yield progress
        return
    listening = Tracked(config, directory, progress, kind)
    try:
        yield listening
        listening.tell_rates()
    finally:
        listening.close()


class Tracked(Relay):
    """Passes everything on, and logs what ends."""

    def __init__(self, config: Config, directory: RunDir, to: Progress, kind: Kind) -> None:
        super().__init__(to)
        self._config, self._directory = config, directory
        self._kind: Kind = kind
        section = config.tracking
        self._name = section.name or run_name(directory.root)
        self._key = f"{kind}/{section.project}/{self._name}/{section.folder or ''}"
        self._told = read_told(directory.tracking, self._key) or Told(id=secrets.token_hex(8))
        self._tracker: Tracker | None = None
        self._broken = False
        self._looked = 0.0
        self._before: dict[str, int] = {}  # steps of the iterations before, by title of a training

    def stage_begun(self, title: str) -> None:
        metrics = self._directory.stage_named(title).metrics
        if title in self._told.steps and not metrics.exists():  # it is done anew, from its first step
            del self._told.steps[title]
        super().stage_begun(title)

    def trained(self, title: str, metrics: Path) -> None:
        super().trained(title, metrics)
        if time.monotonic() - self._looked >= EVERY_S:
            self._looked = time.monotonic()
            self._safely(lambda: self._log_steps(title, metrics))

    def stage_ended(self, title: str, done: StageManifest, *, made: bool) -> None:
        super().stage_ended(title, done, made=made)
        self._safely(lambda: self._log_stage(title, done))

    def tell_rates(self) -> None:
        """The win rates of all policies, where there are any and they are not those that were told."""

        def tell() -> None:
            rates = read_rates(self._directory.evaluation)
            if rates is None or self._told.stages.get("evaluation") == (digest := content_hash(rates)):
                return
            for policy, values in rate_metrics(rates).items():
                number = policy.removeprefix("π_")
                prefix, at = ("judge", int(number)) if number.isdigit() else (f"{policy}/judge", 0)
                self._log({f"{prefix}/{name}": value for name, value in values.items()}, axis=ITERATION, at=at)
            self._keep("evaluation", digest)

        self._safely(tell)

    def close(self) -> None:
        """End the tracker's run, if one was opened."""
        tracker, self._tracker = self._tracker, None
        if tracker is None:
            return
        try:
            tracker.close()
        except Exception as error:
            self._fail(error)

    def _log_stage(self, title: str, done: StageManifest) -> None:
        policy, _, stage = title.partition("/")
        number = policy.removeprefix("iteration-")
        if done.stage == "train":
            self._log_steps(title, self._directory.stage_named(title).metrics)
            self._before |= {title: int(done.counts.get("training", {}).get("steps", 0))}
        if self._told.stages.get(title) == done.digest:
            return
        prefix, at = (stage, int(number)) if number.isdigit() else (title, 0)
        # The curves of a training have `train`; what it came to stands beside them under another family.
        prefix = "trained" if prefix == "train" else prefix
        self._log({f"{prefix}/{name}": value for name, value in stage_metrics(done).items()}, axis=ITERATION, at=at)
        self._keep(title, done.digest)

    def _log_steps(self, title: str, metrics: Path) -> None:
        """The steps behind the last one that was told."""
        told = self._told.steps.get(title, 0)
        offset = sum(steps for name, steps in self._before.items() if name != title)
        for row in read_metrics(metrics):
            if row["step"] > told:
                values = {name: value for name, value in row.items() if isinstance(value, int | float)}
                named = {f"train/{name}": value for name, value in values.items() if name not in _NOT_A_METRIC}
                self._log(named, axis=STEP, at=offset + row["step"])
                self._told.steps[title] = row["step"]
        if self._told.steps.get(title, 0) > told:
            self._opened().flush()
            write_told(self._directory.tracking, self._key, self._told)

    def _keep(self, title: str, digest: str) -> None:
        self._opened().flush()
        self._told.stages[title] = digest
        write_told(self._directory.tracking, self._key, self._told)

    def _log(self, values: Mapping[str, float], *, axis: str, at: int) -> None:
        self._opened().log(values, axis=axis, at=at)
        self._told.logged += 1

    def _opened(self) -> Tracker:
        if self._tracker is None:
            section = self._config.tracking
            folder = Path(section.folder) if section.folder else None
            if folder is None and self._kind != "trackio":
                folder = self._directory.root / "tracking"
            elif folder is not None and self._kind == "tensorboard":
                folder = folder / self._name  # one folder a run, below the one that TensorBoard is shown
            run = TrackedRun(
                project=section.project,
                name=self._name,
                id=self._told.id,
                folder=folder,
                online=section.mode == "online",
                logged=self._told.logged,
                config=self._config.model_dump(mode="json"),
            )
            self._tracker = open_tracker(self._kind, run)
        return self._tracker

    def _safely(self, work: Callable[[], object]) -> None:
        if self._broken:
            return
        try:
            work()
        except Exception as error:  # a tracker is another's program and may raise anything
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not self._broken:
            self._broken = True
            told = " ".join(f"{type(error).__name__}: {error}".split())
            self.to.say(f"{NAMES[self._kind]} failed and is told nothing more; the run goes on: {told}")


def run_name(root: Path) -> str:
    """The name of a run's folder; of an experiment's, its own and the cell's too, as every cell has a seed-1.

    >>> run_name(Path("runs/mine")), run_name(Path("runs/grid/cells/view=translated/seed-1"))
    ('mine', 'grid-view=translated-seed-1')
    """
    root = root.absolute()
    if root.parent.parent.name == "cells":
        return f"{root.parent.parent.parent.name}-{root.parent.name}-{root.name}"
    return root.name

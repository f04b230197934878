"""Trackers of training: trackio, TensorBoard and Weights & Biases behind one small protocol.

The libraries are extras and are imported when one is opened. Knows no runs: names, folders and numbers come as
arguments. Whatever a library raises passes through; the pipeline decides that a run goes on without it.
"""

import importlib.util
import json
import os
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

Kind = Literal["trackio", "tensorboard", "wandb"]
NAMES: dict[Kind, str] = {"trackio": "trackio", "tensorboard": "TensorBoard", "wandb": "Weights & Biases"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedRun:
    """What a tracker calls a run. The same `id`, `name` and `folder` again continue what was begun under them.

    `logged`: how often `log` was called for it before.
    """

    project: str
    name: str
    id: str
    folder: Path | None
    online: bool = False
    logged: int = 0
    config: Mapping[str, Any]


class Tracker(Protocol):
    def log(self, values: Mapping[str, float], *, axis: str, at: int) -> None:
        """Some numbers at one place of an axis, such as 17 on `train/step`."""
        ...

    def flush(self) -> None:
        """Make what was logged readable."""
        ...

    def close(self) -> None:
        """End the tracker's run."""
        ...


def require_tracker(kind: Kind) -> str:
    """The tracker's name; raises ValueError where its library is not installed."""
    if importlib.util.find_spec(kind) is None:
        raise ValueError(
            f"tracking.tracker is {kind!r} but the package is not installed: pip install 'crossward[{kind}]', or set "
            "tracking.tracker to none"
        )
    return NAMES[kind]


def open_tracker(kind: Kind, run: TrackedRun) -> Tracker:
    """Begin or continue a tracker's run."""
    match kind:
        case "trackio":
            return _Trackio(run)
        case "tensorboard":
            return _TensorBoard(run)
        case "wandb":
            return _Wandb(run)


class _TensorBoard:
    """Event files in one folder; a continued run adds a file to those that are there."""

    def __init__(self, run: TrackedRun) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        assert run.folder is not None
        self._writer = SummaryWriter(str(run.folder))
        text = json.dumps(dict(run.config), ensure_ascii=False, indent=2)
        self._writer.add_text("config", "\n".join(f"    {line}" for line in text.splitlines()))

    def log(self, values: Mapping[str, float], *, axis: str, at: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, at)

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    """Offline unless asked: a folder `offline-run-*` for each time a run was continued, all with one id."""

    def __init__(self, run: TrackedRun) -> None:
        import wandb  # pyright: ignore[reportMissingImports]

        assert run.folder is not None
        run.folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=run.project,
            name=run.name,
            id=run.id,
            dir=str(run.folder),
            config=dict(run.config),
            mode="online" if run.online else "offline",
            resume="allow",
            settings=wandb.Settings(console="off", silent=True, x_disable_stats=True),
        )
        self._families: set[str] = set()
        self._logged = run.logged

    def log(self, values: Mapping[str, float], *, axis: str, at: int) -> None:
        for family in {name.partition("/")[0] for name in values} - self._families:
            self._families.add(family)
            self._run.define_metric(f"{family}/*", step_metric=axis)
        self._run.log({axis: at, **values}, step=self._logged)  # a server drops what does not come after the last
        self._logged += 1

    def flush(self) -> None:
        return None  # a service process writes as it receives

    def close(self) -> None:
        self._run.finish()


class _Trackio:
    """A database in trackio's own folder, where `trackio show` looks, or in the one that is named."""

    def __init__(self, run: TrackedRun) -> None:
        if run.folder is not None:
            os.environ["TRACKIO_DIR"] = str(run.folder)  # read when the library is imported
        os.environ.setdefault("TRACKIO_SHOW_HINT", "0")
        import trackio  # pyright: ignore[reportMissingImports]

        with redirect_stdout(sys.stderr):  # it greets on stdout, which is for results
            self._run = trackio.init(
                project=run.project,
                name=run.name,
                config=dict(run.config),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def log(self, values: Mapping[str, float], *, axis: str, at: int) -> None:
        self._run.log({axis: at, **values}, step=at)

    def flush(self) -> None:
        return None  # a thread of its own writes

    def close(self) -> None:
        import trackio  # pyright: ignore[reportMissingImports]

        with redirect_stdout(sys.stderr):
            trackio.finish()

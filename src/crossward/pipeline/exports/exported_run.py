"""A run as exports see it: which iterations have pairs and checkpoints, whose policy made them, and its settings.

Reads a run, never writes into it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from crossward.config import Config
from crossward.engines.hub_cache import is_cached_dataset
from crossward.pipeline.run_state import open_run
from crossward.store import manifest
from crossward.store.run_dir import RunDir, Stage, StageDir

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedRun:
    """A folder that `crossward run` made, with its config."""

    directory: RunDir
    config: Config

    @classmethod
    def at(cls, root: Path) -> "ExportedRun":
        """Raises ValueError where the folder is no run, or its config is damaged."""
        directory, config = open_run(root)
        return cls(directory=directory, config=config)

    @property
    def root(self) -> Path:
        return self.directory.root

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.root.resolve().name

    def pair_stage(self, t: int) -> StageDir:
        return self.directory.iteration(t).stage("pair")

    def with_pairs(self, asked: Sequence[int]) -> tuple[int, ...]:
        """The iterations asked for, in order, or the last whose pairs are finished. ValueError where one has none."""
        found = [t for t in self.directory.iterations() if t > 0 and manifest.read(self.pair_stage(t)) is not None]
        if not found:
            raise ValueError(f"{self.root} has no finished pairs: let crossward run get past its first pair stage")
        return _asked(asked, found, f"{self.root} has no finished pairs") or (found[-1],)

    def with_checkpoint(self, asked: Sequence[int]) -> int:
        """The one iteration asked for, or the last that was trained. ValueError where there is none."""
        trained = [
            t
            for t in self.directory.iterations()
            if t > 0 and manifest.read(self.directory.iteration(t).stage("train")) is not None
        ]
        if len(asked) > 1:
            raise ValueError(f"a checkpoint is of one iteration, got {len(asked)}: name one --iteration")
        if not trained:
            raise ValueError(
                f"{self.root} has no finished checkpoint: let crossward run get past its first train stage"
            )
        return (_asked(asked, trained, f"{self.root} has no finished checkpoint") or (trained[-1],))[0]

    def policy(self, t: int) -> str:
        """π_t as a path or hub name: what iteration t + 1 samples from."""
        return self.config.models.policy if t == 0 else str(self.directory.iteration(t).stage("train").checkpoint)

    def training_reference(self, t: int) -> str | None:
        """What training in iteration t was held against; None where it was the policy it started from."""
        reference = self.config.models.reference if self.config.train.reference == "initial" else None
        return None if reference == self.policy(t - 1) else reference

    def hub_name(self, model: str) -> str | None:
        """The model where the run took it from a hub by that name, None where it was a folder or nobody knows.

        Stages record a folder by its hash and a hub's model as name@revision; a folder given relative cannot be told
        from a hub's name in another way, and a card must not tell paths of a machine.
        """
        if _HUB_NAME.fullmatch(model) is None:
            return None
        folders = [self.directory.reference, *(self.directory.iteration(t) for t in self.directory.iterations())]
        stages = (manifest.read(folder.stage(name)) for folder in folders for name in get_args(Stage))
        recorded = (value for made in stages if made is not None for value in made.inputs.values())
        return model if any(str(value).startswith(f"{model}@") for value in recorded) else None

    def public_name(self, model: str) -> str:
        """A model's hub name, or the last part of its path."""
        return self.hub_name(model) or Path(model).name or "a local folder"


def hub_dataset(source: str) -> str | None:
    """The source of prompts where it is a data set that the hub's client fetched to this machine, else None.

    A folder given relative looks like a hub's name from another working directory, and a card tells no path.
    """
    if Path(source).exists() or _HUB_NAME.fullmatch(source) is None or not is_cached_dataset(source):
        return None
    return source


def _asked(asked: Sequence[int], found: Sequence[int], lacking: str) -> tuple[int, ...]:
    if missing := [t for t in asked if t not in found]:
        raise ValueError(f"{lacking} in iteration {missing[0]}: it has them in {', '.join(map(str, found))}")
    return tuple(sorted(set(asked)))

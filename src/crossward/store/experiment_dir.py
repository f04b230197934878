"""Every path of an experiment, and the only place that joins them.

    root/experiment.yaml
    root/worlds/<seed>/                the tiny world of a seed, where one is asked for
    root/cells/<cell>/seed-<seed>/     an ordinary run, and measured.json beside its files
    root/stages/                       the pool that the runs share (shared_stages.py)
    root/results/                      tables and figures

Knows names, never contents.
"""

from dataclasses import dataclass
from pathlib import Path

from crossward.store.run_dir import RunDir, safe_name


@dataclass(frozen=True, slots=True)
class ExperimentDir:
    """The folder of one experiment."""

    root: Path

    @property
    def config(self) -> Path:
        """What was asked for, as resolved."""
        return self.root / "experiment.yaml"

    @property
    def stages(self) -> Path:
        return self.root / "stages"

    @property
    def results(self) -> Path:
        return self.root / "results"

    @property
    def worlds(self) -> Path:
        return self.root / "worlds"

    def world(self, seed: int) -> Path:
        """worlds/<seed>"""
        return self.worlds / str(seed)

    def world_lock(self, seed: int) -> Path:
        return self.worlds / f".{seed}.lock"

    def run(self, cell: str, seed: int) -> RunDir:
        """cells/<cell>/seed-<seed>"""
        return RunDir(self.root / "cells" / safe_name(cell) / f"seed-{seed}")

    def measured(self, cell: str, seed: int) -> Path:
        """What was measured of a finished run."""
        return self.run(cell, seed).root / "measured.json"

    def require_folder(self) -> None:
        """Raise ValueError where something else than a folder has the experiment's name."""
        if self.root.exists() and not self.root.is_dir():
            raise ValueError(f"experiment {self.root} is a file: name a folder under `experiment`")

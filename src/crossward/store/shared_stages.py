"""The pool of an experiment: every finished stage under the hash of what it was made from, for all runs that want it.

root/<stage>-<key>/   the stage's files and stage.json, hard links of those of the run that made it (copies elsewhere)

A stage appears whole, by a rename. One process at a time makes or takes it; the others wait. Listed files are never
changed in place (stages write by renaming), so links are safe; what may be is copied. Knows no models.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crossward.store import manifest
from crossward.store.checked_files import file_sha256
from crossward.store.files import write_bytes
from crossward.store.manifest import StageManifest, content_hash
from crossward.store.run_dir import StageDir

_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS)


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedStages:
    """A pool as one run sees it.

    `unrecorded` holds, by kind of stage, what decides its files beside the inputs and settings in its stage.json
    (constant within a run, but not between the runs of an experiment). Values must be JSON-able.
    """

    root: Path
    unrecorded: Mapping[str, Any] = field(default_factory=dict)

    @contextmanager
    def reserved(
        self, stage: StageDir, inputs: Mapping[str, str], settings: Mapping[str, Any]
    ) -> Iterator["SharedStage"]:
        """The place of a stage in the pool, for this process alone while the block runs."""
        # Where in its run a stage stands is in some of its files (the generator in model_outputs), so it is in the key.
        # A score is the same whether its view stands alone or in an ensemble.
        made_from = {
            "at": stage.path.parent.name,
            "stage": stage.name if stage.name == "score" else stage.path.name,
            "inputs": dict(inputs),
            "settings": dict(settings),
            "unrecorded": self.unrecorded.get(stage.name),
        }
        name = f"{stage.name}-{content_hash(made_from)[:32]}"
        with held(self.root / f".{name}.lock"):
            yield SharedStage(stage=stage, place=self.root / name)


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedStage:
    """A stage of a run and its place in the pool."""

    stage: StageDir
    place: Path

    def take(self) -> StageManifest | None:
        """Give the run the files of the pool, in the place of what it had begun; None where the pool has none.

        Files are checked against their sha256: a damaged stage is removed from the pool.
        """
        pooled = StageDir(self.place)
        try:
            found = manifest.read(pooled)
        except ValueError:
            found = None
        if found is None or not _is_whole(self.place, found):
            shutil.rmtree(self.place, ignore_errors=True)
            return None
        _clear(self.stage)
        for name in found.shards:
            _link(self.place / name, self.stage.path / name)
        if pooled.metrics.exists():
            shutil.copyfile(pooled.metrics, self.stage.metrics)
        write_bytes(self.stage.manifest, pooled.manifest.read_bytes())
        return found

    def publish(self, finished: StageManifest) -> None:
        """Put the run's finished stage into the pool, in the place of any that is there."""
        whole = StageDir(self.place.with_name(f".{self.place.name}.tmp"))
        shutil.rmtree(whole.path, ignore_errors=True)
        whole.path.mkdir(parents=True)
        for name in finished.shards:
            _link(self.stage.path / name, whole.path / name)
        if self.stage.metrics.exists():
            shutil.copyfile(self.stage.metrics, whole.metrics)
        write_bytes(whole.manifest, self.stage.manifest.read_bytes())
        shutil.rmtree(self.place, ignore_errors=True)
        whole.path.replace(self.place)

    @property
    def is_there(self) -> bool:
        """Whether the pool has the stage; its files are checked when they are taken."""
        return StageDir(self.place).manifest.exists()


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock file `path` (made if missing, and left) while the block runs; waits for who has it.

    The lock is the kernel's: it goes when its process ends, however it ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(handle, fcntl.LOCK_UN)


def _is_whole(folder: Path, found: StageManifest) -> bool:
    return all(
        (folder / name).is_file() and file_sha256(folder / name) == shard["sha256"]
        for name, shard in found.shards.items()
    )


def _clear(stage: StageDir) -> None:
    """Remove what the stage holds but its inputs.json: half-made files of its own, or an older take that was cut."""
    stage.manifest.unlink(missing_ok=True)
    for path in sorted(stage.path.iterdir()):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path != stage.inputs:
            path.unlink()


def _link(source: Path, target: Path) -> None:
    """The same bytes under another name: a hard link, or a copy where the file system has none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copyfile(source, target)

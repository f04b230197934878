"""Every tracker that is installed, with its real library: a small run is tracked, continued, and read back.

    python experiments/trackers.py [--folder runs/trackers]

For each of trackio, TensorBoard and Weights & Biases (offline): a run of one iteration, then the same recipe with two.
What the library's own files hold is compared with the run's metrics.jsonl and stage.json, number by number; nothing may
be there twice. Nothing is downloaded or sent. A library that is not installed is named and left out; trackio needs a
Pillow below 13, so that it may want an environment of its own.
"""

import argparse
import importlib.util
import json
import math
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # tests.support makes the tiny models

from tests.support.recipes import config_of, make_recipe

from crossward.engines.trackers import NAMES, Kind
from crossward.pipeline.iterate import run
from crossward.pipeline.progress import Silent
from crossward.pipeline.stage_metrics import stage_metrics
from crossward.store import manifest
from crossward.store.run_dir import RunDir

Points = Counter[tuple[str, int, float]]  # name, place on its axis, value (6 digits)


class Told(Silent):
    """Prints what a run says: a tracker that fails is said."""

    def say(self, line: str) -> None:
        print(f"  {line}")


def expected(directory: RunDir) -> Points:
    """What the run's own files say should be there."""
    points: Points = Counter()
    offset = 0
    for t in directory.iterations():
        for name in ("sample", "score", "pair", "train", "evaluate"):
            stage = directory.iteration(t).stage(name)
            if (done := manifest.read(stage)) is not None:
                prefix = "trained" if name == "train" else name
                points.update((f"{prefix}/{key}", t, rounded(value)) for key, value in stage_metrics(done).items())
        metrics = directory.iteration(t).stage("train").metrics
        rows = [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.exists() else []
        for row in rows:
            points.update(
                (f"train/{key}", offset + row["step"], rounded(value))
                for key, value in row.items()
                if key not in ("step", "epoch")
            )
        offset += len(rows)
    if (done := manifest.read(directory.reference.stage("evaluate"))) is not None:
        points.update((f"reference/evaluate/{key}", 0, rounded(v)) for key, v in stage_metrics(done).items())
    return points


def rounded(value: float) -> float:
    """TensorBoard keeps 32-bit floats: 6 significant digits survive."""
    return 0.0 if value == 0 else round(value, 5 - math.floor(math.log10(abs(value))))


def read_tensorboard(folder: Path) -> Points:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "run" / "tracking"), size_guidance={"scalars": 0}).Reload()
    return Counter(
        (tag, event.step, rounded(event.value)) for tag in found.Tags()["scalars"] for event in found.Scalars(tag)
    )


def read_wandb(folder: Path) -> Points:
    from wandb.proto import wandb_internal_pb2

    points: Points = Counter()
    for path in sorted((folder / "run" / "tracking").glob("wandb/offline-run-*/*.wandb")):
        for data in leveldb_records(path.read_bytes()[7:]):  # seven bytes say that it is one of wandb's
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            points.update(_points(row))
    return points


def leveldb_records(data: bytes) -> Iterator[bytes]:
    """Records of LevelDB's log format: blocks of 32 KiB (the first is short of wandb's header), parts with a header of

    seven bytes: checksum, length, and kind (1 whole, 2 first, 3 middle, 4 last).
    """
    at, record = 0, b""
    while at + 7 <= len(data):
        room = 32768 - (at + 7) % 32768
        if room < 7:
            at += room
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        record = (b"" if kind in (1, 2) else record) + data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield record


def read_trackio(folder: Path) -> Points:
    points: Points = Counter()
    for path in sorted((folder / "trackio").glob("*.db")):
        with sqlite3.connect(path) as database:
            for (text,) in database.execute("SELECT metrics FROM metrics ORDER BY id"):
                points.update(_points(json.loads(text)))
    return points


def _points(row: dict[str, float]) -> list[tuple[str, int, float]]:
    at = row.get("train/step", row.get("iteration"))
    own = {key: value for key, value in row.items() if key not in ("train/step", "iteration") and key[0] != "_"}
    return [(key, int(at or 0), rounded(value)) for key, value in own.items()]


def prove(kind: Kind, folder: Path) -> bool:
    """Track a run, continue it, compare."""
    tracking = {"tracker": kind, "project": "proof"}
    if kind == "trackio":
        tracking["folder"] = str(folder / "trackio")
    for iterations in (1, 2, 2):
        run(config_of(make_recipe(folder, iterations=iterations, tracking=tracking)), progress=Told())
    read = {"tensorboard": read_tensorboard, "wandb": read_wandb, "trackio": read_trackio}[kind]
    there, wanted = read(folder), expected(RunDir(folder / "run"))
    twice = sum(n - 1 for n in there.values())
    missing, strange = wanted - there, there - wanted
    print(f"{NAMES[kind]}: {there.total()} points read back, {wanted.total()} wanted, {twice} twice")
    for name, points in (("missing", missing), ("not wanted", strange)):
        if points:
            print(f"  {name}: {points.total()}, such as {sorted(points)[:3]}")
    return there == wanted


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/trackers"), help="Made anew; must not exist.")
    parser.add_argument("--only", choices=list(NAMES), default=None)
    arguments = parser.parse_args()
    good = True
    for kind in NAMES if arguments.only is None else [arguments.only]:
        if importlib.util.find_spec(kind) is None:
            print(f"{NAMES[kind]}: not installed, left out")
            continue
        good &= prove(kind, arguments.folder.absolute() / kind)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

"""How much quicker a stage is with more replicas in a Ray cluster, where replicas do nothing but wait.

The step sleeps as long as a model would compute, so that as many replicas as one likes fit on one machine, and what is
measured is everything else: handing out pieces, carrying results back, waiting for the last one. Every replica has as
many pieces to do, so the work grows with the replicas. Steady work begins when all replicas are open and ends with the
last piece; start-up is what is before it: Ray's processes and their imports. Busy is the share of steady work in which
replicas slept; the ratios are pieces a second against the first line's, of steady work and with the start-up.

    python benchmarks/scaling.py --replicas 1 2 4 8 16 --pieces-each 12 --seconds 10
"""

import argparse
import os
import time
from functools import partial
from pathlib import Path
from statistics import fmean

os.environ.setdefault("OMP_NUM_THREADS", "1")

from crossward.engines.protocols import Advance
from crossward.engines.ray_cluster import Cluster
from crossward.engines.ray_workers import RayWorkers, Replicas
from crossward.engines.workers import Piece, Step


class Sleeper:
    """An engine that computes nothing; opened together with the others, so that steady work can be told apart."""

    def __init__(self, gate: Path, others: int) -> None:
        (gate / str(os.getpid())).touch()
        while len(list(gate.iterdir())) < others:
            time.sleep(0.05)
        self.memory_mib = _own_memory_mib()

    def close(self) -> None:
        """Nothing is open."""


def sleep(seconds: float, engine: Sleeper, piece: Piece, value: object, advance: Advance) -> tuple[float, float, float]:
    """Longer and shorter pieces by turns, as responses are: 0.5 to 1.5 times `seconds`."""
    began = time.time()
    time.sleep(seconds * (0.5 + (piece.index * 7 % 11) / 10))
    return began, time.time(), engine.memory_mib


def measure(replicas: int, pieces: int, seconds: float, steps: int, folder: Path) -> dict[str, float]:
    """One stream of `pieces` through `steps` pools of `replicas`."""
    gates = [folder / f"{replicas}-{step}-{time.monotonic_ns()}" for step in range(steps)]
    for gate in gates:
        gate.mkdir(parents=True)
    names = [f"step {step}" for step in range(steps)]
    workers = RayWorkers(Cluster(), replicas={name: Replicas(count=replicas, cpus=0.01) for name in names})
    todo = [Piece(language="en", index=index, target=Path(f"part-{index}"), n=1) for index in range(pieces)]
    asked = [
        Step(name=name, open=partial(Sleeper, gate, replicas), do=partial(sleep, seconds))
        for name, gate in zip(names, gates, strict=True)
    ]
    started = time.time()
    with workers.crew(asked) as crew:
        found = [(*value, time.time()) for _, value in crew.stream(todo)]
    ended = time.time()
    first, last_begun = (of(began for began, *_ in found) for of in (min, max))
    last = max(done for _, done, *_ in found)
    computed = sum(done - began for began, done, *_ in found)
    return {
        "start_up_s": first - started,
        "steady_s": last - first,
        "whole_s": ended - started,
        "busy": computed / replicas / (last - first),
        "tail_s": last - last_begun,
        "late_s": fmean(came - done for _, done, _, came in found),
        "memory_mib": fmean(memory for _, _, memory, _ in found),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--pieces-each", type=int, default=12, help="of every replica")
    parser.add_argument("--seconds", type=float, default=10.0, help="a piece's mean")
    parser.add_argument("--steps", type=int, default=1, help="pools that a piece goes through")
    parser.add_argument("--folder", type=Path, default=Path("runs/scaling"))
    given = parser.parse_args()
    print("replicas  start-up s  steady s  whole s  busy  last piece s  back after s  MiB each  steady ×  whole ×")
    first: dict[str, float] = {}
    for replicas in given.replicas:
        pieces = replicas * given.pieces_each
        found = measure(replicas, pieces, given.seconds, given.steps, given.folder.absolute())
        found["steady"], found["whole"] = pieces / found["steady_s"], pieces / found["whole_s"]
        first = first or {name: value / given.replicas[0] for name, value in found.items()}
        print(
            f"{replicas:8d}  {found['start_up_s']:10.1f}  {found['steady_s']:8.1f}  {found['whole_s']:7.1f}"
            f"  {found['busy']:4.2f}  {found['tail_s']:12.1f}  {found['late_s']:12.2f}  {found['memory_mib']:8.0f}"
            f"  {found['steady'] / first['steady']:8.2f}  {found['whole'] / first['whole']:7.2f}",
            flush=True,
        )


def _own_memory_mib() -> float:
    """What this process alone holds, shared pages left out."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty"))) / 1024


if __name__ == "__main__":
    main()

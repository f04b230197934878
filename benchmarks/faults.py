"""The whole pipeline on a tiny model while things go wrong: after each fault, does the next run end in the same bytes?

    python benchmarks/faults.py [--kills 200] [--seed 1] [--jobs 2]

Two iterations of sample, translate, score in two views, pair, train, evaluate and judge in two languages, with a server
on the loopback as translator and judge; forked children, so that a run takes seconds. Compared are all files but the
report (its times): shards, pairs, verdicts, journals, checkpoints and metrics by their bytes, manifests but for their
seconds (tests/support/faults.py). Exit code 1 where anything is not the same.
"""

import argparse
import random
import signal
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.support.faults import Bench, Ended, bench, contents, differences


@dataclass(slots=True)
class Tally:
    """What became of one kind of fault."""

    times: int = 0
    equal: int = 0
    where: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def add(self, where: str, wrong: list[str]) -> None:
        self.times += 1
        self.equal += not wrong
        self.where[where] += 1
        self.wrong += [f"{where}: {line}" for line in wrong]


def at_work(run: Path) -> str:
    """The kind of stage that a run was at."""
    begun = [path.parent for path in run.glob("*/*/inputs.json") if not (path.parent / "stage.json").exists()]
    if begun:
        return begun[0].name.partition("-")[0]
    return "between stages" if (run / "reference").exists() else "before the first stage"


def finished(made: Bench) -> list[str]:
    """Run again to the end; in what the run then differs from the undisturbed one."""
    ended = made.go()
    if ended.code != 0:
        return [f"exit code {ended.code}: {ended.sentence}"]
    return differences(contents(made.undisturbed), contents(made.run))


def processor_seconds(made: Bench) -> float:
    """What one run takes of a processor."""
    made.forget()
    child = made.start()
    used = 0.0
    while child.burn(used + 0.1):
        used += 0.1
    child.wait()
    return used


def killed(made: Bench, instant_s: float) -> tuple[str, list[str]] | None:
    """A run killed after it has used so much of the processor, and run again; None where it had ended."""
    made.forget()
    child = made.start()
    if not child.burn(instant_s):
        child.wait()
        return None
    child.signal(signal.SIGKILL)
    ended = child.wait()
    assert isinstance(ended, Ended)
    if ended.code != -signal.SIGKILL:
        return None
    return at_work(made.run), finished(made)


def random_kills(benches: list[Bench], n: int, seed: int) -> Tally:
    """SIGKILL at instants drawn uniformly over what a run takes of the processor."""
    tally = Tally()
    longest = processor_seconds(benches[0])
    lot = random.Random(seed)
    instants = iter(lambda: lot.uniform(0.0, longest), None)
    free = list(benches)

    def one(instant_s: float) -> None:
        made = free.pop()
        try:
            found = killed(made, instant_s)
            if found is not None and tally.times < n:
                tally.add(*found)
                if tally.times % 10 == 0:
                    print(f"{tally.times} kills, {tally.equal} equal", file=sys.stderr, flush=True)
        finally:
            free.append(made)

    with ThreadPoolExecutor(len(benches)) as pool:
        while tally.times < n:
            wanted = min(len(benches), n - tally.times)
            list(pool.map(one, [next(instants) for _ in range(wanted)]))
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        benches = [stack.enter_context(bench(folder / str(job))) for job in range(arguments.jobs)]
        tally = random_kills(benches, arguments.kills, arguments.seed)
    print(f"{tally.times} kills, {tally.equal} equal; killed in: {dict(tally.where.most_common())}")
    for line in tally.wrong:
        print(line)
    sys.exit(tally.equal != tally.times)


if __name__ == "__main__":
    main()

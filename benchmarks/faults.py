"""The whole pipeline on a tiny model while things go wrong: after each fault, does the next run end in the same bytes?

    python benchmarks/faults.py [--kills 200] [--seed 1] [--jobs 2] [--only kills,boundaries,refusals,damage,network,
        interrupts,clock,workers]

Two iterations of sample, translate, score, pair, train, evaluate and judge in two languages, with a server on the
loopback as translator and judge; forked children, so that a run takes seconds. Compared are all files but the report
(its times): shards, pairs, verdicts, journals, checkpoints and metrics by their bytes, manifests but for their seconds
(tests/support/faults.py). kills: SIGKILL at instants drawn uniformly over what a run takes of the processor;
boundaries: SIGKILL in turn right before every boundary of the store, refusals: a full disk at every boundary
(tests/support/sabotage.py), both in a stride of --stride; damage: every kind of file in every way of
tests/support/damage.py; network: a judge that fails in every way; interrupts: SIGINT twice in a row at random instants;
clock: a time of day that jumps whenever it is asked for; workers: one iteration in a Ray cluster of this machine, one
replica a step, one of which is killed at a random moment. Exit code 1 where anything is not the same.
"""

import argparse
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.support import sabotage
from tests.support.damage import DAMAGES, outcome
from tests.support.faults import PATIENCE_S, Bench, Ended, bench, contents, differences

WAYS = ("kills", "boundaries", "refusals", "damage", "network", "interrupts", "clock", "workers")
MOODS = ("judge: 500", "judge: rubbish", "judge: cut", "judge: reset", "judge: other", "judge: every second")
CLUSTER = "cluster={replicas: 1, resources: {cpus: 0.1}}"
IN_A_CLUSTER = ("config.yaml",)  # says that there was one
REPLICAS = 6  # that such a run starts: two baselines, sampler, policy and reference, evaluation
LONGEST_S = 10.0  # that a replica is left alone for
UNCHECKED = ("metrics.jsonl", "trained.json", "judgements.jsonl")  # for people, or read only when a stage is done again


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


def boundaries_of(made: Bench) -> int:
    """How many boundaries an undisturbed run has."""
    made.forget()
    names = made.folder / "boundaries"
    made.go(partial(sabotage.record_boundaries, made.run, names))
    return len(names.read_text().splitlines())


def at_boundaries(made: Bench, stride: int, fault: Callable[[Path, int], None], code: int) -> Tally:
    """A run that goes wrong at one boundary, and the next one; for every `stride`-th boundary."""
    tally = Tally()
    for number in range(1, boundaries_of(made) + 1, stride):
        made.forget()
        ended = made.go(partial(fault, made.run, number))
        if ended.code not in (code, 0):
            tally.add("ended otherwise", [f"boundary {number}: exit code {ended.code}: {ended.said}"])
        elif "Traceback" in ended.said:
            tally.add("traceback", [f"boundary {number}: {ended.said}"])
        else:
            tally.add("passed over" if ended.code == 0 else at_work(made.run), finished(made))
    return tally


def damage(made: Bench) -> Iterator[tuple[str, Tally]]:
    """Every kind of file of the finished run, damaged in every way; by what became of it."""
    kinds: dict[str, str] = {}
    for name in contents(made.undisturbed):
        if not name.endswith("/") and Path(name).name not in UNCHECKED:
            kind = re.sub(r"\b(en|es)\b", "L", re.sub(r"part-\d+", "part", re.sub(r"^[\w-]+/", "", name)))
            kinds[re.sub("π_.", "π", kind)] = name
    for way, harm in DAMAGES.items():
        tally = Tally()
        for kind, name in kinds.items():
            made.restore()
            file = made.run / name
            if file.stat().st_size == 0 and way != "removed":
                continue
            harm(file)
            found = outcome(made, file)
            said = "" if found.told or (way == "removed" and kind in (".lock", "evaluation.json")) else ", not told"
            tally.add(("healed" if found.healed else "refused") + said, [f"{kind}: {line}" for line in found.wrong])
        yield way, tally


def network(made: Bench) -> Iterator[tuple[str, Tally]]:
    """A run whose judge fails in one way from the beginning, and the next one with a healthy judge."""
    for mood in MOODS:
        tally = Tally()
        made.forget()
        made.mood.write_text(mood)
        ended = made.go()
        made.mood.write_text("healthy")
        where = {0: "null verdicts", 2: "stopped with a sentence"}.get(ended.code, "ended otherwise")
        tally.add(where, ["traceback"] if "Traceback" in ended.said else finished(made))
        yield mood, tally


def interrupted(made: Bench, n: int, seed: int) -> Tally:
    """SIGINT twice in a row at instants drawn uniformly over what a run takes of the processor, and run again."""
    tally, lot, longest = Tally(), random.Random(seed), processor_seconds(made)
    while tally.times < n:
        made.forget()
        child = made.start()
        if not child.burn(lot.uniform(0.0, longest)) or not made.run.exists():
            child.wait()  # it had ended, or not begun
            continue
        child.signal(signal.SIGINT)
        time.sleep(lot.uniform(0.0, 0.5))
        child.signal(signal.SIGINT)
        ended = child.wait()
        assert isinstance(ended, Ended)
        if ended.code == 0:
            continue
        told = ended.code == 2 and ended.sentence.startswith("crossward: stopped: ")
        tally.add(at_work(made.run), finished(made) if told else [f"exit code {ended.code}: {ended.said}"])
    return tally


def jumping_clocks(made: Bench, n: int, seed: int) -> Tally:
    """A whole run under a clock that jumps."""
    tally = Tally()
    for number in range(n):
        made.forget()
        ended = made.go(partial(sabotage.jumping_clock, seed + number))
        tally.add("to the end" if ended.code == 0 else "ended", finished(made))
    return tally


def replicas_of(driver: int) -> list[int]:
    """The processes of a run that hold an engine for it."""
    parents: dict[int, int] = {}
    replicas: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if re.match(rb"ray::\w+\(.*Replica|ray::ScorerReplica", (folder / "cmdline").read_bytes()):
                replicas.append(int(folder.name))

    def is_below(pid: int) -> bool:
        while pid > 1 and pid != driver:
            pid = parents.get(pid, 0)
        return pid == driver

    return sorted(filter(is_below, replicas))


def without_replica(made: Bench, lot: random.Random) -> tuple[str, list[str]] | None:
    """A run in a cluster that loses one replica, and in what it differs; None where it ended before."""
    made.forget()
    child = made.start(overrides=[CLUSTER])
    assert child.process.pid is not None
    number, delay_s = lot.randrange(REPLICAS), lot.uniform(0.0, LONGEST_S)
    seen: dict[int, float] = {}
    while child.process.exitcode is None:
        alive = replicas_of(child.process.pid)
        for pid in alive:
            seen.setdefault(pid, time.monotonic())
        if alive and len(seen) > number and time.monotonic() >= list(seen.values())[number] + delay_s:
            where, victim = at_work(made.run), lot.choice(alive)
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
                break
        time.sleep(0.05)
    else:
        child.wait()
        return None
    ended = child.wait(PATIENCE_S)
    assert isinstance(ended, Ended), "a run whose replica was killed does not end"
    if ended.code != 0:
        return where, [f"exit code {ended.code}: {ended.sentence}"]
    expected, found = contents(made.undisturbed), contents(made.run)
    for name in IN_A_CLUSTER:
        del expected[name], found[name]
    return where, differences(expected, found)


def workers_killed(folder: Path, n: int, seed: int) -> Tally:
    """Runs of one iteration in a cluster, each of which loses a replica at a random moment."""
    tally, lot = Tally(), random.Random(seed)
    with bench(folder, iterations=1, score={"noise_sample": 0}) as made:
        while tally.times < n:
            found = without_replica(made, lot)
            if found is not None:
                tally.add(*found)
                print(f"{tally.times} replicas killed, {tally.equal} equal", file=sys.stderr, flush=True)
    return tally


def all_of(ways: list[str], benches: list[Bench], arguments: argparse.Namespace) -> Iterator[tuple[str, Tally]]:
    """Everything that is asked for."""
    made = benches[0]
    if "kills" in ways:
        yield "SIGKILL at random instants", random_kills(benches, arguments.kills, arguments.seed)
    if "boundaries" in ways:
        yield (
            "SIGKILL at boundaries",
            at_boundaries(made, arguments.stride, sabotage.kill_at, -signal.SIGKILL),
        )
    if "refusals" in ways:
        yield "no space at boundaries", at_boundaries(made, arguments.stride, sabotage.fail_at, 2)
    if "damage" in ways:
        yield from damage(made)
    if "network" in ways:
        yield from network(made)
    if "interrupts" in ways:
        yield "SIGINT twice", interrupted(made, arguments.interrupts, arguments.seed)
    if "clock" in ways:
        yield "a clock that jumps", jumping_clocks(made, arguments.clocks, arguments.seed)
    if "workers" in ways:
        yield "a replica killed", workers_killed(made.folder / "workers", arguments.workers, arguments.seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--stride", type=int, default=7)
    parser.add_argument("--interrupts", type=int, default=20)
    parser.add_argument("--clocks", type=int, default=4)
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--only", default=",".join(WAYS))
    arguments = parser.parse_args()
    wrong: list[str] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        benches = [stack.enter_context(bench(folder / str(job))) for job in range(arguments.jobs)]
        print("fault, times, equal in the end, what it met", flush=True)
        for name, tally in all_of(arguments.only.split(","), benches, arguments):
            met = ", ".join(f"{where} {n}" for where, n in tally.where.most_common())
            print(f"{name}: {tally.times}, {tally.equal}; {met}", *tally.wrong, sep="\n  ", flush=True)
            wrong += tally.wrong
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()

"""A run at sizes that no machine here could compute: the real pipeline, with engines that sleep by the cost model.

    python benchmarks/simulation.py [--prompts 10000 --prompts 100000 --prompts 1000000] [--languages 100]
        [--replicas 64] [--n 4] [--response-tokens 16] [--shard-size 96] [--dies 0.002] [--slow 0.01] [--seed 0]
        [--kill-at PIECE] [--paper]

For each size a fresh process reads prompts, samples, scores and pairs as iterate.py does. The engines are asleep: what
they would take of a GPU, with 10 responses of 400 tokens by an 8B model on an H100, goes by a clock of its own
(sleeping_engines.py), on which the driver is as slow as it really is here: while it writes a shard, replicas go on, and
while it does what it does alone, they wait. Told: throughput against the ideal, idle replicas, stragglers, the tail,
the driver's seconds of CPU and peak memory by stage, files and bytes. `--kill-at` kills the driver at that shard of the
sample stage and runs it again. `--paper` measures what a shard of that real size takes of the driver, and computes the
schedule alone, for sizes of which no byte is made.
"""

import argparse
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sleeping_engines import Costs, Faults, Pool, SleepingSampler, SleepingScorer, costs, schedule

from crossward.config import Config, parse
from crossward.core.instructions import PAPERS
from crossward.core.language import NAMES
from crossward.core.pairing import PairingRules
from crossward.core.records import Prompt, SampledPrompt
from crossward.engines.protocols import ModelSpec, Sampling, Scorer, no_progress
from crossward.engines.ray_workers import MOST_BLOCKS
from crossward.engines.workers import AdvanceOf, Crew, Piece, Step, Workers
from crossward.pipeline.assemble import Engines, Model
from crossward.pipeline.counts import SampledTally, ScoredTally
from crossward.pipeline.given import Given
from crossward.pipeline.iterate import make_pairs
from crossward.pipeline.progress import Silent
from crossward.pipeline.prompts import prompts_of_run
from crossward.pipeline.scoring import Judging
from crossward.pipeline.streams import survey
from crossward.store import tables
from crossward.store.checked_files import file_sha256
from crossward.store.manifest import StageManifest
from crossward.store.run_dir import RunDir

REAL_N, REAL_TOKENS, REAL_PROMPT_TOKENS = 10, 400, 80
PROMPT_CHARS = 160
STEPS = {"sample": ("sampler",), "score": ("policy", "reference")}


@dataclass(slots=True)
class Streamed:
    """One stream of pieces: by the clock, and what the driver really took for it."""

    steps: list[str]
    pieces: int
    ideal_s: float
    wall_s: float
    pools: list[Pool]
    driver_s: float
    backlog: int
    slowest_s: list[float]
    median_s: float


class ClockWorkers:
    """`Workers` whose replicas work by a clock: pieces come in the order, and with the pace, that they would.

    Engines are in this process; the CPU that they take is theirs and not the driver's.
    """

    here = True

    def __init__(self, priced: Mapping[str, Costs], replicas: int, shard_size: int, n: int, faults: Faults) -> None:
        self.streams: list[Streamed] = []
        self.engines_cpu_s = 0.0
        self.on_piece: Callable[[int], None] = no_progress
        self._priced, self._replicas, self._shard_size, self._n = priced, replicas, shard_size, n
        self._faults = faults

    @contextmanager
    def crew(self, steps: Sequence[Step]) -> Iterator[Crew]:
        yield ClockCrew(steps, self)

    def scorer(self, open: Callable[[], Scorer]) -> Scorer:
        return open()

    def planned(self, steps: Sequence[str], prompts: Sequence[int]) -> tuple[list[tuple[float, float, int]], Streamed]:
        """(end, seconds from its first step's beginning, number) of each piece in order, and what the pools did."""
        share = max(1, self._replicas // len(steps))
        pools: list[Pool] = []
        ended: list[tuple[float, float, int]] = []
        for start in range(0, len(prompts), MOST_BLOCKS):  # a pipeline begins when the one before is done
            at = ended[-1][0] if ended else 0.0
            numbers = range(start, min(start + MOST_BLOCKS, len(prompts)))
            ready = [(at, number, float(prompts[number])) for number in numbers]
            began: dict[int, float] = {}
            for step in steps:
                done, pool = schedule(ready, step, self._priced[step], share, self._faults)
                pools.append(pool)
                for each in done:
                    began.setdefault(each.piece, each.began)
                ready = [(each.ended, each.piece, float(prompts[each.piece])) for each in done]
            ended += sorted((end, end - began[number], number) for end, number, _ in ready)
        taken = sorted(seconds for _, seconds, _ in ended)
        work = sum(self._priced[step].prompt_s for step in steps) * sum(prompts)
        found = Streamed(
            steps=list(steps), pieces=len(prompts), ideal_s=work / self._replicas, wall_s=ended[-1][0], pools=pools,
            driver_s=0.0, backlog=0, slowest_s=taken[-3:], median_s=taken[len(taken) // 2],
        )  # fmt: skip
        return ended, found


class ClockCrew:
    """A `Crew` by the clock."""

    def __init__(self, steps: Sequence[Step], workers: ClockWorkers) -> None:
        self._steps, self._workers = steps, workers

    def stream(
        self, pieces: Iterable[Piece], *, advance_of: AdvanceOf = lambda piece: no_progress
    ) -> Iterator[tuple[Piece, Any]]:
        asked, workers = list(pieces), self._workers
        prompts = [max(1, piece.n // workers._n) for piece in asked]
        ended, found = workers.planned([step.name for step in self._steps], prompts)
        workers.streams.append(found)
        engines = [step.open() for step in self._steps]
        driver_free, came = 0.0, 0
        for taken, (end, _, number) in enumerate(ended):
            before = time.process_time()
            value: Any = None
            for step, engine in zip(self._steps, engines, strict=True):
                value = step.do(engine, asked[number], value, no_progress)
            at = time.process_time()
            workers.engines_cpu_s += at - before
            workers.on_piece(taken)
            yield asked[number], value
            mine = time.process_time() - at
            found.driver_s += mine
            driver_free = max(driver_free, end) + mine
            while came < len(ended) and ended[came][0] <= driver_free:
                came += 1
            found.backlog = max(found.backlog, came - taken - 1)
        found.wall_s = max(found.wall_s, driver_free)

    def scorer(self, place: int) -> Scorer:
        return self._steps[place].open()


@dataclass(slots=True)
class SleepingEngines(Engines):
    """The engines of a recipe, asleep."""

    cluster: ClockWorkers | None = None
    tokens_a_response: int = 16

    def workers(self, *, here: bool = False) -> Workers:
        assert self.cluster is not None
        return self.cluster

    def sampler(self, *asked: Any, **more: Any) -> SleepingSampler:  # pyright: ignore[reportIncompatibleMethodOverride]
        return SleepingSampler(self.tokens_a_response)

    def scorer(self, model: Model) -> Scorer:
        return SleepingScorer(1 if model.fingerprint == "policy" else 2)


@dataclass(slots=True)
class Part:
    """What one part of the run took of the driver."""

    cpu_s: float = 0.0
    engines_s: float = 0.0
    peak: int = 0
    streams: list[Streamed] = field(default_factory=list)


class Watched(Silent):
    """Tells which stage is on."""

    def __init__(self, watch: "Watch") -> None:
        self._watch = watch

    def stage_begun(self, title: str) -> None:
        self._watch.part(title.partition("/")[2])

    def stage_ended(self, title: str, done: StageManifest, *, made: bool) -> None:
        self._watch.part("between")


class Watch:
    """CPU and peak memory of this process, by the part of the run that is on."""

    def __init__(self, workers: ClockWorkers) -> None:
        self.parts: dict[str, Part] = {}
        self._workers = workers
        self._now, self._cpu, self._engines = "start", time.process_time(), 0.0
        self._done = threading.Event()
        threading.Thread(target=self._look, daemon=True).start()

    def part(self, name: str) -> None:
        cpu, engines = time.process_time(), self._workers.engines_cpu_s
        found = self.parts.setdefault(self._now, Part())
        found.cpu_s += cpu - self._cpu - (engines - self._engines)
        found.engines_s += engines - self._engines
        found.streams += self._workers.streams
        found.peak = max(found.peak, resident())
        self._workers.streams = []
        self._now, self._cpu, self._engines = name, cpu, engines

    def _look(self) -> None:
        while not self._done.wait(0.02):
            part = self.parts.setdefault(self._now, Part())
            part.peak = max(part.peak, resident())


def resident() -> int:
    """Bytes that this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def write_prompt_files(folder: Path, languages: Sequence[str], each: int) -> None:
    """JSON Lines, a file a language, in an order of its own."""
    folder.mkdir(parents=True)
    for language in languages:
        with (folder / f"{language}.jsonl").open("w", encoding="utf-8") as file:
            for place in range(each):
                k = place if language == "en" else (place * 7919 + 13) % each if each % 7919 else place
                text = f"{language} {k}: " + "please tell me what the sea is like in winter, and why, " * 3
                file.write(json.dumps({"id": f"p{k:07d}", "instruction": text[:PROMPT_CHARS]}) + "\n")


def driver_costs(size: int, n: int, tokens: int) -> dict[str, float]:
    """Seconds of CPU that a shard takes of the driver: while it streams, and before or after, with nobody at work."""
    prompts = [
        Prompt(id=f"p{k}", language="es", instruction="x" * 160, english_instruction="y" * 160) for k in range(size)
    ]
    groups = SleepingSampler(tokens).sample(
        prompts, Sampling(n=n, temperature=1.0, top_p=1.0, max_new_tokens=1, seed=0)
    )
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        stage = RunDir(Path(name)).iteration(1).stage("sample")
        path, scored = stage.shard("es", 0), stage.shard("de", 0)
        rows = pickle.dumps(groups)
        found["sample"] = _cpu(lambda: _written(path, pickle.loads(rows)))
        found["sample, alone"] = _cpu(lambda: file_sha256(path))
        judging = Judging(sampled=stage, view="multilingual", steering=PAPERS)
        piece = Piece(language="es", index=0, source=path, target=scored)
        judged = [judged for _, pairs in judging.windows(piece) for judged, _ in pairs]
        values = [SleepingScorer(number).score(judged) for number in (1, 2)]
        found["score"] = _cpu(lambda: _scored(judging, piece, values))
        found["score, alone"] = _cpu(lambda: (file_sha256(scored), tables.count_responses(path)))
        found["pair, alone"] = _cpu(lambda: _paired(scored, stage.language_file("de")))
    return found


def _written(path: Path, groups: Sequence[SampledPrompt]) -> None:
    tables.write_sampled(path, groups)
    SampledTally().add(*groups)


def _scored(judging: Judging, piece: Piece, values: Sequence[Any]) -> None:
    groups = list(judging.rows(piece, *values))
    tables.write_scored(piece.target, groups)
    ScoredTally().add(*groups)


def _paired(scored: Path, target: Path) -> None:
    found = survey(tables.stream_scored(scored), PairingRules(length_unit="characters"), None)
    control = found.control()
    tables.write_outcomes(target, found.outcomes(tables.stream_scored(scored), control.alpha if control else 0.0))


def _cpu(work: Callable[[], object], times: int = 10) -> float:
    work()
    began = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - began) / times


def recipe(folder: Path, languages: Sequence[str], shard_size: int, n: int) -> Config:
    return parse(
        {
            "run": str(folder / "run"),
            "languages": list(languages),
            "iterations": 1,
            "shard_size": shard_size,
            "models": {"policy": "policy", "reference": "reference", "dtype": "float32"},
            "prompts": {"path": str(folder / "prompts" / "{language}.jsonl")},
            "sample": {"engine": "given", "n": n},
            "score": {"noise_sample": 0},
            "pair": {"language_filter": "none"},
        },
        where="simulation",
    )


def run_one(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """One size in this process."""
    languages = arguments.languages
    config = recipe(folder, languages, arguments.shard_size, arguments.n)
    priced = costs(
        parameters=arguments.parameters, hardware=arguments.hardware, shard_prompts=arguments.shard_size, n=REAL_N,
        prompt_tokens=REAL_PROMPT_TOKENS, response_tokens=REAL_TOKENS,
    )  # fmt: skip
    faults = Faults(seed=arguments.seed, dies=arguments.dies, slow=arguments.slow)
    workers = ClockWorkers(priced, arguments.replicas, arguments.shard_size, arguments.n, faults)
    if arguments.kill_at is not None:
        workers.on_piece = partial(_kill_at, arguments.kill_at)
    watch = Watch(workers)
    started = time.monotonic()
    watch.part("prompts")
    directory = RunDir(Path(config.run))
    prompts = prompts_of_run(config, directory)
    watch.part("between")
    engines = SleepingEngines(
        config,
        Given(open_sampler=lambda: SleepingSampler(arguments.response_tokens), sampler_identity="asleep"),
        cluster=workers,
        tokens_a_response=arguments.response_tokens,
    )
    models = [Model(spec=ModelSpec(path=name, dtype="float32"), fingerprint=name) for name in ("policy", "reference")]
    make_pairs(directory.iteration(1), 1, models[:1], models[1], prompts, engines, Watched(watch))
    watch.part("end")
    files = [path for path in directory.root.rglob("*") if path.is_file()]
    return {
        "prompts": sum(map(len, prompts.values())),
        "seconds": time.monotonic() - started,
        "files": len(files),
        "bytes": sum(path.stat().st_size for path in files),
        "parts": {name: asdict(part) for name, part in watch.parts.items()},
    }


def _kill_at(wanted: int, piece: int) -> None:
    if piece == wanted:
        os.kill(os.getpid(), signal.SIGKILL)


def tell(found: Mapping[str, Any], replicas: int) -> None:
    n = found["prompts"]
    print(
        f"\n{n:,} prompts: {found['seconds']:.0f} s here; {found['files']:,} files, "
        f"{found['bytes'] / n:,.0f} bytes a prompt"
    )
    print(
        f"{'part':10} {'peak MB':>8} {'driver CPU s':>12} {'streaming':>10} {'by the clock, h':>16} {'of ideal':>9} "
        f"{'idle':>6} {'tail, min':>10} {'dead, slow':>11} {'backlog':>8}"
    )
    for name, part in found["parts"].items():
        if name in ("start", "end"):
            continue
        line = f"{name:10} {part['peak'] / 1e6:8,.0f} {part['cpu_s']:12.1f}"
        for stream in part["streams"]:
            alone = part["cpu_s"] - stream["driver_s"]
            wall = stream["wall_s"] + alone
            busy = sum(pool["busy"] for pool in stream["pools"])
            idle = 1 - busy / (replicas * wall)
            ends = stream["pools"][len(stream["steps"]) - 1 :: len(stream["steps"])]
            line += (
                f" {stream['driver_s']:10.1f} {wall / 3600:16.2f} {stream['ideal_s'] / wall:9.1%} {idle:6.1%} "
                f"{sum(pool['ended'] - pool['first_idle'] for pool in ends) / 60:10.1f} "
                f"{sum(p['deaths'] for p in stream['pools']):5},{sum(p['slow'] for p in stream['pools']):5} "
                f"{stream['backlog']:8}"
            )
            each = stream["driver_s"] / stream["pieces"]
            fed = stream["ideal_s"] * replicas / stream["driver_s"]
            line += (
                f"\n{'':10} a shard: {each * 1e3:.1f} ms of the driver, {stream['median_s']:.0f} s median, "
                f"slowest {', '.join(f'{s:.0f}' for s in stream['slowest_s'])} s; one driver feeds {fed:,.0f} replicas"
            )
        print(line, flush=True)


def paper(arguments: argparse.Namespace) -> None:
    """What a shard takes of the driver, and runs of which only the schedule is computed."""
    asked = {"n": REAL_N, "prompt_tokens": REAL_PROMPT_TOKENS, "response_tokens": REAL_TOKENS}
    size, replicas = arguments.shard_size, arguments.replicas
    priced = costs(parameters=arguments.parameters, hardware=arguments.hardware, shard_prompts=size, **asked)
    mine = driver_costs(size, REAL_N, REAL_TOKENS)
    for stage, steps in STEPS.items():
        engine = sum(priced[step].prompt_s for step in steps) * size
        fed = engine / mine[stage]
        print(
            f"{stage}: a shard of {size} prompts x {REAL_N} x {REAL_TOKENS} tokens takes {engine:.0f} s of a GPU, "
            f"{mine[stage] * 1e3:.0f} ms of the driver while others work ({fed:,.0f} replicas are fed) and "
            f"{mine[f'{stage}, alone'] * 1e3:.1f} ms when nobody does"
        )
    print(f"pair: {mine['pair, alone'] * 1e3:.0f} ms a shard, without a language filter")
    print(f"\n{replicas} replicas, shards of {size}:")
    print(f"{'prompts':>12} {'shards':>10} {'stage':6} {'ideal, h':>9} {'clock, h':>9} {'alone, h':>9} {'idle':>6}")
    faults = Faults(seed=arguments.seed, dies=arguments.dies, slow=arguments.slow)
    workers = ClockWorkers(priced, replicas, size, REAL_N, faults)
    for prompts in arguments.prompts or (1_000_000, 10_000_000, 100_000_000):
        shards = -(-prompts // size)
        for stage, steps in STEPS.items():
            _, found = workers.planned(steps, [size] * shards)
            streaming = max(found.wall_s, shards * mine[stage])
            alone = shards * mine[f"{stage}, alone"]
            idle = 1 - found.ideal_s / (streaming + alone)
            print(
                f"{prompts:12,} {shards:10,} {stage:6} {found.ideal_s / 3600:9.1f} {streaming / 3600:9.1f} "
                f"{alone / 3600:9.2f} {idle:6.1%}"
            )
        print(f"{prompts:12,} {shards:10,} {'pair':6} {'':9} {'':9} {shards * mine['pair, alone'] / 3600:9.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, action="append", help="in all languages together; may be repeated")
    parser.add_argument("--languages", type=int, default=100)
    parser.add_argument("--replicas", type=int, default=64)
    parser.add_argument("--n", type=int, default=4, help="responses that are really made")
    parser.add_argument("--response-tokens", type=int, default=16, help="their mean length")
    parser.add_argument("--shard-size", type=int, default=96)
    parser.add_argument("--parameters", type=float, default=8e9)
    parser.add_argument("--hardware", default="h100-80gb")
    parser.add_argument("--dies", type=float, default=0.002, help="share of pieces at which a replica dies")
    parser.add_argument("--slow", type=float, default=0.01, help="share of pieces that take five times as long")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kill-at", type=int, default=None)
    parser.add_argument("--paper", action="store_true")
    parser.add_argument("--folder", type=Path, default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.languages = ["en", *(code for code in NAMES if code != "en")][: arguments.languages]
    if arguments.folder is not None:
        print(json.dumps(run_one(arguments.folder, arguments)))
        return
    if arguments.paper:
        paper(arguments)
        return
    for n in arguments.prompts or (10_000, 100_000, 1_000_000):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_prompt_files(folder / "prompts", arguments.languages, n // len(arguments.languages))
            again = [argument for argument in sys.argv[1:] if argument]
            killed = _child(folder, again)
            if killed is None:
                kept = [a for k, a in enumerate(again) if a != "--kill-at" and (k == 0 or again[k - 1] != "--kill-at")]
                print(f"\nkilled at shard {arguments.kill_at}; run again:")
                killed = _child(folder, kept)
            assert killed is not None
            tell(killed, arguments.replicas)


def _child(folder: Path, arguments: Sequence[str]) -> dict[str, Any] | None:
    """What a process of its own found; None where it was killed."""
    done = subprocess.run(
        [sys.executable, __file__, *arguments, "--folder", str(folder)], stdout=subprocess.PIPE, check=False
    )
    if done.returncode == -signal.SIGKILL:
        return None
    assert done.returncode == 0, f"exit code {done.returncode}"
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()

"""Training on a GPU in bfloat16, in one process and as `accelerate launch` starts it, with nothing to download.

    python benchmarks/gpu_training.py [--rows ddp:lora:kill ddp:full ...] [--pairs 256] [--folder runs/gpu-bench]

A Llama of 1.24 billion random parameters (benchmarks/random_model.py) is trained on pairs of random words, chosen
answers from one half of the vocabulary and rejected ones from the other, so that there is something to learn. The
reference's log-probabilities are HfScorer's. Every row is LaunchedTrainer with recipes/accelerate/WAY.yaml in one
process, an adapter (`lora`) or all weights (`full`), beside TrlTrainer without a launch. `kill`: the driver gets
SIGKILL when a state of half of the steps is kept (of all weights: the first state) and is started again.

Printed for each: seconds with everything, tokens a second in the second half of the steps (each prompt once), the most
memory that torch had in use and reserved on the GPU (on a CPU: of the process), the largest relative difference of a
step's loss, how far the weights are from those of one process over how far those moved, as norms and as largest values,
and the first and last loss. Then what `crossward check` plans. `--tiny` runs it on a small model, on any machine.
"""

import argparse
import multiprocessing
import os
import random
import resource
import runpy
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from random_model import LLAMA_1B, TINY, make_model
from safetensors import safe_open
from torch import Tensor

from crossward.core.plan_memory import training_bytes
from crossward.core.records import Response
from crossward.core.workload import Drawing, Rating, Schedule, Workload
from crossward.engines import launched_trainer
from crossward.engines.hf_scorer import HfScorer
from crossward.engines.launched_trainer import LaunchedTrainer
from crossward.engines.model_shape import read_shape
from crossward.engines.models import settle
from crossward.engines.protocols import Judged, Lora, ModelSpec, Training, TrainingPair
from crossward.engines.tokens import load_tokens
from crossward.engines.trl_trainer import TrlTrainer
from crossward.pipeline.progress import Silent
from crossward.pipeline.training import with_reference
from crossward.plan_tables import hardware_table
from crossward.store.json_lines import read_json_lines

RECIPES = Path(__file__).resolve().parent.parent / "recipes" / "accelerate"
ROWS = ("ddp:lora:kill", "ddp:full", "fsdp2:full", "zero3:full:kill", "zero3:lora", "fsdp2:lora")
PROMPTS, ANSWERS = (60, 660), (60, 700)  # tokens, as in benchmarks/gpu_scoring.py
PEAK = "CROSSWARD_BENCHMARK_PEAK"  # the file that a watched process writes its memory to
FULL = Training(
    beta=0.1,
    nll_weight=1.0,
    learning_rate=1e-5,
    epochs=1.0,
    batch_size=16,
    micro_batch_size=2,
    warmup_ratio=0.1,
    max_length=2048,
    seed=42,
)
TRAININGS = {"full": FULL, "lora": replace(FULL, learning_rate=2e-4, lora=Lora(rank=16, alpha=32.0))}


@dataclass(slots=True)
class Clock:
    """When each step was done."""

    started: float = field(default_factory=time.monotonic)
    times: list[float] = field(default_factory=list)

    def __call__(self, n: int) -> None:
        self.times += [time.monotonic()] * n

    def rate(self, tokens: float) -> float:
        """Of `tokens` over all steps, in their second half: the first ones compile."""
        half = len(self.times) // 2 - 1
        if half < 0 or self.times[-1] == self.times[half]:
            return float("nan")
        steps = sum(moment > self.times[half] for moment in self.times)
        return tokens * steps / len(self.times) / (self.times[-1] - self.times[half])


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """One training, as it is printed."""

    seconds: float
    rate: float
    peak: str
    kept: int | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=ROWS, help="WAY:lora or WAY:full, with :kill behind it")
    parser.add_argument("--pairs", type=int, default=256)
    parser.add_argument("--minutes", type=float, default=60.0, help="no row is begun after so many")
    parser.add_argument("--folder", type=Path, default=Path("runs/gpu-bench"))
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    settle()
    started = time.monotonic()
    vocabulary = 2_000 if options.tiny else 128_256
    folder = options.folder.with_name(options.folder.name + ("-tiny" if options.tiny else "")).resolve()
    spec = ModelSpec(path=str(folder), dtype="bfloat16")
    judged = make_pairs(options.pairs, vocabulary)
    work = folder / "training"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    launched_trainer.POLL_SECONDS = 0.02  # steps are timed by it
    kinds = sorted({row.split(":")[1] for row in options.rows}, reverse=True)
    # In processes of their own, which give the GPU back whole.
    if not (folder / "model.safetensors").exists():
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            pool.apply(make_there, (folder, vocabulary, options.tiny))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        name, pairs, alone = pool.apply(train_alone, (spec, judged, kinds, work))
    tokens = tokens_of(pairs)
    print(
        f"{name}, torch {torch.__version__}, {len(pairs)} pairs of {tokens} tokens, {FULL.batch_size} a step, 2 at once"
    )
    print("| way | trained | steps | seconds | tokens/s | GiB used / reserved | loss | weights | largest | losses |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for kind in kinds:
        print(row("one process", kind, alone[kind], folder, work / kind, None), flush=True)
    for wanted in options.rows:
        if time.monotonic() - started > 60.0 * options.minutes:
            print(f"{wanted} was not begun: {options.minutes:g} minutes are over")
            continue
        way, kind, *kill = wanted.split(":")
        output = work / f"{way}-{kind}"
        try:
            trained = launched(spec, way, kind, pairs, tokens, output, kill=bool(kill))
        except (ValueError, OSError) as error:
            print(f"{wanted} FAILED: {error}", flush=True)
            continue
        how = f"`{way}.yaml`" + (f", killed, went on from step {trained.kept}" if kill else "")
        print(row(how, kind, trained, folder, output, work / kind), flush=True)
        shutil.rmtree(output)
    for kind in kinds:
        print(f"planned, {kind}: {planned(spec, kind, judged) / 2**30:.1f} GiB")


def make_there(folder: Path, vocabulary: int, tiny: bool) -> None:
    """A billion random numbers are drawn where that is quick."""
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        make_model(folder, vocabulary, TINY if tiny else LLAMA_1B)


def make_pairs(n: int, vocabulary: int) -> list[Judged]:
    """Words at random, the same for the same arguments."""
    rng = random.Random(7)
    words, half = vocabulary - 5, vocabulary // 2

    def answer(low: int, high: int) -> Response:
        token_ids = tuple(rng.randrange(low, high) for _ in range(rng.randint(*ANSWERS)))
        return Response(text="", token_ids=token_ids, finish_reason="length")

    return [
        Judged(
            instruction=" ".join(f"w{rng.randrange(words)}" for _ in range(rng.randint(*PROMPTS))),
            responses=(answer(5, half), answer(half, vocabulary)),
            name=str(index),
        )
        for index in range(n)
    ]


def tokens_of(pairs: Sequence[TrainingPair]) -> int:
    """Each prompt once, without the template's few."""
    answers = sum(len(answer.token_ids or ()) for pair in pairs for answer in (pair.chosen, pair.rejected))
    return answers + sum(len(pair.instruction.split()) for pair in pairs)


def train_alone(
    spec: ModelSpec, judged: list[Judged], kinds: Sequence[str], work: Path
) -> tuple[str, list[TrainingPair], dict[str, Trained]]:
    """The device's name, the pairs with the reference's log-probabilities, and trainings without a launch."""
    settle()
    tokens = load_tokens(spec)
    with closing(HfScorer(spec, tokens)) as reference:
        pairs = with_reference(judged, reference, Silent())
    total = tokens_of(pairs)
    found: dict[str, Trained] = {}
    for kind in kinds:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        clock = Clock()
        output = work / kind
        TrlTrainer(spec, tokens).train(
            pairs, TRAININGS[kind], output=output, metrics=output.with_suffix(".jsonl"), advance=clock
        )
        seconds = time.monotonic() - clock.started
        found[kind] = Trained(seconds=seconds, rate=clock.rate(total), peak=peak())
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU", pairs, found


def peak() -> str:
    """The most memory of this process: what torch had in use and reserved on the GPU, or all of it on a CPU."""
    if torch.cuda.is_available():
        both = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
        return " / ".join(f"{value / 2**30:.1f}" for value in both)
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f}"


def launched(
    spec: ModelSpec, way: str, kind: str, pairs: list[TrainingPair], tokens: int, output: Path, *, kill: bool
) -> Trained:
    """By accelerate, in one process, which this very script watches."""
    file = output.with_suffix(".peak")
    os.environ[PEAK] = str(file)
    words = ("accelerate", "launch", "--config_file", str(RECIPES / f"{way}.yaml"), "--num_processes", "1")
    launch = (*words, str(Path(__file__).resolve()))
    clock, kept = Clock(), None
    if kill:
        kept = start_and_kill(spec, launch, kind, pairs, output)
    last = Clock()
    train(spec, launch, kind, pairs, output, last)
    return Trained(
        seconds=time.monotonic() - clock.started, rate=last.rate(tokens), peak=file.read_text("utf-8"), kept=kept
    )


def train(
    spec: ModelSpec,
    launch: Sequence[str],
    kind: str,
    pairs: list[TrainingPair],
    output: Path,
    clock: Clock,
    *,
    save_seconds: float = 600.0,
) -> None:
    trainer = LaunchedTrainer(spec, load_tokens(spec), launch, save_seconds=save_seconds)
    trainer.train(pairs, TRAININGS[kind], output=output, metrics=output.with_suffix(".jsonl"), advance=clock)


def start_and_kill(
    spec: ModelSpec, launch: Sequence[str], kind: str, pairs: list[TrainingPair], output: Path
) -> int | None:
    """SIGKILL for a driver when a state is whole that is old enough; returns its step, None where it ended before."""
    at = TRAININGS[kind].steps(len(pairs)) // 2 if kind == "lora" else 1
    driver = os.fork()
    if driver == 0:
        try:
            # States of all weights are gigabytes: the first one comes after a few steps.
            train(spec, launch, kind, pairs, output, Clock(), save_seconds=0.0 if kind == "lora" else 2.0)
        finally:
            os._exit(0)
    work = output.with_name(output.name + ".work")
    kept = None
    while kept is None and os.waitpid(driver, os.WNOHANG) == (0, 0):
        time.sleep(0.01)
        steps = [int(path.name.partition("-")[2]) for path in work.glob("checkpoint-*") if whole(path)]
        kept = max((step for step in steps if step >= at), default=None)
    if kept is not None:
        os.kill(driver, signal.SIGKILL)
        os.waitpid(driver, 0)
    return kept


def whole(state: Path) -> bool:
    """Of one process with the whole model its Trainer's state comes last; of others a mark."""
    parts = any(state.glob("pytorch_model_fsdp*")) or any(state.glob("global_step*"))
    return (state / ("whole.json" if parts else "trainer_state.json")).exists()


def row(way: str, kind: str, trained: Trained, begin: Path, output: Path, alone: Path | None) -> str:
    """A line of the table; without `alone` there is nothing to compare with."""
    losses = [line["loss"] for _, line in read_json_lines(output.with_suffix(".jsonl"))]
    same = "– | – | –"
    if alone is not None:
        before = [line["loss"] for _, line in read_json_lines(alone.with_suffix(".jsonl"))]
        loss = max(abs(a - b) / abs(a) for a, b in zip(before, losses, strict=True))
        norm, largest = distance(begin, alone, output)
        same = f"{loss:.1e} | {norm:.1e} | {largest:.1e}"
    return (
        f"| {way} | {kind} | {len(losses)} | {trained.seconds:.0f} | {trained.rate:,.0f} | {trained.peak} | {same} | "
        f"{losses[0]:.3f}, {losses[-1]:.3f} |"
    )


@torch.inference_mode()
def distance(begin: Path, one: Path, two: Path) -> tuple[float, float]:
    """‖two − one‖ / ‖one − begin‖ over all weights, and the largest difference over the largest move."""
    sums, most = [0.0, 0.0], [0.0, 0.0]
    for before, a, b in zip(moves(begin, one), updates(one), updates(two), strict=True):
        for index, value in enumerate((b - a, a - before)):
            sums[index] += float(value.norm()) ** 2
            most[index] = max(most[index], float(value.abs().max()))
    return (sums[0] / sums[1]) ** 0.5, most[0] / most[1]


def updates(folder: Path) -> Iterator[Tensor]:
    """All weights of a checkpoint in float32, in the order of their names; of an adapter B·A of every layer."""
    file = next(folder.glob("*.safetensors"))
    with safe_open(file, framework="pt") as weights:
        for name in sorted(weights.keys()):
            if name.endswith("lora_A.weight"):
                yield weights.get_tensor(name.replace("lora_A", "lora_B")).float() @ weights.get_tensor(name).float()
            elif "lora_B" not in name:
                yield weights.get_tensor(name).float()


def moves(begin: Path, one: Path) -> Iterator[Tensor]:
    """Where the weights of `one` began: those of the model; of an adapter 0."""
    adapter = (one / "adapter_config.json").exists()
    for value in updates(one if adapter else begin):
        yield torch.zeros_like(value) if adapter else value


def planned(spec: ModelSpec, kind: str, judged: list[Judged]) -> float:
    """Bytes that `crossward check` would plan for this training on a GPU of 80 GB."""
    shape = read_shape(spec)
    assert shape is not None, "it is a folder"
    training = TRAININGS[kind]
    schedule = Schedule(
        batch_pairs=training.batch_size,
        micro_pairs=training.micro_batch_size,
        epochs=training.epochs,
        max_steps=None,
        max_length=training.max_length,
        checkpointing=False,
        lora_rank=None if training.lora is None else training.lora.rank,
        save_bytes=4,
    )
    drawing = Drawing(
        prompts=len(judged), languages=1, n=2, prompt_tokens=sum(PROMPTS) / 2, response_tokens=sum(ANSWERS) / 2,
        max_new_tokens=ANSWERS[1],
    )  # fmt: skip
    work = Workload(
        shape=shape, value_bytes=2, engine="transformers", drawing=drawing, judged_tokens=sum(PROMPTS) / 2,
        rating=Rating(), schedule=schedule, iterations=1, noise_prompts=0, answers=None, policies=1, judging=None,
    )  # fmt: skip
    return training_bytes(work, hardware_table()["h100-80gb"])


def watched() -> None:
    """`-m MODULE ARGUMENTS`, as Python runs it; then its memory goes into a file."""
    module, sys.argv = sys.argv[2], sys.argv[2:]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        Path(os.environ[PEAK]).write_text(peak(), encoding="utf-8")


if __name__ == "__main__":
    watched() if sys.argv[1:2] == ["-m"] else main()

"""Does a training in two processes learn what one does? Curves and weights of both, killed and continued included.

Reads the pairs of a run's first iteration and trains its policy on them, in one process and through `accelerate launch`
with the configurations of recipes/accelerate/, on two CPU processes. Prints the largest differences. Minutes on two
cores for the demo's run; nothing is asserted.
"""

import argparse
import os
import signal
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path

from safetensors.torch import load_file

from crossward.engines.hf_scorer import HfScorer
from crossward.engines.launched_trainer import LaunchedTrainer
from crossward.engines.models import settle
from crossward.engines.protocols import Judged, Lora, ModelSpec, Training, TrainingPair
from crossward.engines.tokens import load_tokens
from crossward.engines.trl_trainer import TrlTrainer
from crossward.pipeline.progress import Silent
from crossward.pipeline.stage_files import stream_pairs
from crossward.pipeline.training import with_reference
from crossward.store.json_lines import read_json_lines
from crossward.store.run_dir import RunDir

FOLDER = Path(__file__).parent.parent / "recipes" / "accelerate"
TRAINING = Training(
    beta=0.1,
    nll_weight=1.0,
    learning_rate=1e-4,
    epochs=2.0,
    batch_size=32,
    micro_batch_size=4,
    warmup_ratio=0.1,
    max_length=1024,
    seed=42,
)


def main() -> None:
    """Train by every way that was asked for and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/demo/run"), help="a run with an iteration-1/pair")
    parser.add_argument("--policy", default="runs/demo/policy", help="what is trained, and the reference")
    parser.add_argument(
        "--pairs", type=int, default=77, help="no multiple of 32, so that an epoch's last step is short"
    )
    parser.add_argument("--ways", nargs="+", default=["cpu", "fsdp2"], choices=["cpu", "fsdp2", "zero3"])
    parser.add_argument("--lora", action="store_true", help="an adapter in the place of all weights")
    parser.add_argument("--kill", action="store_true", help="SIGKILL the driver at half of the steps, and start again")
    options = parser.parse_args()
    settle()
    spec = ModelSpec(path=options.policy, dtype="float32", device="cpu")
    training = replace(TRAINING, lora=Lora(rank=8, alpha=16.0)) if options.lora else TRAINING
    pairs = read_pairs(options.run, spec, options.pairs)
    with tempfile.TemporaryDirectory() as folder:
        one = Path(folder) / "one"
        started = time.monotonic()
        TrlTrainer(spec, load_tokens(spec)).train(pairs, training, output=one, metrics=one.with_suffix(".jsonl"))
        steps = training.steps(len(pairs))
        print(f"one process: {steps} steps on {len(pairs)} pairs, {time.monotonic() - started:.0f} s")
        print("| way | steps | loss, largest difference | any logged value, relative | weights | moved | seconds |")
        print("|---|---:|---:|---:|---:|---:|---:|")
        for way in options.ways:
            started = time.monotonic()
            two = Path(folder) / way
            launch = ("accelerate", "launch", "--config_file", str(FOLDER / f"{way}.yaml"), "--num_processes", "2")
            if options.kill:
                start_and_kill(spec, launch, pairs, training, two, at=steps // 2)
            train(spec, launch, pairs, training, two)
            print(row(way, one, two, spec) + f" {time.monotonic() - started:.0f} |")


def read_pairs(run: Path, spec: ModelSpec, n: int) -> list[TrainingPair]:
    """The first pairs of a run's first iteration, with the policy itself as the reference."""
    judged = [
        Judged(
            instruction=pair.prompt.instruction,
            responses=(pair.chosen.response, pair.rejected.response),
            name=pair.prompt.id,
        )
        for pair in islice(stream_pairs(RunDir(run).iteration(1).stage("pair")), n)
    ]
    with closing(HfScorer(spec, load_tokens(spec))) as reference:
        return with_reference(judged, reference, Silent())


def train(
    spec: ModelSpec, launch: Sequence[str], pairs: Sequence[TrainingPair], training: Training, output: Path
) -> None:
    """In the processes that `launch` starts; a state is kept after every step."""
    trainer = LaunchedTrainer(spec, load_tokens(spec), launch, save_seconds=0.0)
    trainer.train(pairs, training, output=output, metrics=output.with_suffix(".jsonl"))


def start_and_kill(
    spec: ModelSpec, launch: Sequence[str], pairs: Sequence[TrainingPair], training: Training, output: Path, *, at: int
) -> None:
    """A driver that is killed when a state of step `at` or a later one is whole."""
    driver = os.fork()
    if driver == 0:
        try:
            train(spec, launch, pairs, training, output)
        finally:
            os._exit(1)
    work = output.with_name(output.name + ".work")
    while not any(int(path.parent.name.partition("-")[2]) >= at for path in work.glob("checkpoint-*/whole.json")):
        if os.waitpid(driver, os.WNOHANG) != (0, 0):
            raise SystemExit(f"the driver ended before a state of step {at} was there")
        time.sleep(0.01)
    os.kill(driver, signal.SIGKILL)
    os.waitpid(driver, 0)


def row(way: str, one: Path, two: Path, spec: ModelSpec) -> str:
    """Largest differences between two trainings; `moved` is how far the weights went from where they began."""
    curves = [[line for _, line in read_json_lines(folder.with_suffix(".jsonl"))] for folder in (one, two)]
    assert [line["step"] for line in curves[0]] == [line["step"] for line in curves[1]]
    both = list(zip(*curves, strict=True))
    loss = max(abs(a["loss"] - b["loss"]) for a, b in both)
    other = max(abs(a[key] - b[key]) / max(abs(a[key]), 1e-3) for a, b in both for key in a)
    weights = [load_file(next(folder.glob("*.safetensors"))) for folder in (one, two)]
    apart = max(float((weights[0][name] - weights[1][name]).abs().max()) for name in weights[0])
    begin = next(Path(spec.path).glob("model*.safetensors"))
    before = load_file(begin)
    moved = max(
        float((value - before[name]).abs().max()) if name in before else float(value.abs().max())
        for name, value in weights[0].items()
    )
    return f"| {way} | {len(both)} | {loss:.1e} | {other:.1e} | {apart:.1e} | {moved:.1e} |"


if __name__ == "__main__":
    main()

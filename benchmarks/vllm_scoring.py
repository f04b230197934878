"""Scoring speed: Crossward's HfScorer against vLLM's prompt_logprobs on the same groups, in one process.

    python benchmarks/vllm_scoring.py [--data PATH] [--model FOLDER] [--dtype float32|bfloat16 …] [--groups 12]

vLLM is driven by VllmScorer: token ids in, `prompt_logprobs=0`, one request a response, the steps of 2,048 tokens that
bound its logits. Both sides get the same threads on a CPU: by itself vLLM keeps one core for what schedules, which on
two cores costs it much. Each side opens its model, warms up on two groups and scores all; the better of --rounds
counts, and opening is told apart. The largest difference over all responses is printed. Memory holds every process that
was started, each side's by itself.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from memory import peak_memory
from smollm2 import model_folder
from workload import groups as workload

from crossward.engines.hf_scorer import HfScorer
from crossward.engines.models import settle
from crossward.engines.protocols import Judged, ModelSpec, Scorer, VllmOptions
from crossward.engines.tokens import load_tokens
from crossward.engines.vllm_scorer import VllmScorer


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One side once: seconds of the work and of opening, the peak of memory, and the sums."""

    seconds: float
    opening: float
    memory: str
    sums: list[float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--model", type=Path, default=None, help="a checkpoint; default: SmolLM2-135M-Instruct")
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"])
    parser.add_argument("--groups", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    settle()
    folder = arguments.model or model_folder()
    options = VllmOptions(threads=torch.get_num_threads())
    print(f"{folder.name}, {options.threads} threads, load {os.getloadavg()[0]:.1f}")
    for dtype in arguments.dtype:
        spec = ModelSpec(path=str(folder), dtype=dtype)
        tokens = load_tokens(spec)
        groups = workload(tokens, arguments.data, n=arguments.groups)
        rounds: dict[str, list[Round]] = {"crossward": [], "vllm": []}
        for _ in range(arguments.rounds):
            rounds["crossward"].append(score(lambda spec=spec, tokens=tokens: HfScorer(spec, tokens), groups))
            rounds["vllm"].append(
                score(lambda spec=spec, tokens=tokens: VllmScorer(spec, tokens, options=options), groups)
            )
        report(dtype, rounds)


def score(open_scorer: Callable[[], Scorer], groups: Sequence[Judged]) -> Round:
    """Open, warm up, score all, close."""
    started = time.perf_counter()
    with peak_memory() as peak:
        scorer = open_scorer()
        opened = time.perf_counter()
        scorer.score(groups[:2])
        begun = time.perf_counter()
        scored = scorer.score(groups)
        seconds = time.perf_counter() - begun
        scorer.close()
    sums = [result.logprob for row in scored for result in row if result is not None]
    return Round(seconds=seconds, opening=opened - started, memory=str(peak), sums=sums)


def report(dtype: str, rounds: dict[str, list[Round]]) -> None:
    best = {side: min(found, key=lambda each: each.seconds) for side, found in rounds.items()}
    print(f"\n{dtype}: {len(best['vllm'].sums)} responses")
    for side, found in best.items():
        seconds = ", ".join(f"{each.seconds:.1f}" for each in rounds[side])
        print(f"{side:10} {seconds:>12} s  opening {found.opening:4.0f} s  peak {found.memory}")
    ours, theirs = best["crossward"], best["vllm"]
    difference = max(abs(a - b) for a, b in zip(ours.sums, theirs.sums, strict=True))
    print(f"ratio {theirs.seconds / ours.seconds:.2f}x (bar 1.3); largest difference {difference:.2g} nats a response")


if __name__ == "__main__":
    main()

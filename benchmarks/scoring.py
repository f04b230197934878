"""Scoring speed on one model in one process: Crossward against the published procedure, TRL, and the machine's limit.

    python benchmarks/scoring.py [--data PATH] [--model FOLDER] [--dtype float32|bfloat16 …] [--sides …] [--groups 12]

- published: batches of 3 consecutive prompts, one candidate index at a time, right padding, float32 log-softmax over
  the full vocabulary of every position. Its quirks (lost first token, forced end of turn) are left out, so that both
  sides compute the same numbers; the largest difference is printed.
- trl: DPOTrainer.compute_ref_log_probs on the same responses, two at a time (chosen and rejected of a pair).
- limit: 2 x parameters x unique tokens (prompt once, responses) at the matrix-product rate measured in the same run.

Every side opens the model in a fresh process of its own, so that none inherits another's memory or threads, warms up on
one group, and scores all; sides take turns for --rounds, and their means make the ratios.
"""

import argparse
import copy
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean

import torch
from smollm2 import model_folder
from torch import Tensor
from transformers import PreTrainedModel
from workload import groups as workload

from crossward.engines.hf_scorer import HfScorer
from crossward.engines.models import load_model, settle
from crossward.engines.protocols import Judged, ModelSpec, Work
from crossward.engines.tokens import ChatTokens, load_tokens

Sums = list[list[float]]
BATCH_PROMPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One side once: seconds, the sums, what it computed, the machine's rate (FLOP/s), and the model's parameters."""

    seconds: float
    sums: Sums
    work: Work
    rate: float
    n_parameters: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--model", type=Path, default=None, help="a checkpoint; default: SmolLM2-135M-Instruct")
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"])
    parser.add_argument("--sides", nargs="+", default=["published", "trl"], choices=["published", "trl"])
    parser.add_argument("--groups", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    folder = arguments.model or model_folder()
    print(f"{folder.name}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}")
    for dtype in arguments.dtype:
        spec = ModelSpec(path=str(folder), dtype=dtype)
        sides = ["crossward", *arguments.sides]
        outcomes: dict[str, list[Outcome]] = {side: [] for side in sides}
        for _ in range(arguments.rounds):
            for side in sides:
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                    outcomes[side].append(process.submit(run, side, spec, arguments.data, arguments.groups).result())
        report(dtype, outcomes)


def run(side: str, spec: ModelSpec, data: Path | None, n: int) -> Outcome:
    """One side in this process."""
    settle()
    tokens = load_tokens(spec)
    groups = workload(tokens, data, n=n)
    model = load_model(spec)
    work = Work()
    match side:
        case "crossward":
            scorer = HfScorer(spec, tokens)
            scorer.score(groups[:1])
            scorer.work = work
            started = time.perf_counter()
            sums = [[result.logprob for result in row if result] for row in scorer.score(groups)]
        case _:
            procedure = published if side == "published" else trl_reference
            procedure(model, tokens, groups[:1])
            started = time.perf_counter()
            sums = procedure(model, tokens, groups)
    return Outcome(
        seconds=time.perf_counter() - started,
        sums=sums,
        work=work,
        rate=matrix_rate(model.dtype, model.device),
        n_parameters=sum(parameter.numel() for parameter in model.parameters()),
    )


def report(dtype: str, outcomes: dict[str, list[Outcome]]) -> None:
    """The ratios of mean seconds, and how far the sums lie apart."""
    ours = outcomes["crossward"]
    work, seconds = ours[0].work, fmean(outcome.seconds for outcome in ours)
    rate = max(outcome.rate for outcome in ours)
    limit = 2 * ours[0].n_parameters * work.unique_tokens / rate
    responses = sum(map(len, ours[0].sums))
    print(f"\n{dtype}: {len(ours[0].sums)} groups, {responses} responses, {work.unique_tokens} unique tokens")
    print(
        f"{'crossward':12} {told(ours)} s  {work.unique_tokens / seconds:.0f} tokens/s, "
        f"padding and repeats {work.waste:.1%}"
    )
    print(f"{'limit':12} {limit:.1f} s  at {rate / 1e9:.0f} GFLOP/s: crossward takes {seconds / limit:.2f}x the limit")
    for side, theirs in outcomes.items():
        if side != "crossward":
            ratio = fmean(outcome.seconds for outcome in theirs) / seconds
            print(f"{side:12} {told(theirs)} s  ratio {ratio:.2f}x  largest difference {apart(ours, theirs):.2g} nats")


def told(outcomes: Sequence[Outcome]) -> str:
    return ", ".join(f"{outcome.seconds:.1f}" for outcome in outcomes)


def apart(ours: Sequence[Outcome], theirs: Sequence[Outcome]) -> float:
    """The largest difference of one response."""
    pairs = zip(ours[0].sums, theirs[0].sums, strict=True)
    return max(abs(a - b) for x, y in pairs for a, b in zip(x, y, strict=True))


@torch.inference_mode()
def published(model: PreTrainedModel, tokens: ChatTokens, groups: Sequence[Judged]) -> Sums:
    """The published procedure without its quirks."""
    sums: Sums = [[] for _ in groups]
    for start in range(0, len(groups), BATCH_PROMPTS):
        batch = groups[start : start + BATCH_PROMPTS]
        for k in range(len(batch[0].responses)):
            rows = [(tokens.prompt_ids(g.instruction), tokens.response_ids(g.responses[k])) for g in batch]
            ids, mask = padded(rows, tokens.pad_id, model.device)
            logprobs = model(input_ids=ids, attention_mask=mask).logits.float().log_softmax(-1)
            picked = logprobs[:, :-1].gather(-1, ids[:, 1:].unsqueeze(-1)).squeeze(-1)
            for i, (prompt, response) in enumerate(rows):
                own = picked[i, len(prompt) - 1 : len(prompt) - 1 + len(response)]
                sums[start + i].append(float(own.double().sum()))
    return sums


def padded(
    rows: Sequence[tuple[Sequence[int], Sequence[int]]], pad: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Right-padded ids and attention mask [rows, longest]."""
    width = max(len(prompt) + len(response) for prompt, response in rows)
    filled = [[*prompt, *response, *[pad] * (width - len(prompt) - len(response))] for prompt, response in rows]
    lengths = torch.tensor([len(prompt) + len(response) for prompt, response in rows], device=device)
    return torch.tensor(filled, device=device), (torch.arange(width, device=device) < lengths.unsqueeze(1)).long()


def trl_reference(model: PreTrainedModel, tokens: ChatTokens, groups: Sequence[Judged]) -> Sums:
    """TRL's own reference pass over pairs: responses 1 and 2 of a prompt, 3 and 4, and so on."""
    import tempfile

    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    with tempfile.TemporaryDirectory() as folder:
        row = {side: [{"role": "assistant", "content": side}] for side in ("chosen", "rejected")}
        trainer = DPOTrainer(
            model=model,
            ref_model=copy.copy(model),  # another object over the same weights: only the reference is asked
            args=DPOConfig(
                output_dir=folder, report_to=[], use_cpu=model.device.type == "cpu", bf16=False, max_length=None
            ),
            train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": "a"}], **row}]),
            processing_class=tokens.tokenizer,
        )
    sums: Sums = []
    for group in groups:
        prompt = tokens.prompt_ids(group.instruction)
        sums.append([])
        for k in range(0, len(group.responses), 2):
            rows = [(prompt, tokens.response_ids(response)) for response in group.responses[k : k + 2]]
            ids, mask = padded(rows, tokens.pad_id, model.device)
            ends = torch.tensor([len(prompt) + len(response) for _, response in rows], device=model.device)
            place = torch.arange(ids.shape[1], device=model.device)
            completion = ((place >= len(prompt)) & (place < ends.unsqueeze(1))).long()
            inputs = {"input_ids": ids, "attention_mask": mask, "completion_mask": completion}
            chosen, rejected = trainer.compute_ref_log_probs(model, inputs)
            sums[-1] += [float(chosen), float(rejected)]
    return sums


@torch.inference_mode()
def matrix_rate(dtype: torch.dtype, device: torch.device, *, size: int = 2048, tries: int = 5) -> float:
    """Floating-point operations a second of a plain [size, size] matrix product, the best of a few."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(tries + 1):
        started = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


if __name__ == "__main__":
    main()

"""Scoring speed on one model in one process: Crossward against the published procedure, TRL, and the machine's limit.

    python benchmarks/scoring.py [--data PATH] [--model FOLDER] [--dtype float32|bfloat16 …] [--sides …] [--groups 12]

- published: batches of 3 consecutive prompts, one candidate index at a time, right padding, float32 log-softmax over
  the full vocabulary of every position. Its quirks (lost first token, forced end of turn) are left out, so that both
  sides compute the same numbers; the largest difference is printed.
- trl: DPOTrainer.compute_ref_log_probs on the same responses, two at a time (chosen and rejected of a pair).
- limit: 2 x parameters x unique tokens (prompt once, responses) at the matrix-product rate measured in the same run.

Every side warms up on one or two groups, then runs once for the time, Crossward last: its scorer tells the process to
keep freed memory, which helps every side of a second dtype in the same process. One dtype a process is fairest.
"""

import argparse
import copy
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from smollm2 import model_folder
from torch import Tensor
from transformers import PreTrainedModel
from workload import groups as workload

from crossward.engines.hf_scorer import HfScorer
from crossward.engines.models import load_model, settle
from crossward.engines.protocols import Judged, ModelSpec
from crossward.engines.tokens import ChatTokens, load_tokens

Sums = list[list[float]]
BATCH_PROMPTS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--model", type=Path, default=None, help="a checkpoint; default: SmolLM2-135M-Instruct")
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"])
    parser.add_argument("--sides", nargs="+", default=["published", "trl"], choices=["published", "trl"])
    parser.add_argument("--groups", type=int, default=12)
    arguments = parser.parse_args()
    settle()
    folder = arguments.model or model_folder()
    print(f"{folder.name}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}")
    for dtype in arguments.dtype:
        compare(ModelSpec(path=str(folder), dtype=dtype), arguments.data, arguments.sides, arguments.groups)


def compare(spec: ModelSpec, data: Path | None, sides: Sequence[str], n: int) -> None:
    """Time each side and Crossward on the same groups and print the ratios."""
    tokens = load_tokens(spec)
    groups = workload(tokens, data, n=n)
    model = load_model(spec)
    procedures: dict[str, Callable[[Sequence[Judged]], Sums]] = {
        "published": lambda some: published(model, tokens, some),
        "trl": lambda some: trl_reference(model, tokens, some),
    }
    others: dict[str, tuple[float, Sums]] = {}
    for side in sides:  # before Crossward's scorer tells the process to keep freed memory, which helps all sides
        procedures[side](groups[:1])
        others[side] = timed(lambda side=side: procedures[side](groups))
    scorer = HfScorer(spec, tokens)
    scorer.score(groups[:2])
    before = scorer.work.unique_tokens, scorer.work.processed_tokens
    seconds, ours = timed(lambda: [[r.logprob for r in row if r] for row in scorer.score(groups)])
    unique = scorer.work.unique_tokens - before[0]
    waste = 1 - unique / (scorer.work.processed_tokens - before[1])
    rate = matrix_rate(model.dtype, model.device)
    limit = 2 * sum(parameter.numel() for parameter in model.parameters()) * unique / rate
    responses = sum(len(group.responses) for group in groups)
    print(f"\n{spec.dtype}: {len(groups)} groups, {responses} responses, {unique} unique tokens")
    print(f"{'crossward':12} {seconds:8.1f} s  {unique / seconds:8.0f} tokens/s  padding and repeats {waste:.1%}")
    print(f"{'limit':12} {limit:8.1f} s  at {rate / 1e9:.0f} GFLOP/s: crossward takes {seconds / limit:.2f}x the limit")
    for side, (other, theirs) in others.items():
        difference = max(abs(a - b) for x, y in zip(ours, theirs, strict=True) for a, b in zip(x, y, strict=True))
        print(f"{side:12} {other:8.1f} s  ratio {other / seconds:5.2f}x  largest difference {difference:.2g} nats")


def timed(work: Callable[[], Sums]) -> tuple[float, Sums]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


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

"""Training speed on the same pairs in one process: Crossward against plain TRL, with the same loss curve.

    python benchmarks/training.py [--data PATH] [--model FOLDER] [--pairs 12] [--batch 4] [--lora RANK] [--precompute]

- crossward: the reference's log-probabilities by HfScorer, once, then TrlTrainer on packed pairs (prompt once, no
  padding). Its time holds both.
- trl: DPOTrainer as it comes, with loss_type ["sigmoid", "sft"] and a reference model, chosen and rejected padded to
  one length; with --precompute its own precompute_ref_log_probs. One pair a micro-batch, where its token mean of the
  NLL is the mean per sequence. Token ids go in as they are, so that both sides see the same.

Full fine-tuning in float32 on a CPU (bfloat16 mixed precision on CUDA); same seed, hence the same order of pairs.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from smollm2 import model_folder
from trl import DPOConfig, DPOTrainer
from workload import groups as workload

from crossward.engines.hf_scorer import HfScorer
from crossward.engines.models import load_model, settle
from crossward.engines.protocols import Judged, Lora, ModelSpec, Training, TrainingPair
from crossward.engines.tokens import ChatTokens, load_tokens
from crossward.engines.trl_trainer import TrlTrainer

Losses = list[float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--model", type=Path, default=None, help="a checkpoint; default: SmolLM2-135M-Instruct")
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--lora", type=int, default=None, help="train an adapter of this rank instead of all weights")
    parser.add_argument("--precompute", action="store_true", help="let TRL compute its reference once, too")
    arguments = parser.parse_args()
    settle()
    cuda = torch.cuda.is_available()
    spec = ModelSpec(path=str(arguments.model or model_folder()), dtype="bfloat16" if cuda else "float32")
    tokens = load_tokens(spec)
    groups = workload(tokens, arguments.data, n=arguments.pairs)
    training = Training(
        beta=0.1,
        nll_weight=1.0,
        learning_rate=1e-5,
        epochs=1,
        batch_size=arguments.batch,
        micro_batch_size=1,
        warmup_ratio=0.0,
        scheduler="constant",
        max_length=8192,
        seed=42,
        lora=arguments.lora and Lora(rank=arguments.lora, alpha=2.0 * arguments.lora),
    )
    print(
        f"{Path(spec.path).name}, {len(groups)} pairs, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}"
    )
    ours, our_losses = crossward(spec, tokens, groups, training)
    theirs, their_losses = plain_trl(spec, tokens, groups, training, precompute=arguments.precompute)
    difference = max(abs(a - b) / abs(b) for a, b in zip(our_losses, their_losses, strict=True))
    print(f"crossward {ours:8.1f} s   losses {' '.join(f'{loss:.4f}' for loss in our_losses)}")
    print(f"trl       {theirs:8.1f} s   losses {' '.join(f'{loss:.4f}' for loss in their_losses)}")
    print(f"ratio     {theirs / ours:8.2f}x  largest relative difference of a step's loss {difference:.1e}")


def crossward(spec: ModelSpec, tokens: ChatTokens, groups: list[Judged], training: Training) -> tuple[float, Losses]:
    """Seconds of reference pass and training, without loading; the loss of every step."""
    scorer = HfScorer(spec, tokens)
    started = time.perf_counter()
    judged = [Judged(instruction=group.instruction, responses=group.responses[:2]) for group in groups]
    scores = scorer.score(judged)
    reference_seconds = time.perf_counter() - started
    scorer.close()
    pairs = [
        TrainingPair(
            instruction=group.instruction,
            chosen=group.responses[0],
            rejected=group.responses[1],
            reference_chosen_logprob=chosen.logprob,
            reference_rejected_logprob=rejected.logprob,
        )
        for group, (chosen, rejected) in zip(judged, scores, strict=True)
        if chosen is not None and rejected is not None
    ]
    with tempfile.TemporaryDirectory() as folder:
        metrics = Path(folder) / "metrics.jsonl"
        clock = _Clock()
        TrlTrainer(spec, tokens).train(pairs, training, output=Path(folder) / "out", metrics=metrics, advance=clock)
        lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    return reference_seconds + clock.seconds, [line["loss"] for line in lines]


class _Clock:
    """Seconds from the trainer's first sign of life (0 steps done) to its last step."""

    def __init__(self) -> None:
        self._started: float | None = None
        self.seconds = 0.0

    def __call__(self, n: int) -> None:
        now = time.perf_counter()
        self._started = now if self._started is None else self._started
        self.seconds = now - self._started


class _OnIds(DPOTrainer):
    """Plain TRL, but for the tokenising: its rows are ids already."""

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset


def plain_trl(
    spec: ModelSpec, tokens: ChatTokens, groups: list[Judged], training: Training, *, precompute: bool
) -> tuple[float, Losses]:
    """The same for DPOTrainer; its own precomputation is counted, loading is not."""
    rows = [
        {
            "prompt_ids": list(tokens.prompt_ids(group.instruction)),
            "chosen_ids": list(tokens.response_ids(group.responses[0])),
            "rejected_ids": list(tokens.response_ids(group.responses[1])),
        }
        for group in groups
    ]
    cuda = torch.cuda.is_available()
    lora = training.lora
    policy = load_model(ModelSpec(path=spec.path, dtype="float32")).requires_grad_(True).train()
    reference = None if lora else load_model(spec)
    with tempfile.TemporaryDirectory() as folder:
        arguments = DPOConfig(
            output_dir=folder,
            beta=training.beta,
            loss_type=["sigmoid", "sft"],
            loss_weights=[1.0, training.nll_weight],
            precompute_ref_log_probs=precompute,
            max_length=None,
            learning_rate=training.learning_rate,
            num_train_epochs=1,
            per_device_train_batch_size=1,
            gradient_accumulation_steps=training.batch_size,
            lr_scheduler_type="constant",
            seed=training.seed,
            bf16=cuda,
            use_cpu=not cuda,
            gradient_checkpointing=False,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        config = LoraConfig(r=lora.rank, lora_alpha=int(lora.alpha), target_modules="all-linear") if lora else None
        started = time.perf_counter()
        trainer = _OnIds(
            model=policy,
            ref_model=reference,
            args=arguments,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokens.tokenizer,
            peft_config=config,
        )
        if not precompute:
            started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
    return seconds, [line["loss"] for line in trainer.state.log_history if "loss" in line]


if __name__ == "__main__":
    main()

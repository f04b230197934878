"""The implicit reward as TRL's reward function: a few steps of GRPO on the tiny world, and what gold says of them.

    python experiments/grpo_tiny_world.py --seeds 301 302 303 --folder runs/grpo

For every seed: make the world, take π_0 as the policy and log π_0/π_I under the English request as the reward, train
on the method's own requests in all languages, answer the held-out requests before and after. Settings were chosen on
seed 7 and the tuning requests. Intervals resample the requests of all seeds. `--trainer online-dpo` trains with TRL's
online DPO instead.
"""

import argparse
import copy
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PrinterCallback, TrainerCallback

from crossward import ImplicitReward
from crossward.console import Terminal
from crossward.core.intervals import clustered_mean
from crossward.engines.hf_sampler import HfSampler
from crossward.engines.models import settle
from crossward.engines.protocols import ModelSpec, Sampling
from crossward.engines.tokens import load_tokens
from crossward.tinyworld.judgement import GROUPS
from crossward.tinyworld.prepare import prepare
from crossward.tinyworld.vocabulary import LANGUAGES
from crossward.tinyworld.world import MAX_NEW_TOKENS, Split, gold, prompts

ANSWERS = 16  # to each held-out request
Golds = dict[tuple[str, str], float]  # (language, request) -> mean gold of its answers


class Journal(TrainerCallback):
    """Keeps what the trainer logs, and prints nothing."""

    def __init__(self) -> None:
        self.lines: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        self.lines.append(dict(logs or {}))


def main() -> None:
    """Train on every seed, then print the pooled table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--folder", type=Path, default=Path("runs/grpo"))
    parser.add_argument("--preset", choices=["fast", "small", "demo"], default="small")
    parser.add_argument("--trainer", choices=["grpo", "online-dpo"], default="grpo")
    parser.add_argument("--split", choices=["evaluation", "tuning"], default="evaluation")
    parser.add_argument("--view", choices=["crosslingual", "multilingual"], default="crosslingual")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--kl", type=float, default=1.0, help="weight of the divergence from π_0 (GRPO)")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    settle(threads=given.threads)
    before: dict[int, Golds] = {}
    after: dict[int, Golds] = {}
    started = time.monotonic()
    for seed in given.seeds:
        world = given.folder / f"{given.preset}-{seed}"
        prepare(world, preset=given.preset, seed=seed, progress=Terminal())
        before[seed] = golds(world / "policy", given.split)
        trained, journal = train(world, seed, given)
        after[seed] = golds(trained, given.split)
        tell(seed, journal)
    print(table(before, after))
    print(f"\n{time.monotonic() - started:.0f} s, {given.trainer}, {given.steps} steps a seed, {given.view} view")


def train(world: Path, seed: int, given: argparse.Namespace) -> tuple[Path, list[dict[str, float]]]:
    """π_0 after a few steps on the implicit reward; its folder and the trainer's log."""
    dataset = Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": prompt.instruction}],
                "language": prompt.language,
                "english_instruction": prompt.english_instruction,
            }
            for language in LANGUAGES
            for prompt in prompts("icr", language)
        ]
    )
    tokenizer = AutoTokenizer.from_pretrained(world / "policy")
    model = AutoModelForCausalLM.from_pretrained(world / "policy")
    journal, output = Journal(), world / given.trainer
    with ImplicitReward(
        world / "policy", world / "reference", beta=1.0, view=given.view, dtype="float32", device="cpu"
    ) as reward:
        make = grpo if given.trainer == "grpo" else online_dpo
        trainer = make(model, reward, dataset.shuffle(seed=seed), tokenizer, output, seed, given)
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(journal)
        trainer.train()
    trainer.save_model(str(output))
    tokenizer.save_pretrained(output)
    return output, journal.lines


def grpo(
    model: PreTrainedModel,
    reward: ImplicitReward,
    dataset: Dataset,
    tokenizer: Any,
    output: Path,
    seed: int,
    given: argparse.Namespace,
) -> Any:
    from trl import GRPOConfig, GRPOTrainer

    config = GRPOConfig(
        per_device_train_batch_size=256,  # completions a step
        num_generations=16,
        max_completion_length=MAX_NEW_TOKENS,
        beta=given.kl,
        **common(output, seed, given),
    )
    return GRPOTrainer(model=model, reward_funcs=reward, args=config, train_dataset=dataset, processing_class=tokenizer)


def online_dpo(
    model: PreTrainedModel,
    reward: ImplicitReward,
    dataset: Dataset,
    tokenizer: Any,
    output: Path,
    seed: int,
    given: argparse.Namespace,
) -> Any:
    from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

    config = OnlineDPOConfig(
        per_device_train_batch_size=128,  # prompts a step, two completions each
        max_new_tokens=MAX_NEW_TOKENS,
        max_length=128,
        temperature=1.0,
        beta=0.1,
        **common(output, seed, given),
    )
    return OnlineDPOTrainer(
        model=model,
        ref_model=copy.deepcopy(model),
        reward_funcs=reward,
        args=config,
        train_dataset=dataset,
        processing_class=tokenizer,
    )


def common(output: Path, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """What both trainers are told."""
    return {
        "output_dir": str(output),
        "max_steps": given.steps,
        "learning_rate": given.learning_rate,
        "lr_scheduler_type": "linear",
        "logging_steps": 1,
        "seed": seed,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
    }


def golds(policy: Path, split: Split) -> Golds:
    """Mean gold of a policy's answers to every request; the same draws for every policy."""
    spec = ModelSpec(path=str(policy), dtype="float32", device="cpu")
    sampler = HfSampler(spec, load_tokens(spec), batch_rows=600)
    decoding = Sampling(n=ANSWERS, temperature=1.0, top_p=1.0, max_new_tokens=MAX_NEW_TOKENS, seed=0)
    return {
        (language, group.prompt.id): fmean(gold(group.prompt, response.text) for response in group.responses)
        for language in LANGUAGES
        for group in sampler.sample(prompts(split, language), decoding)
    }


def tell(seed: int, journal: Sequence[dict[str, float]]) -> None:
    """The reward that the trainer saw, in the first and the last five steps."""
    name = "reward" if any("reward" in line for line in journal) else "objective/scores"
    seen = [line[name] for line in journal if name in line]
    if seen:
        print(
            f"seed {seed}: mean reward {fmean(seen[:5]):+.2f} in five steps, {fmean(seen[-5:]):+.2f} in the last five"
        )


def table(before: dict[int, Golds], after: dict[int, Golds]) -> str:
    """Gold before and after by language, the gain with its interval, and every seed's gain."""
    lines = ["| language | gold π_0 | gold trained | gain | by seed |", "|---|---:|---:|---:|---|"]
    for group, languages in GROUPS.items():
        found = [
            (seed, key[1], before[seed][key], after[seed][key])
            for seed in before
            for key in before[seed]
            if key[0] in languages
        ]
        gain = clustered_mean((f"{seed} {request}", new - old) for seed, request, old, new in found)
        by_seed = [fmean(new - old for each, _, old, new in found if each == seed) for seed in before]
        lines.append(
            f"| {group} | {fmean(row[2] for row in found):.3f} | {fmean(row[3] for row in found):.3f} "
            f"| {gain.estimate:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] "
            f"| {' '.join(f'{value:+.3f}' for value in by_seed)} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()

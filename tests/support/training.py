"""Pairs to train on, and the same training written as a plain loop over transformers' logits and torch's AdamW.

The loop knows nothing of batches, padding, TRL or the Trainer: one sequence at a time, float32, in the given order.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from crossward.core.losses import dpo_nll_loss
from crossward.core.records import Response
from crossward.engines.hf_scorer import HfScorer
from crossward.engines.models import load_model
from crossward.engines.protocols import Judged, ModelSpec, Training, TrainingPair
from crossward.engines.tokens import ChatTokens, load_tokens
from crossward.engines.trl_trainer import TrlTrainer

TRAINING = Training(
    beta=0.1,
    nll_weight=1.0,
    learning_rate=1e-3,
    epochs=1,
    batch_size=4,
    micro_batch_size=4,
    warmup_ratio=0.0,
    scheduler="constant",
    weight_decay=0.0,
    max_grad_norm=1e-6,  # below Adam's epsilon per weight: a step then feels the gradient's size, and rounding hardly
    max_length=256,
    seed=3,
)

# Chosen lengths from 2 to about 40 tokens, so that a mean over tokens is not a mean over responses.
_TEXTS = (
    ("Di", "Hola", "thing. thing. the"),
    ("Say it twice", "the Manzana the Manzana the Manzana roja", "no"),
    ("苹果", "苹", "Manzana. Hola the thing"),
    ("the", "a thing", "another thing\n\nan a"),
    ("Where is the ana?", "Hola Hola Hola Hola Hola Hola thing thing", "in the an"),
    ("Why", "on", "er er er"),
)


def make_pairs(spec: ModelSpec, tokens: ChatTokens, n: int = 4, *, shift: float = 0.0) -> list[TrainingPair]:
    """`n` pairs with the reference's log-probabilities: those of `spec` itself, moved by up to `shift` nats."""
    responses = [(Response(text=chosen), Response(text=rejected)) for _, chosen, rejected in _TEXTS[:n]]
    judged = [Judged(instruction=t[0], responses=both) for t, both in zip(_TEXTS[:n], responses, strict=True)]
    scores = HfScorer(spec, tokens).score(judged)
    return [
        TrainingPair(
            instruction=group.instruction,
            chosen=group.responses[0],
            rejected=group.responses[1],
            reference_chosen_logprob=chosen.logprob + shift * (index + 1) / n,
            reference_rejected_logprob=rejected.logprob - shift / (index + 1),
        )
        for index, (group, (chosen, rejected)) in enumerate(zip(judged, scores, strict=True))
    ]


def pair_logprob(model: PreTrainedModel, prompt: Sequence[int], response: Sequence[int]) -> Tensor:
    """log π(y|x) by the definition: one sequence, the model's own logits, with gradient."""
    logits = model(input_ids=torch.tensor([[*prompt, *response]], device=model.device)).logits[0]
    terms = [logits[len(prompt) - 1 + t].log_softmax(-1)[token] for t, token in enumerate(response)]
    return torch.stack(terms).sum()


def step_loss(model: PreTrainedModel, tokens: ChatTokens, pairs: Sequence[TrainingPair], training: Training) -> Tensor:
    """The loss of the method over one step's pairs."""
    columns = _columns(model, tokens, pairs)
    return dpo_nll_loss(*columns, beta=training.beta, nll_weight=training.nll_weight)


def token_mean_step_loss(
    model: PreTrainedModel, tokens: ChatTokens, pairs: Sequence[TrainingPair], training: Training
) -> Tensor:
    """What TRL's own `sft` term would give over one micro-batch: the NLL a mean over all chosen tokens."""
    columns = _columns(model, tokens, pairs)
    preference = dpo_nll_loss(*columns, beta=training.beta, nll_weight=0.0)
    return preference - training.nll_weight * columns[0].sum() / columns[4].sum()


def train_by_hand(
    spec: ModelSpec,
    tokens: ChatTokens,
    steps: Sequence[Sequence[TrainingPair]],
    training: Training,
    *,
    rates: Sequence[float] | None = None,
    loss: Callable[..., Tensor] = step_loss,
) -> dict[str, Tensor]:
    """One AdamW step per entry of `steps`, at the learning rates `rates` (None: the full one); the weights then."""
    model = load_model(replace(spec, dtype="float32")).requires_grad_(True).train()
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]  # norms and biases
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": training.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=training.learning_rate,
        betas=(0.9, 0.999),
        eps=1e-8,
    )
    rates = [training.learning_rate] * len(steps) if rates is None else rates
    for pairs, rate in zip(steps, rates, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss(model, tokens, pairs, training).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), training.max_grad_norm)
        optimizer.step()
    return {name: parameter.detach().cpu() for name, parameter in model.named_parameters()}


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All parameters of a saved checkpoint, under the model's own names and in float32."""
    spec = ModelSpec(path=str(folder), dtype="float32", device="cpu")
    return dict(load_model(spec).named_parameters())


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of a folder's one safetensors file as they were saved (the only way to look into an adapter)."""
    (file,) = folder.glob("*.safetensors")
    return load_file(file)


def largest_difference(one: dict[str, Tensor], two: dict[str, Tensor]) -> float:
    """The largest absolute difference of any weight; both must hold the same names."""
    assert one.keys() == two.keys(), sorted(one.keys() ^ two.keys())
    return max(float((one[name].float() - two[name].float()).abs().max()) for name in one)


def train(spec: ModelSpec, pairs: Sequence[TrainingPair], training: Training, folder: Path) -> dict[str, float]:
    """TrlTrainer's training into folder/output, with its journal in folder/metrics.jsonl."""
    trainer = TrlTrainer(spec, load_tokens(spec))
    return trainer.train(pairs, training, output=folder / "output", metrics=folder / "metrics.jsonl")


def read_journal(file: Path) -> list[dict[str, Any]]:
    """The journal's lines."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _columns(model: PreTrainedModel, tokens: ChatTokens, pairs: Sequence[TrainingPair]) -> tuple[Tensor, ...]:
    chosen, rejected, lengths = [], [], []
    for pair in pairs:
        prompt = tokens.prompt_ids(pair.instruction)
        chosen.append(pair_logprob(model, prompt, tokens.response_ids(pair.chosen)))
        rejected.append(pair_logprob(model, prompt, tokens.response_ids(pair.rejected)))
        lengths.append(float(len(tokens.response_ids(pair.chosen))))
    reference_chosen = torch.tensor([pair.reference_chosen_logprob for pair in pairs])
    reference_rejected = torch.tensor([pair.reference_rejected_logprob for pair in pairs])
    return torch.stack(chosen), torch.stack(rejected), reference_chosen, reference_rejected, torch.tensor(lengths)

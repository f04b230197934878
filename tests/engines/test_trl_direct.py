"""SimPO and ORPO against a plain loop of AdamW steps over transformers' logits, and against TRL's own functions."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.data_loader import SeedableRandomSampler
from tests.support.families import FAMILIES, make_family
from tests.support.training import (
    TRAINING,
    largest_difference,
    make_pairs,
    pair_logprob,
    read_journal,
    read_weights,
    train_by_hand,
)
from torch import Tensor
from transformers import PreTrainedModel

from crossward.engines import trl_align, trl_trainer
from crossward.engines.models import load_model
from crossward.engines.protocols import Alignment, AlignMethod, ModelSpec, Training, TrainingPair
from crossward.engines.tokens import ChatTokens, load_tokens

TOLERANCE = 1e-6
ALIGNMENTS: dict[AlignMethod, Alignment] = {
    "simpo": Alignment(method="simpo", training=replace(TRAINING, beta=2.0, nll_weight=0.5), gamma=0.8),
    "orpo": Alignment(method="orpo", training=replace(TRAINING, beta=0.4, nll_weight=0.0)),
}


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelSpec]:
    folders = {name: make_family(name, tmp_path_factory.mktemp(name)) for name in FAMILIES}
    return {name: ModelSpec(path=str(folder), dtype="float32", device="cpu") for name, folder in folders.items()}


@pytest.fixture(params=ALIGNMENTS)
def alignment(request: pytest.FixtureRequest) -> Alignment:
    return ALIGNMENTS[request.param]


def means_of(model: PreTrainedModel, tokens: ChatTokens, pair: TrainingPair) -> tuple[Tensor, Tensor]:
    """log π per token of chosen and rejected, by the definition."""
    prompt = tokens.prompt_ids(pair.instruction)
    sides = [tokens.response_ids(response) for response in (pair.chosen, pair.rejected)]
    better, worse = (pair_logprob(model, prompt, ids) / len(ids) for ids in sides)
    return better, worse


def loss_of(alignment: Alignment) -> Callable[..., Tensor]:
    """The papers' formulas, one pair at a time."""

    def loss(model: PreTrainedModel, tokens: ChatTokens, pairs: Sequence[TrainingPair], training: Training) -> Tensor:
        terms = []
        for pair in pairs:
            better, worse = means_of(model, tokens, pair)
            if alignment.method == "simpo":
                margin = training.beta * better - training.beta * worse - alignment.gamma
                terms.append(-torch.log(torch.sigmoid(margin)) - training.nll_weight * better)
            else:
                odds = [torch.exp(x) / (1 - torch.exp(x)) for x in (better, worse)]
                terms.append(-better - training.beta * torch.log(torch.sigmoid(torch.log(odds[0] / odds[1]))))
        return torch.stack(terms).mean()

    return loss


def train(spec: ModelSpec, pairs: Sequence[TrainingPair], alignment: Alignment, folder: Path) -> dict[str, float]:
    trainer = trl_align.AlignTrainer(spec, load_tokens(spec), alignment)
    return trainer.train(pairs, alignment.training, output=folder / "output", metrics=folder / "metrics.jsonl")


@pytest.mark.parametrize("family", FAMILIES)
def test_one_step_equals_a_step_by_hand(specs: dict[str, ModelSpec], family: str, alignment: Alignment, tmp_path: Path):
    spec = specs[family]
    tokens = load_tokens(spec)
    pairs = make_pairs(spec, tokens)
    train(spec, pairs, alignment, tmp_path)
    trained, loss = read_weights(tmp_path / "output"), loss_of(alignment)
    assert largest_difference(trained, read_weights(Path(spec.path))) > alignment.training.learning_rate / 2
    assert largest_difference(trained, train_by_hand(spec, tokens, [pairs], alignment.training, loss=loss)) < TOLERANCE
    (line,) = read_journal(tmp_path / "metrics.jsonl")
    by_hand = loss(load_model(spec), tokens, pairs, alignment.training).item()
    assert line["loss"] == pytest.approx(by_hand, rel=1e-4)


def test_gamma_and_the_weights_change_what_is_learnt(specs: dict[str, ModelSpec], tmp_path: Path):
    spec = specs["chatml"]
    pairs = make_pairs(spec, load_tokens(spec))
    simpo, orpo = ALIGNMENTS["simpo"], ALIGNMENTS["orpo"]
    others = {
        "simpo": simpo,
        "gamma": replace(simpo, gamma=0.1),
        "nll": replace(simpo, training=replace(simpo.training, nll_weight=0.0)),
        "orpo": orpo,
        "lambda": replace(orpo, training=replace(orpo.training, beta=0.1)),
    }
    for name, alignment in others.items():
        train(spec, pairs, alignment, tmp_path / name)
    weights = {name: read_weights(tmp_path / name / "output") for name in others}
    assert largest_difference(weights["simpo"], weights["gamma"]) > 100 * TOLERANCE
    assert largest_difference(weights["simpo"], weights["nll"]) > 100 * TOLERANCE
    assert largest_difference(weights["orpo"], weights["lambda"]) > 100 * TOLERANCE


@pytest.mark.parametrize(("n", "batch", "micro"), [(4, 4, 1), (6, 4, 2), (5, 6, 3)])
def test_every_pair_of_a_step_counts_the_same(
    specs: dict[str, ModelSpec], alignment: Alignment, n: int, batch: int, micro: int, tmp_path: Path
):
    spec = specs["chatml"]
    tokens = load_tokens(spec)
    pairs = make_pairs(spec, tokens, n)
    training = replace(alignment.training, batch_size=batch, micro_batch_size=micro)
    train(spec, pairs, replace(alignment, training=training), tmp_path)
    order = list(SeedableRandomSampler(range(n), data_seed=training.seed))
    steps = [[pairs[index] for index in order[start : start + batch]] for start in range(0, n, batch)]
    expected = train_by_hand(spec, tokens, steps, training, loss=loss_of(alignment))
    assert largest_difference(read_weights(tmp_path / "output"), expected) < TOLERANCE


def test_padded_batches_give_the_weights_of_packs(
    specs: dict[str, ModelSpec], alignment: Alignment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    spec = specs["chatml"]
    pairs = make_pairs(spec, load_tokens(spec))
    train(spec, pairs, alignment, tmp_path / "packed")
    monkeypatch.setattr(trl_trainer, "share_prompts", lambda model, training: "a test wants it so")
    train(spec, pairs, alignment, tmp_path / "padded")
    packed, padded = (read_weights(tmp_path / name / "output") for name in ("packed", "padded"))
    assert largest_difference(packed, padded) < TOLERANCE


def test_the_journals_preference_terms_are_those_of_trls_trainers(
    specs: dict[str, ModelSpec], alignment: Alignment, tmp_path: Path
):
    """TRL's get_batch_logps and losses over one padded batch of our ids; TRL's NLL is another (docs/align.md)."""
    from trl.experimental.cpo import CPOTrainer
    from trl.experimental.orpo import ORPOTrainer

    spec = specs["llama3"]
    tokens = load_tokens(spec)
    pairs = make_pairs(spec, tokens)
    rows = [(pair.instruction, pair.chosen) for pair in pairs] + [(pair.instruction, pair.rejected) for pair in pairs]
    ids = [(list(tokens.prompt_ids(text)), list(tokens.response_ids(side))) for text, side in rows]
    width = max(len(prompt) + len(response) for prompt, response in ids)
    pad = tokens.pad_id
    inputs = torch.tensor([p + r + [pad] * (width - len(p) - len(r)) for p, r in ids])
    mask = torch.tensor([[1] * (len(p) + len(r)) + [0] * (width - len(p) - len(r)) for p, r in ids])
    labels = torch.tensor([[-100] * len(p) + r + [-100] * (width - len(p) - len(r)) for p, r in ids])
    logits = load_model(spec)(input_ids=inputs, attention_mask=mask).logits
    train(spec, pairs, alignment, tmp_path)
    (line,) = read_journal(tmp_path / "metrics.jsonl")
    read: Any = SimpleNamespace(
        accelerator=SimpleNamespace(device=torch.device("cpu")), alpha=0.0, label_smoothing=0.0, loss_type="simpo",
        beta=alignment.training.beta if alignment.method == "simpo" else 1.0, simpo_gamma=alignment.gamma,
    )  # fmt: skip
    per_token: Any = CPOTrainer.get_batch_logps(logits, labels, average_log_prob=True)  # pyright: ignore
    chosen, rejected = per_token.chunk(2)
    if alignment.method == "simpo":
        theirs = CPOTrainer.cpo_loss(read, chosen, rejected)[0].mean().item()
    else:
        theirs = -ORPOTrainer.odds_ratio_loss(read, chosen, rejected)[0].mean().item()
    assert line[f"{alignment.method}_loss"] == pytest.approx(theirs, rel=1e-4)
    assert line["logps_per_token/chosen"] == pytest.approx(chosen.mean().item(), rel=1e-4)
    assert line["rewards/accuracies"] == (chosen > rejected).float().mean().item()

"""KTO with TRL's trainer on our ids against a plain loop of AdamW steps over transformers' logits."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.support.families import FAMILIES, make_family
from tests.support.training import (
    TRAINING,
    largest_difference,
    make_pairs,
    pair_logprob,
    read_journal,
    read_tensors,
    read_weights,
    train_by_hand,
)
from torch import Tensor
from transformers import PreTrainedModel

from crossward.core.records import Response
from crossward.engines.hf_scorer import HfScorer
from crossward.engines.models import load_model
from crossward.engines.protocols import Alignment, Judged, Lora, ModelSpec, Training, TrainingAnswer
from crossward.engines.tokens import ChatTokens, load_tokens
from crossward.engines.trl_align import AlignTrainer

TOLERANCE = 1e-6
KTO = Alignment(method="kto", training=replace(TRAINING, nll_weight=0.0), desirable_weight=1.3, undesirable_weight=0.7)


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelSpec]:
    folders = {name: make_family(name, tmp_path_factory.mktemp(name)) for name in FAMILIES}
    return {name: ModelSpec(path=str(folder), dtype="float32", device="cpu") for name, folder in folders.items()}


def make_answers(spec: ModelSpec, tokens: ChatTokens, n: int = 4, *, shift: float = 0.0) -> list[TrainingAnswer]:
    """`n` answers of alternating verdict; log π_ref is the model's own, moved by up to `shift` nats."""
    pairs = make_pairs(spec, tokens, 6)
    texts = [(pair.instruction, pair.chosen if place % 2 else pair.rejected) for place, pair in enumerate(pairs)][:n]
    judged = [Judged(instruction=text, responses=(own, texts[place - 1][1])) for place, (text, own) in enumerate(texts)]
    scores = HfScorer(spec, tokens).score(judged)
    found = []
    for place, (group, (own, other)) in enumerate(zip(judged, scores, strict=True)):
        assert own is not None
        assert other is not None
        found.append(
            TrainingAnswer(
                instruction=group.instruction,
                response=group.responses[0],
                desirable=place % 2 == 1,
                mismatched=group.responses[1],
                reference_logprob=own.logprob + shift * (place - 1),
                mismatched_reference_logprob=other.logprob - shift / (place + 1),
            )
        )
    return found


def loss_of_micro_batches(size: int):
    """Equation 7 of the KTO paper, one answer at a time; z_0 is of each micro-batch, the mean over the step's rows."""

    def log_ratio(
        model: PreTrainedModel, tokens: ChatTokens, text: str, response: Response, reference: float
    ) -> Tensor:
        return pair_logprob(model, tokens.prompt_ids(text), tokens.response_ids(response)) - reference

    def loss(
        model: PreTrainedModel, tokens: ChatTokens, answers: Sequence[TrainingAnswer], training: Training
    ) -> Tensor:
        terms = []
        for start in range(0, len(answers), size):
            micro = answers[start : start + size]
            moved = [
                log_ratio(model, tokens, a.instruction, a.mismatched, a.mismatched_reference_logprob).item()
                for a in micro
            ]
            z = max(0.0, sum(moved) / len(moved))
            for a in micro:
                ratio = log_ratio(model, tokens, a.instruction, a.response, a.reference_logprob)
                value = torch.sigmoid(training.beta * ((ratio - z) if a.desirable else (z - ratio)))
                terms.append((KTO.desirable_weight if a.desirable else KTO.undesirable_weight) * (1 - value))
        return torch.stack(terms).mean()

    return loss


def train(
    spec: ModelSpec, answers: Sequence[TrainingAnswer], folder: Path, alignment: Alignment = KTO
) -> dict[str, float]:
    trainer = AlignTrainer(spec, load_tokens(spec), alignment)
    return trainer.train_answers(answers, output=folder / "output", metrics=folder / "metrics.jsonl")


@pytest.mark.parametrize("family", FAMILIES)
def test_one_step_equals_a_step_by_hand(specs: dict[str, ModelSpec], family: str, tmp_path: Path):
    spec = specs[family]
    tokens = load_tokens(spec)
    answers = make_answers(spec, tokens, shift=3.0)
    train(spec, answers, tmp_path)
    trained, loss = read_weights(tmp_path / "output"), loss_of_micro_batches(4)
    assert largest_difference(trained, read_weights(Path(spec.path))) > KTO.training.learning_rate / 2
    assert largest_difference(trained, train_by_hand(spec, tokens, [answers], KTO.training, loss=loss)) < TOLERANCE  # pyright: ignore
    (line,) = read_journal(tmp_path / "metrics.jsonl")
    assert line["kl"] > 0
    assert line["loss"] == pytest.approx(loss(load_model(spec), tokens, answers, KTO.training).item(), rel=1e-4)


@pytest.mark.parametrize(("n", "batch", "micro"), [(6, 6, 2), (6, 4, 2), (5, 4, 2), (5, 6, 3)])
def test_every_answer_of_a_step_counts_the_same_and_they_come_in_order(
    specs: dict[str, ModelSpec], n: int, batch: int, micro: int, tmp_path: Path
):
    spec = specs["chatml"]
    tokens = load_tokens(spec)
    answers = make_answers(spec, tokens, n, shift=2.0)
    training = replace(KTO.training, batch_size=batch, micro_batch_size=micro, epochs=2)
    result = train(spec, answers, tmp_path, replace(KTO, training=training))
    steps = [answers[start : start + batch] for start in range(0, n, batch)] * 2
    assert result["steps"] == len(steps)
    expected = train_by_hand(spec, tokens, steps, training, loss=loss_of_micro_batches(micro))  # pyright: ignore
    assert largest_difference(read_weights(tmp_path / "output"), expected) < 3 * TOLERANCE


def test_where_policy_and_reference_are_one_the_loss_is_half_the_weights(specs: dict[str, ModelSpec], tmp_path: Path):
    spec = specs["gemma"]
    train(spec, make_answers(spec, load_tokens(spec)), tmp_path)
    (line,) = read_journal(tmp_path / "metrics.jsonl")
    assert line["loss"] == pytest.approx((KTO.desirable_weight + KTO.undesirable_weight) / 4, abs=1e-4)
    assert line["rewards/chosen"] == pytest.approx(0.0, abs=1e-4)


def test_an_adapter_is_trained_alone_and_its_reference_is_the_given_one(specs: dict[str, ModelSpec], tmp_path: Path):
    spec = specs["chatml"]
    training = replace(KTO.training, lora=Lora(rank=4, alpha=8.0))
    answers = make_answers(spec, load_tokens(spec), shift=3.0)
    train(spec, answers, tmp_path, replace(KTO, training=training))
    assert all("lora" in name for name in read_tensors(tmp_path / "output"))
    (line,) = read_journal(tmp_path / "metrics.jsonl")
    by_hand = loss_of_micro_batches(4)(load_model(spec), load_tokens(spec), answers, training).item()
    assert line["loss"] == pytest.approx(by_hand, rel=1e-4)

"""The trainer against a plain loop of AdamW steps: every weight, whatever the family, micro-batch or last step."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.data_loader import SeedableRandomSampler
from tests.support.families import FAMILIES, make_family
from tests.support.training import (
    TRAINING,
    largest_difference,
    make_pairs,
    read_journal,
    read_weights,
    step_loss,
    token_mean_step_loss,
    train,
    train_by_hand,
)

from crossward.engines import trl_pairs, trl_trainer
from crossward.engines.models import load_model
from crossward.engines.protocols import ModelSpec, Training
from crossward.engines.tokens import load_tokens

TOLERANCE = 1e-6  # measured: 1e-7 at weights around 1, which is their last bit


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelSpec]:
    folders = {name: make_family(name, tmp_path_factory.mktemp(name)) for name in FAMILIES}
    return {name: ModelSpec(path=str(folder), dtype="float32", device="cpu") for name, folder in folders.items()}


@pytest.fixture(scope="module")
def chatml(specs: dict[str, ModelSpec]) -> ModelSpec:
    return specs["chatml"]


def shuffled(n: int, training: Training) -> list[int]:
    """The order in which the first epoch of a training sees its pairs."""
    return list(SeedableRandomSampler(range(n), data_seed=training.seed))


@pytest.mark.parametrize("family", FAMILIES)
def test_one_step_equals_a_step_by_hand(specs: dict[str, ModelSpec], family, tmp_path: Path):
    """At warmup_ratio 0 the first step is taken at the full learning rate: the hand takes it so."""
    spec = specs[family]
    tokens = load_tokens(spec)
    pairs = make_pairs(spec, tokens, shift=3.0)
    train(spec, pairs, TRAINING, tmp_path)
    trained = read_weights(tmp_path / "output")
    assert largest_difference(trained, read_weights(Path(spec.path))) > TRAINING.learning_rate / 2
    assert largest_difference(trained, train_by_hand(spec, tokens, [pairs], TRAINING)) < TOLERANCE


def test_pairs_are_packed_and_where_packs_do_not_fit_padded(
    chatml: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The same weights either way; each prompt goes through once in packs."""
    tokens = load_tokens(chatml)
    pairs = make_pairs(chatml, tokens, shift=3.0)
    seen: list[int] = []
    real = trl_pairs.pack_logprobs
    monkeypatch.setattr(trl_pairs, "pack_logprobs", lambda model, packed: seen.append(1) or real(model, packed))
    train(chatml, pairs, replace(TRAINING, micro_batch_size=2), tmp_path / "packed")
    assert len(seen) == 2
    monkeypatch.setattr(trl_trainer, "share_prompts", lambda model, training: "a test wants it so")
    train(chatml, pairs, replace(TRAINING, micro_batch_size=2), tmp_path / "padded")
    assert len(seen) == 2
    packed, padded = (read_weights(tmp_path / name / "output") for name in ("packed", "padded"))
    assert largest_difference(packed, padded) < TOLERANCE


@pytest.mark.parametrize("max_grad_norm", [1e-6, 1e-5])
def test_four_steps_with_clipping_and_weight_decay_equal_the_hand(chatml: ModelSpec, max_grad_norm, tmp_path: Path):
    tokens = load_tokens(chatml)
    pairs = make_pairs(chatml, tokens, shift=3.0)
    training = replace(TRAINING, epochs=4, max_grad_norm=max_grad_norm, weight_decay=0.1)
    train(chatml, pairs, training, tmp_path)
    trained = read_weights(tmp_path / "output")
    assert largest_difference(trained, train_by_hand(chatml, tokens, [pairs] * 4, training)) < 3 * TOLERANCE
    for other in (replace(training, max_grad_norm=max_grad_norm / 2), replace(training, weight_decay=0.0)):
        assert largest_difference(trained, train_by_hand(chatml, tokens, [pairs] * 4, other)) > 100 * TOLERANCE


def test_loss_and_gradient_norm_are_those_of_the_hand_before_clipping(chatml: ModelSpec, tmp_path: Path):
    """Adam and clipping forget a constant factor on the loss; the journal does not."""
    tokens = load_tokens(chatml)
    pairs = make_pairs(chatml, tokens, n=3, shift=3.0)
    model = load_model(chatml).requires_grad_(True)
    loss = step_loss(model, tokens, pairs, TRAINING)
    loss.backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    norm = torch.cat([gradient.flatten() for gradient in gradients]).norm().item()
    for micro in (1, 2, 4):
        train(chatml, pairs, replace(TRAINING, micro_batch_size=micro), tmp_path / str(micro))
        (line,) = read_journal(tmp_path / str(micro) / "metrics.jsonl")
        assert line["loss"] == pytest.approx(loss.item(), rel=1e-4)
        assert line["grad_norm"] == pytest.approx(norm, rel=1e-4)
        assert line["learning_rate"] == TRAINING.learning_rate
        assert line["dpo_loss"] + TRAINING.nll_weight * line["nll_loss"] == pytest.approx(loss.item(), rel=1e-4)


def test_learning_rate_schedules(chatml: ModelSpec, tmp_path: Path):
    """Without warm-up the first step has the full rate; with it the first step has rate 0, and then it rises."""
    tokens = load_tokens(chatml)
    pairs = make_pairs(chatml, tokens, shift=3.0)
    full = TRAINING.learning_rate
    cases = {
        "linear": (0.0, [full, full * 3 / 4, full / 2, full / 4]),
        "cosine": (0.0, [full * (1 + math.cos(math.pi * step / 4)) / 2 for step in range(4)]),
        "constant": (0.5, [0.0, full / 2, full, full]),
    }
    for scheduler, (warmup_ratio, rates) in cases.items():
        training = replace(TRAINING, epochs=4, scheduler=scheduler, warmup_ratio=warmup_ratio)
        train(chatml, pairs, training, tmp_path / scheduler)
        expected = train_by_hand(chatml, tokens, [pairs] * 4, training, rates=rates)
        assert largest_difference(read_weights(tmp_path / scheduler / "output"), expected) < 3 * TOLERANCE, scheduler
        journal = read_journal(tmp_path / scheduler / "metrics.jsonl")
        assert [line["learning_rate"] for line in journal] == pytest.approx(rates, abs=1e-9)


@pytest.mark.parametrize(("max_steps", "steps"), [(3, 3), (9, 4)])
def test_no_more_than_max_steps_and_the_schedule_spans_them(
    chatml: ModelSpec, max_steps: int, steps: int, tmp_path: Path
):
    pairs = make_pairs(chatml, load_tokens(chatml), shift=3.0)
    training = replace(TRAINING, epochs=4, scheduler="linear", warmup_ratio=0.0, max_steps=max_steps)
    assert training.steps(len(pairs)) == steps
    train(chatml, pairs, training, tmp_path)
    rates = [line["learning_rate"] for line in read_journal(tmp_path / "metrics.jsonl")]
    assert rates == pytest.approx([TRAINING.learning_rate * (1 - step / steps) for step in range(steps)], abs=1e-9)


def test_a_short_training_is_not_spent_on_its_warm_up(chatml: ModelSpec, tmp_path: Path):
    pairs = make_pairs(chatml, load_tokens(chatml), shift=3.0)
    training = replace(TRAINING, epochs=1, warmup_ratio=0.1)
    assert training.steps(len(pairs)) == 1
    train(chatml, pairs, training, tmp_path)
    (line,) = read_journal(tmp_path / "metrics.jsonl")
    assert line["learning_rate"] == TRAINING.learning_rate


def test_micro_batches_do_not_change_the_weights_and_the_nll_is_no_token_mean(chatml: ModelSpec, tmp_path: Path):
    tokens = load_tokens(chatml)
    pairs = make_pairs(chatml, tokens, shift=3.0)
    lengths = sorted(len(tokens.response_ids(pair.chosen)) for pair in pairs)
    assert lengths[-1] > 4 * lengths[0]
    expected = train_by_hand(chatml, tokens, [pairs] * 2, TRAINING)
    token_mean = train_by_hand(chatml, tokens, [pairs] * 2, TRAINING, loss=token_mean_step_loss)
    for micro in (1, 2, 4):
        train(chatml, pairs, replace(TRAINING, epochs=2, micro_batch_size=micro), tmp_path / str(micro))
        trained = read_weights(tmp_path / str(micro) / "output")
        assert largest_difference(trained, expected) < TOLERANCE, micro
        assert largest_difference(trained, token_mean) > 1000 * TOLERANCE, micro


def test_the_nll_is_a_token_mean_where_that_is_asked_for(chatml: ModelSpec, tmp_path: Path):
    tokens = load_tokens(chatml)
    pairs = make_pairs(chatml, tokens, shift=3.0)
    expected = train_by_hand(chatml, tokens, [pairs] * 2, TRAINING, loss=token_mean_step_loss)
    training = replace(TRAINING, epochs=2, nll_normalisation="tokens", micro_batch_size=TRAINING.batch_size)
    train(chatml, pairs, training, tmp_path)
    assert largest_difference(read_weights(tmp_path / "output"), expected) < TOLERANCE


@pytest.mark.parametrize(("n", "batch", "micro"), [(6, 4, 1), (6, 4, 2), (6, 4, 4), (3, 4, 2), (5, 6, 3), (5, 4, 2)])
def test_every_pair_of_a_step_counts_the_same(chatml: ModelSpec, n, batch, micro, tmp_path: Path):
    """The last step holds fewer pairs, and its last micro-batch fewer still; the journal's means are over pairs too."""
    tokens = load_tokens(chatml)
    pairs = make_pairs(chatml, tokens, n, shift=3.0)
    training = replace(TRAINING, batch_size=batch, micro_batch_size=micro)
    result = train(chatml, pairs, training, tmp_path)
    order = shuffled(n, training)
    steps = [[pairs[index] for index in order[start : start + batch]] for start in range(0, n, batch)]
    assert result["steps"] == len(steps)
    expected = train_by_hand(chatml, tokens, steps, training)
    assert largest_difference(read_weights(tmp_path / "output"), expected) < TOLERANCE
    for line in read_journal(tmp_path / "metrics.jsonl"):
        assert line["dpo_loss"] + training.nll_weight * line["nll_loss"] == pytest.approx(line["loss"], rel=1e-4)


def test_a_second_epoch_shares_out_its_last_step_as_well(chatml: ModelSpec, tmp_path: Path):
    tokens = load_tokens(chatml)
    pairs = make_pairs(chatml, tokens, n=5, shift=3.0)
    for micro in (1, 2, 4):
        training = replace(TRAINING, epochs=2, micro_batch_size=micro)
        assert train(chatml, pairs, training, tmp_path / str(micro))["steps"] == 4
    one, two, four = (read_weights(tmp_path / str(micro) / "output") for micro in (1, 2, 4))
    assert largest_difference(one, two) < TOLERANCE
    assert largest_difference(one, four) < TOLERANCE


def test_gradient_checkpointing_changes_nothing(chatml: ModelSpec, tmp_path: Path):
    pairs = make_pairs(chatml, load_tokens(chatml), shift=3.0)
    for name, training in {"with": replace(TRAINING, gradient_checkpointing=True), "without": TRAINING}.items():
        train(chatml, pairs, training, tmp_path / name)
    one, two = (read_weights(tmp_path / name / "output") for name in ("with", "without"))
    assert largest_difference(one, two) < TOLERANCE

"""The trainer: the same weights as a plain loop of AdamW steps, whatever the micro-batch; what it leaves out and saves.

Several steps per case: Adam's first step hardly feels the gradient's size, so one alone would not show clipping.
"""

import math
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
    read_journal,
    read_weights,
    token_mean_step_loss,
    train_by_hand,
)
from transformers import GenerationConfig

from crossward.core.records import Response
from crossward.engines.models import load_model
from crossward.engines.protocols import ModelSpec, Training, TrainingPair
from crossward.engines.tokens import compare_tokens, load_tokens
from crossward.engines.trl_trainer import TrlTrainer, _rows


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelSpec]:
    folders = {name: make_family(name, tmp_path_factory.mktemp(name)) for name in FAMILIES}
    return {name: ModelSpec(path=str(folder), dtype="float32", device="cpu") for name, folder in folders.items()}


@pytest.fixture(scope="module")
def chatml(specs: dict[str, ModelSpec]) -> ModelSpec:
    return specs["chatml"]


def train(spec: ModelSpec, pairs: Sequence[TrainingPair], training: Training, folder: Path) -> dict[str, float]:
    """Checkpoint in folder/output, journal in folder/metrics.jsonl."""
    trainer = TrlTrainer(spec, load_tokens(spec))
    return trainer.train(pairs, training, output=folder / "output", metrics=folder / "metrics.jsonl")


@pytest.mark.parametrize("family", FAMILIES)
def test_one_step_equals_a_step_by_hand(specs: dict[str, ModelSpec], family, tmp_path: Path):
    spec = specs[family]
    tokens = load_tokens(spec)
    pairs = make_pairs(spec, tokens, shift=3.0)
    train(spec, pairs, TRAINING, tmp_path)
    expected = train_by_hand(spec, tokens, [pairs], TRAINING)
    trained = read_weights(tmp_path / "output")
    start = read_weights(Path(spec.path))
    # warmup_ratio 0: the first step is taken at the full rate, and Adam's first step moves a weight by about that.
    assert largest_difference(trained, start) == pytest.approx(TRAINING.learning_rate, rel=0.01)
    assert largest_difference(trained, expected) < 1e-6


@pytest.mark.parametrize("max_grad_norm", [1000.0, 1.0, 1e-6])
def test_four_steps_with_clipping_and_weight_decay_equal_the_hand(chatml: ModelSpec, max_grad_norm, tmp_path: Path):
    """At a norm of 1e-6 most gradients are smaller than Adam's epsilon: the size after clipping shows."""
    tokens = load_tokens(chatml)
    pairs = make_pairs(chatml, tokens, shift=3.0)
    training = replace(TRAINING, epochs=4, max_grad_norm=max_grad_norm, weight_decay=0.1)
    train(chatml, pairs, training, tmp_path)
    trained = read_weights(tmp_path / "output")
    assert largest_difference(trained, train_by_hand(chatml, tokens, [pairs] * 4, training)) < 3e-6
    for other in (replace(training, max_grad_norm=max_grad_norm / 10), replace(training, weight_decay=0.0)):
        if max_grad_norm != 1000.0 or other.weight_decay == 0.0:
            assert largest_difference(trained, train_by_hand(chatml, tokens, [pairs] * 4, other)) > 3e-5


def test_learning_rate_schedules(chatml: ModelSpec, tmp_path: Path):
    """Without warm-up the first step has the full rate; with it the first step has rate 0, then it rises."""
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
        assert largest_difference(read_weights(tmp_path / scheduler / "output"), expected) < 3e-6, scheduler


def test_micro_batches_do_not_change_the_weights(chatml: ModelSpec, tmp_path: Path):
    tokens = load_tokens(chatml)
    pairs = make_pairs(chatml, tokens, shift=3.0)
    lengths = sorted(len(tokens.response_ids(pair.chosen)) for pair in pairs)
    assert lengths[-1] > 5 * lengths[0]
    expected = train_by_hand(chatml, tokens, [pairs] * 2, TRAINING)
    token_mean = train_by_hand(chatml, tokens, [pairs] * 2, TRAINING, loss=token_mean_step_loss)
    assert largest_difference(expected, token_mean) > 5e-4
    for micro in (1, 2, 4):
        train(chatml, pairs, replace(TRAINING, epochs=2, micro_batch_size=micro), tmp_path / str(micro))
        trained = read_weights(tmp_path / str(micro) / "output")
        assert largest_difference(trained, expected) < 2e-6, micro
        assert largest_difference(trained, token_mean) > 5e-4, micro


@pytest.mark.parametrize(("n", "batch", "micro"), [(6, 4, 1), (6, 4, 2), (6, 4, 4), (3, 4, 2), (5, 6, 3), (5, 4, 2)])
def test_every_pair_of_a_step_counts_the_same(chatml: ModelSpec, n, batch, micro, tmp_path: Path):
    """The last step holds fewer pairs, and its last micro-batch fewer still; the journal's means are over pairs too."""
    tokens = load_tokens(chatml)
    pairs = make_pairs(chatml, tokens, n, shift=3.0)
    training = replace(TRAINING, batch_size=batch, micro_batch_size=micro)
    result = train(chatml, pairs, training, tmp_path)
    order = shuffled(n, training)
    steps = [[pairs[index] for index in order[start : start + batch]] for start in range(0, n, batch)]
    trained = read_weights(tmp_path / "output")
    assert result["steps"] == len(steps)
    assert largest_difference(trained, train_by_hand(chatml, tokens, steps, training)) < 2e-6


def shuffled(n: int, training: Training) -> list[int]:
    """The order in which the first epoch of a training sees its pairs."""
    from accelerate.data_loader import SeedableRandomSampler

    return list(SeedableRandomSampler(range(n), data_seed=training.seed))

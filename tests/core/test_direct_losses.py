"""KTO, SimPO and ORPO by hand arithmetic, against TRL's own functions, and by what must hold for any numbers."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from crossward.core.direct_losses import kto_divergence, kto_loss, odds_ratio_loss, simpo_loss

CHOSEN, REJECTED = torch.tensor([-4.0, -30.0, -0.5]), torch.tensor([-9.0, -12.0, -90.0])
N_CHOSEN, N_REJECTED = torch.tensor([2, 10, 5]), torch.tensor([3, 4, 60])
PER_TOKEN = ((-2.0, -3.0), (-3.0, -3.0), (-0.1, -1.5))
logprobs = st.floats(min_value=-400.0, max_value=-0.01)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_simpo_by_hand():
    """β 2, γ 1: margins 2·(−2 + 3) − 1 = 1, 2·0 − 1 = −1, 2·(−0.1 + 1.5) − 1 = 1.8."""
    found = simpo_loss(CHOSEN, REJECTED, N_CHOSEN, N_REJECTED, beta=2.0, gamma=1.0)
    assert found.tolist() == pytest.approx([-math.log(sigmoid(x)) for x in (1.0, -1.0, 1.8)], rel=1e-5)


def test_odds_ratio_by_hand():
    """With p the mean probability of a token, odds p/(1 − p)."""
    expected = []
    for better, worse in PER_TOKEN:
        odds = [math.exp(x) / (1 - math.exp(x)) for x in (better, worse)]
        expected.append(-math.log(sigmoid(math.log(odds[0] / odds[1]))))
    assert odds_ratio_loss(CHOSEN, REJECTED, N_CHOSEN, N_REJECTED).tolist() == pytest.approx(expected, rel=1e-5)


def test_kto_by_hand():
    """β ½, z_0 = 1, λ 3 and 2: r − z_0 is 2, −2, 2 and −2."""
    found = kto_loss(
        torch.tensor([3.0, -1.0, 3.0, -1.0]),
        torch.tensor([True, True, False, False]),
        torch.tensor(1.0),
        beta=0.5,
        desirable_weight=3.0,
        undesirable_weight=2.0,
    )
    low, high = 1 - sigmoid(1.0), 1 - sigmoid(-1.0)
    assert found.tolist() == pytest.approx([3 * low, 3 * high, 2 * high, 2 * low], rel=1e-5)


def test_kto_divergence_is_a_mean_that_is_never_negative_and_takes_no_gradient():
    ratios = torch.tensor([1.0, 4.0, -2.0], requires_grad=True)
    assert kto_divergence(ratios).item() == 1.0
    assert kto_divergence(-ratios).item() == 0.0
    assert not kto_divergence(ratios).requires_grad


def _trl(**settings: Any) -> Any:
    """What TRL's loss functions read of their trainer."""
    device = SimpleNamespace(device=torch.device("cpu"))
    return SimpleNamespace(accelerator=device, alpha=0.0, label_smoothing=0.0, loss_type="simpo", **settings)


def _per_token() -> tuple[Tensor, Tensor]:
    return CHOSEN / N_CHOSEN, REJECTED / N_REJECTED


def test_simpo_and_the_odds_ratio_are_those_of_trl():
    from trl.experimental.cpo import CPOTrainer
    from trl.experimental.orpo import ORPOTrainer

    theirs, _, _ = CPOTrainer.cpo_loss(_trl(beta=2.5, simpo_gamma=0.7), *_per_token())  # pyright: ignore
    ours = simpo_loss(CHOSEN, REJECTED, N_CHOSEN, N_REJECTED, beta=2.5, gamma=0.7)
    assert ours.tolist() == pytest.approx(theirs.tolist(), rel=1e-5)

    negative, *_ = ORPOTrainer.odds_ratio_loss(_trl(beta=0.3), *_per_token())  # pyright: ignore
    ours = 0.3 * odds_ratio_loss(CHOSEN, REJECTED, N_CHOSEN, N_REJECTED)
    assert ours.tolist() == pytest.approx((-negative).tolist(), rel=1e-5)


@given(logprobs, logprobs, st.integers(1, 40), st.integers(1, 40))
def test_equal_means_give_log_two_and_exchanged_sides_the_opposite_margin(a: float, b: float, n: int, m: int):
    one, two = torch.tensor([a]).double(), torch.tensor([b]).double()
    count, other = torch.tensor([n]), torch.tensor([m])
    for loss in (
        lambda *x: simpo_loss(*x, beta=2.0, gamma=0.0),
        odds_ratio_loss,
    ):
        assert loss(one, one * m / n, count, other).item() == pytest.approx(math.log(2), rel=1e-6)
        forth, back = loss(one, two, count, other).item(), loss(two, one, other, count).item()
        # −log σ(x) and −log σ(−x) differ by x, and their exponentials' inverses add up to 1.
        assert math.exp(-forth) + math.exp(-back) == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("certain", [0.0, -1e-9, -1e-4])
def test_the_odds_of_a_nearly_certain_answer_stay_finite_with_their_gradient(certain: float):
    chosen = torch.tensor([certain, -5.0], requires_grad=True)
    rejected = torch.tensor([-3.0, certain], requires_grad=True)
    loss = odds_ratio_loss(chosen, rejected, torch.ones(2), torch.ones(2)).sum()
    loss.backward()
    assert math.isfinite(loss.item())
    for side in (chosen, rejected):
        assert side.grad is not None
        assert bool(side.grad.isfinite().all())


@given(st.floats(-300, 300), st.floats(0, 50), st.booleans())
def test_kto_lies_between_0_and_its_weight(ratio: float, divergence: float, desirable: bool):
    loss = kto_loss(
        torch.tensor([ratio]), torch.tensor([desirable]), torch.tensor(divergence), beta=0.3, desirable_weight=1.5
    ).item()
    assert 0.0 <= loss <= (1.5 if desirable else 1.0)

"""DPO and NLL: by hand, against the textbook formula in float64, and by their symmetries."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from crossward.core.losses import dpo_loss, dpo_nll_loss, nll_per_sequence


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def draw(n: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log-probabilities as responses of some tens of tokens have them."""
    drawn = -60 * torch.rand(4, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn[0], drawn[1], drawn[2], drawn[3]


def test_dpo_by_hand():
    # log-ratios: chosen -10 + 12 = 2, rejected -9 + 8 = -1; margin 3; at beta 0.5 the loss is log(1 + e^-1.5).
    loss = dpo_loss(column(-10), column(-9), column(-12), column(-8), beta=0.5)
    assert loss.tolist() == pytest.approx([math.log1p(math.exp(-1.5))], abs=1e-12)
    assert loss.item() == pytest.approx(0.201413, abs=1e-6)


@pytest.mark.parametrize("beta", [0.01, 0.1, 1.0])
def test_dpo_equals_the_textbook_formula(beta):
    chosen, rejected, reference_chosen, reference_rejected = draw(50, seed=0)
    log_ratios, reference_log_ratios = chosen - rejected, reference_chosen - reference_rejected
    expected = -logsigmoid(beta * (log_ratios - reference_log_ratios))
    loss = dpo_loss(chosen, rejected, reference_chosen, reference_rejected, beta=beta)
    assert loss.shape == (50,)
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)


def test_policy_equal_to_reference_gives_exactly_log_2():
    chosen, rejected, _, _ = (values.float() for values in draw(20, seed=1))
    loss = dpo_loss(chosen, rejected, chosen, rejected, beta=0.1)
    assert set(loss.tolist()) == {float(torch.tensor(2.0).log())}


def test_swapping_chosen_and_rejected_flips_the_margin():
    """L(-m) - L(m) = beta m: the swapped loss tells the margin with its sign turned."""
    chosen, rejected, reference_chosen, reference_rejected = draw(50, seed=2)
    beta = 0.3
    margin = (chosen - reference_chosen) - (rejected - reference_rejected)
    straight = dpo_loss(chosen, rejected, reference_chosen, reference_rejected, beta=beta)
    swapped = dpo_loss(rejected, chosen, reference_rejected, reference_chosen, beta=beta)
    torch.testing.assert_close(swapped - straight, beta * margin, rtol=0, atol=1e-10)
    assert ((straight < swapped) == (margin > 0)).all()


def test_gradient_pulls_chosen_up_and_rejected_down():
    """d loss / d log π(y+) = -beta σ(-beta margin), and its opposite for y- (DPO paper, section 4)."""
    chosen, rejected, reference_chosen, reference_rejected = draw(10, seed=3)
    chosen.requires_grad_()
    rejected.requires_grad_()
    dpo_loss(chosen, rejected, reference_chosen, reference_rejected, beta=0.2).sum().backward()
    margin = ((chosen - reference_chosen) - (rejected - reference_rejected)).detach()
    weight = 0.2 * torch.sigmoid(-0.2 * margin)
    assert chosen.grad is not None
    assert rejected.grad is not None
    torch.testing.assert_close(chosen.grad, -weight, rtol=0, atol=1e-12)
    torch.testing.assert_close(rejected.grad, weight, rtol=0, atol=1e-12)


def test_hopeless_margins_stay_finite():
    """Far out the loss is linear: -log σ(-1000) = 1000, where log(sigmoid) would be infinite."""
    loss = dpo_loss(column(-10000, 0), column(0, -10000), column(0, 0), column(0, 0), beta=0.1)
    assert loss.tolist() == pytest.approx([1000.0, 0.0], abs=1e-9)


def test_nll_is_a_mean_over_each_response_and_not_over_the_tokens():
    # 2 tokens at -4 nats in all, 8 tokens at -4: 2 and 0.5 nats per token.
    logprobs, lengths = column(-4, -4), torch.tensor([2, 8])
    assert nll_per_sequence(logprobs, lengths).tolist() == [2.0, 0.5]
    per_sequence = nll_per_sequence(logprobs, lengths).mean().item()
    per_token = (-logprobs.sum() / lengths.sum()).item()
    assert (per_sequence, per_token) == (1.25, 0.8)
    # Equal lengths: both are the same.
    equal = torch.tensor([4, 4])
    assert nll_per_sequence(logprobs, equal).mean().item() == (-logprobs.sum() / equal.sum()).item() == 1.0


def test_sum_of_both_by_hand():
    # margins 3 and 0, so DPO log(1 + e^-1.5) and log 2; NLL 10/5 = 2 and 6/3 = 2, the mean 2; weight 0.5 gives 1.
    loss = dpo_nll_loss(
        column(-10, -6), column(-9, -7), column(-12, -6), column(-8, -7), torch.tensor([5, 3]), beta=0.5, nll_weight=0.5
    )
    assert loss.shape == ()
    assert loss.item() == pytest.approx((math.log1p(math.exp(-1.5)) + math.log(2)) / 2 + 1.0, abs=1e-12)


def test_nll_counts_the_chosen_response_only():
    chosen, rejected, reference_chosen, reference_rejected = draw(6, seed=4)
    lengths = torch.tensor([1, 2, 3, 5, 8, 13])
    arguments = (chosen, rejected, reference_chosen, reference_rejected, lengths)
    without = dpo_nll_loss(*arguments, beta=0.1, nll_weight=0.0)
    assert without.item() == pytest.approx(dpo_loss(*arguments[:4], beta=0.1).mean().item(), abs=1e-12)
    by_hand = sum(-x / n for x, n in zip(chosen.tolist(), lengths.tolist(), strict=True)) / 6
    assert (dpo_nll_loss(*arguments, beta=0.1, nll_weight=2.0) - without).item() == pytest.approx(2 * by_hand, abs=1e-9)


def test_a_step_is_the_mean_of_its_pairs_however_it_is_split():
    chosen, rejected, reference_chosen, reference_rejected = draw(6, seed=5)
    columns = (chosen, rejected, reference_chosen, reference_rejected, torch.tensor([1, 40, 3, 5, 8, 13]))
    whole = dpo_nll_loss(*columns, beta=0.1, nll_weight=1.0)
    alone = [dpo_nll_loss(*(c[i : i + 1] for c in columns), beta=0.1, nll_weight=1.0).item() for i in range(6)]
    assert whole.item() == pytest.approx(sum(alone) / 6, abs=1e-12)

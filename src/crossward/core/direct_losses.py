"""KTO, SimPO and ORPO in plain torch, beside DPO (losses.py): the yardsticks for what makes π_0 from π_I.

Every function takes summed log-probabilities in nats and gives one loss a response or a pair; who trains takes the
mean. KTO reads a reference. SimPO and ORPO have none: there log π(y|x) is divided by the number of tokens instead.
"""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def kto_loss(
    log_ratio: "Tensor",
    desirable: "Tensor",
    divergence: "Tensor",
    *,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> "Tensor":
    """λ_D·(1 − σ(β(r − z_0))) where y is desirable, λ_U·(1 − σ(β(z_0 − r))) where it is not (arXiv 2402.01306, eq. 7).

    `log_ratio` is r = log π(y|x) − log π_ref(y|x) [rows], in nats; `desirable` is [rows], bool; `divergence` is z_0, a
    scalar of 0 or more (`kto_divergence`). β > 0, usually 0.01 to 0.1. Returns [rows], each between 0 and its weight.

    Where the policy is the reference, both halves are ½:

    >>> import torch
    >>> kto_loss(torch.zeros(2), torch.tensor([True, False]), torch.tensor(0.0), beta=0.1).tolist()
    [0.5, 0.5]
    """
    import torch

    margin = beta * (log_ratio - divergence)
    return torch.where(desirable, desirable_weight * torch.sigmoid(-margin), undesirable_weight * torch.sigmoid(margin))


def kto_divergence(mismatched_log_ratio: "Tensor") -> "Tensor":
    """z_0 ≈ max(0, mean of log π(y′|x) − log π_ref(y′|x)) over answers y′ to other prompts (arXiv 2402.01306, 4.1).

    `mismatched_log_ratio` is [rows]. The estimate is a constant: no gradient flows through it. A scalar, nats.
    """
    return mismatched_log_ratio.mean().clamp(min=0).detach()


def simpo_loss(
    chosen: "Tensor",
    rejected: "Tensor",
    n_chosen: "Tensor",
    n_rejected: "Tensor",
    *,
    beta: float,
    gamma: float,
) -> "Tensor":
    """−log σ(β·log π(y⁺|x)/|y⁺| − β·log π(y⁻|x)/|y⁻| − γ) (arXiv 2405.14734, equation 6).

    Each argument is [pairs]; `n_chosen` and `n_rejected` count tokens (at least 1). β is 2 to 10, γ is the margin in
    nats per token times β (published settings give γ/β, 0 to 1). Returns [pairs].

    Two answers as likely per token are γ short of the margin, whatever their lengths:

    >>> import torch
    >>> one, two = torch.tensor([1.0]), torch.tensor([2.0])
    >>> round(simpo_loss(-one, -two, one, two, beta=2.0, gamma=1.0).item(), 4)  # log(1 + e)
    1.3133
    """
    from torch.nn.functional import logsigmoid

    return -logsigmoid(beta * (chosen / n_chosen - rejected / n_rejected) - gamma)


def odds_ratio_loss(chosen: "Tensor", rejected: "Tensor", n_chosen: "Tensor", n_rejected: "Tensor") -> "Tensor":
    """−log σ(log(odds(y⁺|x) / odds(y⁻|x))), odds = p/(1 − p), p = exp(log π(y|x)/|y|) (arXiv 2403.07691, eq. 4 and 7).

    Each argument is [pairs], as in `simpo_loss`. ORPO trains NLL per sequence + λ times this. Returns [pairs].

    >>> import torch
    >>> half, fifth = torch.tensor([0.5]).log(), torch.tensor([0.2]).log()  # odds 1 and 1/4: −log(4/5)
    >>> round(odds_ratio_loss(half, fifth, torch.ones(1), torch.ones(1)).item(), 4)
    0.2231
    """
    from torch.nn.functional import logsigmoid

    better, worse = chosen / n_chosen, rejected / n_rejected
    return -logsigmoid((better - worse) - (_log1mexp(better) - _log1mexp(worse)))


def _log1mexp(x: "Tensor") -> "Tensor":
    """log(1 − eˣ) for x < 0; each branch where it does not cancel (Mächler 2012). A certain answer is held below 0.

    The branch that is not taken sees −log 2, so that it sends no infinite gradient.
    """
    import torch

    x = x.clamp(max=-1e-6)
    near = x > -math.log(2)
    safe = torch.full_like(x, -math.log(2))
    return torch.where(
        near, torch.log(-torch.expm1(torch.where(near, x, safe))), torch.log1p(-torch.exp(torch.where(near, safe, x)))
    )

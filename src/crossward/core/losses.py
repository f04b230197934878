"""DPO and NLL in plain torch: the yardstick for the trainer, and the loss that it computes.

L = mean over pairs of DPO(β) + w·NLL(chosen). The NLL is normalised per sequence, then averaged over the pairs, as
LLaMA-Factory's `pref_ftx` does and the paper's runs did; TRL's `sft` term is a token mean over the micro-batch instead,
which weighs long responses more and depends on the micro-batch.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def dpo_loss(
    policy_chosen: "Tensor",
    policy_rejected: "Tensor",
    reference_chosen: "Tensor",
    reference_rejected: "Tensor",
    *,
    beta: float,
) -> "Tensor":
    """−log σ(β[(log π(y⁺|x) − log π_ref(y⁺|x)) − (log π(y⁻|x) − log π_ref(y⁻|x))]) (DPO paper, equation 7).

    Each argument is [pairs]: summed log-probabilities in nats. β > 0, usually 0.01 to 0.5. Returns [pairs].

    Where the policy is the reference, the loss is log 2, whatever the responses:

    >>> import torch
    >>> chosen, rejected = torch.tensor([-1.0]), torch.tensor([-2.0])
    >>> round(dpo_loss(chosen, rejected, chosen, rejected, beta=0.1).item(), 4)
    0.6931
    """
    from torch.nn.functional import logsigmoid

    margin = (policy_chosen - reference_chosen) - (policy_rejected - reference_rejected)
    return -logsigmoid(beta * margin)


def nll_per_sequence(chosen_logprob: "Tensor", n_tokens: "Tensor") -> "Tensor":
    """−log π(y⁺|x) / |T(y⁺)|: the mean over one response's own tokens (nats per token).

    `chosen_logprob` is [pairs], summed; `n_tokens` is [pairs], the number of tokens summed (at least 1).
    """
    return -chosen_logprob / n_tokens


def nll_over_tokens(chosen_logprob: "Tensor", n_tokens: "Tensor") -> "Tensor":
    """−log π(y⁺|x) · pairs / Σ|T(y⁺)|: what each pair adds to the mean over all tokens of the batch (TRL's `sft`).

    Its mean over the pairs is −Σ log π / Σ|T|, in which long responses weigh more. Arguments as in `nll_per_sequence`.

    >>> import torch
    >>> nll_over_tokens(torch.tensor([-2.0, -6.0]), torch.tensor([1, 3])).mean().item()  # 8 nats over 4 tokens
    2.0
    """
    return -chosen_logprob * len(chosen_logprob) / n_tokens.sum()


def dpo_nll_loss(
    policy_chosen: "Tensor",
    policy_rejected: "Tensor",
    reference_chosen: "Tensor",
    reference_rejected: "Tensor",
    n_chosen_tokens: "Tensor",
    *,
    beta: float,
    nll_weight: float,
) -> "Tensor":
    """The loss that is trained: the mean over pairs of DPO + nll_weight·NLL (paper, section 3.4). A scalar."""
    preference = dpo_loss(policy_chosen, policy_rejected, reference_chosen, reference_rejected, beta=beta)
    return (preference + nll_weight * nll_per_sequence(policy_chosen, n_chosen_tokens)).mean()

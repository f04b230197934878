"""SimPO and ORPO on the packs of trl_pairs.py: another loss over the same log-probabilities.

TRL's own trainers for them are experimental, tokenise text themselves, hold the logits of the whole vocabulary for
every token, and normalise over micro-batches (ORPO's NLL over the prompt's tokens too). Here the token ids are ours and
every pair of a step weighs the same; the preference terms are those of TRL (tests/engines/test_trl_direct.py).
"""

from typing import Any, Literal

import torch
from torch import Tensor

from crossward.core.direct_losses import odds_ratio_loss, simpo_loss
from crossward.core.losses import nll_per_sequence
from crossward.engines.step_batches import NAME
from crossward.engines.trl_pairs import PairTrainer, packed_sums, padded_sums


class DirectTrainer(PairTrainer):
    """L = SimPO(β, γ) + w·NLL, or L = NLL + λ·OR with λ = β. No reference is read."""

    method: Literal["simpo", "orpo"] = "simpo"
    gamma: float = 0.0

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False) -> Any:
        """One micro-batch's loss, scaled so that every pair of a step weighs the same."""
        packed = "layout" in inputs
        chosen, rejected, n_chosen = (packed_sums if packed else padded_sums)(model, inputs)
        if packed:
            n_rejected = torch.tensor(inputs["lengths"][1::2], device=chosen.device)
        else:
            n_rejected = inputs["completion_mask"].chunk(2)[1].sum(-1)
        nll = nll_per_sequence(chosen, n_chosen)
        match self.method:
            case "simpo":
                preference = simpo_loss(chosen, rejected, n_chosen, n_rejected, beta=self.beta, gamma=self.gamma)
                losses = preference + self.nll_weight * nll
            case "orpo":
                preference = odds_ratio_loss(chosen, rejected, n_chosen, n_rejected)
                losses = nll + self.beta * preference
        share = self._share(inputs[NAME])
        means = (chosen / n_chosen, rejected / n_rejected)
        self._note_means(*means, preference=preference, nll=nll, share=share)
        loss = losses.mean() * share
        return (loss, {}) if return_outputs else loss

    def _note_means(self, chosen: Tensor, rejected: Tensor, *, preference: Tensor, nll: Tensor, share: float) -> None:
        """Both terms apart, and log-probabilities per token (nats); `accuracies`: the chosen is likelier per token."""
        values = {
            f"{self.method}_loss": preference,
            "nll_loss": nll,
            "rewards/accuracies": (chosen > rejected).float(),
            "logps_per_token/chosen": chosen,
            "logps_per_token/rejected": rejected,
        }
        self._log_means(values, share)

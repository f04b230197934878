"""From hidden states to log-probabilities of given tokens: the output head, without a tokens x vocabulary tensor.

Logits become float32 before anything is summed. Without gradients the vocabulary is walked in blocks, with a running
maximum and sum, and the target's own logit is computed in float32: memory does not grow with the vocabulary, and in
bfloat16 the rounding of that logit is gone. Knows no sequences.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from crossward.engines.linears import product
from crossward.engines.models import text_config

CPU_BLOCK = (512, 1024)  # tokens x vocabulary: 2 MB of float32, which stays in a core's cache
CUDA_BLOCK = (4096, 16384)  # 256 MB: large enough to keep the card busy
LOG2E = 1.0 / math.log(2.0)  # powers of 2 take a third of the time of powers of e
LOGITS_BYTES = 2**28  # with gradients: more logits than this are computed again on the way back instead of kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The output head and what its family does to the logits afterwards."""

    module: nn.Module
    scale: float
    softcap: float | None

    def shape(self, logits: Tensor) -> Tensor:
        """Raw head outputs to logits, float32."""
        logits = logits.float()
        if self.scale != 1.0:
            logits = logits * self.scale
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)


def head_of(model: PreTrainedModel) -> Head:
    """The head of a causal model. Raises ValueError where there is none."""
    module = model.get_output_embeddings()
    if module is None:
        raise ValueError(f"model type {model.config.model_type} is no decoder with an output head: use a causal model")
    config = text_config(model.config)
    softcap = config.get("final_logit_softcapping")
    return Head(
        module=module,
        # Cohere multiplies its logits, Granite divides them, Falcon-H1 multiplies them under another name.
        scale=_number(config, "logit_scale")
        * _number(config, "lm_head_multiplier")
        / _number(config, "logits_scaling"),
        softcap=float(softcap) if isinstance(softcap, int | float) else None,
    )


def target_logprobs(head: Head, hidden: Tensor, targets: Tensor) -> Tensor:
    """log softmax of each target: hidden [tokens, hidden size], targets [tokens] -> float32 [tokens] (nats)."""
    if not torch.is_grad_enabled() and type(head.module) is nn.Linear:
        rows, width = CUDA_BLOCK if hidden.is_cuda else CPU_BLOCK
        portions = zip(hidden.split(rows), targets.split(rows), strict=True)
        return torch.cat([_by_vocabulary(head, head.module, *portion, width=width) for portion in portions])
    rows = max(1, LOGITS_BYTES // (4 * _vocabulary(head.module)))
    if len(targets) <= rows:
        return _whole(head, hidden, targets)
    whole = _again_on_the_way_back if torch.is_grad_enabled() else _whole
    portions = zip(hidden.split(rows), targets.split(rows), strict=True)
    return torch.cat([whole(head, *portion) for portion in portions])


def _by_vocabulary(head: Head, linear: nn.Linear, hidden: Tensor, targets: Tensor, *, width: int) -> Tensor:
    weight, bias = linear.weight, linear.bias
    own = (hidden.float() * weight[targets].float()).sum(-1)
    own = head.shape(own if bias is None else own + bias[targets].float())
    top = torch.full_like(own, -math.inf)  # the largest logit of all other tokens so far …
    total = torch.zeros_like(own)  # … and Σ exp(logit − top)
    for start in range(0, len(weight), width):
        part = slice(start, start + width)
        logits = head.shape(product(hidden, weight[part], None if bias is None else bias[part]))
        column = (targets - start).unsqueeze(1)
        inside = (column >= 0) & (column < logits.shape[1])
        column = column.clamp(0, logits.shape[1] - 1)
        logits.scatter_(1, column, logits.gather(1, column).masked_fill(inside, -math.inf))
        peak = torch.maximum(top, logits.amax(-1))
        # Where a block held nothing but the target, peak is still −∞: 0 keeps −∞ − −∞ from becoming NaN.
        shift = peak.masked_fill(peak == -math.inf, 0.0)
        total = total * (top - shift).exp() + logits.sub_(shift.unsqueeze(1)).mul_(LOG2E).exp2_().sum(-1)
        top = peak
    # log(e^own / (e^own + Σ others)) = −log(1 + e^(others − own)): never above 0. An infinite logit must not look sure.
    return own * 0.0 - functional.softplus(top + total.log() - own)


def _whole(head: Head, hidden: Tensor, targets: Tensor) -> Tensor:
    logits = head.shape(head.module(hidden))
    return logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)


def _again_on_the_way_back(head: Head, hidden: Tensor, targets: Tensor) -> Tensor:
    values = checkpoint(_whole, head, hidden, targets, use_reentrant=False)
    assert isinstance(values, Tensor)
    return values


def _vocabulary(module: nn.Module) -> int:
    """How many logits the head gives; a guess on the large side where its shape is unknown."""
    weight = getattr(module, "weight", None)
    return weight.shape[0] if isinstance(weight, Tensor) else 2**18


def _number(config: dict[str, object], key: str) -> float:
    value = config.get(key)
    return float(value) if isinstance(value, int | float) else 1.0

"""From hidden states to log-probabilities of given tokens: the output head, without a tokens x vocabulary tensor.

Logits become float32 before anything is summed. Without gradients the vocabulary is walked in blocks, with a running
maximum and sum, and the target's own logit is computed in float32: memory does not grow with the vocabulary, and in
bfloat16 the rounding of that logit is gone. Knows no sequences.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

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
        return _shaped(logits, self.scale, self.softcap)


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
    if torch.is_grad_enabled() and len(targets) > rows:
        return _again_on_the_way_back(head, hidden, targets, rows)
    portions = zip(hidden.split(rows), targets.split(rows), strict=True)
    return torch.cat([_whole(head, head.module, *portion) for portion in portions])


def _by_vocabulary(head: Head, linear: nn.Linear, hidden: Tensor, targets: Tensor, *, width: int) -> Tensor:
    weight, bias = linear.weight, linear.bias
    own = (hidden.float() * weight[targets].float()).sum(-1)
    own = head.shape(own if bias is None else own + bias[targets].float())
    top = torch.full_like(own, -math.inf)  # the largest logit of all other tokens so far …
    total = torch.zeros_like(own)  # … and Σ exp(logit − top)
    for start in range(0, len(weight), width):
        part = slice(start, start + width)
        raw = product(hidden, weight[part], None if bias is None else bias[part])
        column = (targets - start).unsqueeze(1)
        if raw.is_cuda:
            top, total = _fold_on_cuda(raw.device)(raw, column, top, total, head.scale, head.softcap)
        else:
            top, total = _fold_in_place(head.shape(raw), column, top, total)
    # log(e^own / (e^own + Σ others)) = −log(1 + e^(others − own)): never above 0. An infinite logit must not look sure.
    return own * 0.0 - functional.softplus(top + total.log() - own)


def _fold_in_place(logits: Tensor, column: Tensor, top: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    """Take a block of logits into the running maximum and sum, without those at `column`, the targets."""
    inside = (column >= 0) & (column < logits.shape[1])
    column = column.clamp(0, logits.shape[1] - 1)
    logits.scatter_(1, column, logits.gather(1, column).masked_fill(inside, -math.inf))
    peak = torch.maximum(top, logits.amax(-1))
    # Where a block held nothing but the target, peak is still −∞: 0 keeps −∞ − −∞ from becoming NaN.
    shift = peak.masked_fill(peak == -math.inf, 0.0)
    return peak, total * (top - shift).exp() + logits.sub_(shift.unsqueeze(1)).mul_(LOG2E).exp2_().sum(-1)


def _fold(
    raw: Tensor, column: Tensor, top: Tensor, total: Tensor, scale: float, softcap: float | None
) -> tuple[Tensor, Tensor]:
    """The same from the head's raw outputs, nothing in place: compiled, it reads each of them twice and writes none."""
    logits = _shaped(raw, scale, softcap)
    logits = torch.where(torch.arange(logits.shape[1], device=logits.device) == column, -math.inf, logits)
    peak = torch.maximum(top, logits.amax(-1))
    shift = torch.where(peak == -math.inf, 0.0, peak)
    return peak, total * (top - shift).exp() + (logits - shift.unsqueeze(1)).exp().sum(-1)


@cache
def _fold_on_cuda(device: torch.device) -> Callable[..., tuple[Tensor, Tensor]]:
    """_fold, compiled where that works: tried once, on a block of one row."""
    compiled = torch.compile(_fold, dynamic=True)
    row = torch.zeros(1, device=device)
    try:
        compiled(torch.zeros(1, 8, device=device, dtype=torch.bfloat16), row.long().unsqueeze(1), row, row, 1.0, None)
    except Exception:  # whatever a compiler may raise: eager gives the same numbers
        return _fold
    return compiled


def _whole(head: Head, project: Callable[[Tensor], Tensor], hidden: Tensor, targets: Tensor) -> Tensor:
    logits = head.shape(project(hidden))
    return logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)


def _again_on_the_way_back(head: Head, hidden: Tensor, targets: Tensor, rows: int) -> Tensor:
    """Portions of `rows`, all of them in one call of the head's module.

    What shards a model over processes gathers a module's weights before its call, and puts them away on the way back
    when that call's gradient is there: were each portion a call of its own, after the first of them.
    """
    module = head.module
    own, project = vars(module).get("forward"), module.forward

    def portions(hidden: Tensor) -> Tensor:
        parts = zip(hidden.split(rows), targets.split(rows), strict=True)
        return torch.cat([checkpoint(_whole, head, project, *part, use_reentrant=False) for part in parts])

    module.forward = portions
    try:
        return module(hidden)
    finally:
        if own is None:
            del module.forward  # the class has it
        else:
            module.forward = own


def _shaped(raw: Tensor, scale: float, softcap: float | None) -> Tensor:
    logits = raw.float()
    if scale != 1.0:
        logits = logits * scale
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)


def _vocabulary(module: nn.Module) -> int:
    """How many logits the head gives; a guess on the large side where its shape is unknown."""
    weight = getattr(module, "weight", None)
    return weight.shape[0] if isinstance(weight, Tensor) else 2**18


def _number(config: dict[str, object], key: str) -> float:
    value = config.get(key)
    return float(value) if isinstance(value, int | float) else 1.0

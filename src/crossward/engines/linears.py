"""Linear layers of a frozen float32 model on a CPU: by oneDNN, with weights that are laid out for it once.

torch multiplies float32 matrices by MKL. oneDNN, which it carries too, is a tenth quicker on the processors seen
(docs/results.md); the laid-out weights stand in place of the model's own, and a gated MLP needs half of its passes over
memory. The operators are those that torch's compiler uses; they are internal, so what is replaced is first compared
with what it replaces, and where an operator is missing or the numbers differ everything stays as it was.
"""

from collections import Counter
from collections.abc import Callable
from functools import cache, partial
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.activations import GELUTanh, SiLUActivation

Module = TypeVar("Module", bound=nn.Module)

# An activation as oneDNN knows it: its name and its algorithm.
Activation = tuple[str, str]
NONE: Activation = ("none", "")
ACTIVATIONS: dict[type[nn.Module], Activation] = {
    SiLUActivation: ("swish", ""),
    nn.SiLU: ("swish", ""),
    GELUTanh: ("gelu", "tanh"),
}


def lay_out_weights(model: PreTrainedModel) -> int:
    """Replace the linear layers of a frozen model by quicker ones with the same results; how many there were.

    The output head stays (heads.py reads its weights by rows), and so does a weight that several layers share.
    """
    if model.device.type != "cpu" or model.dtype != torch.float32 or not _available():
        return 0
    users = Counter(id(weight) for module in model.modules() for weight in module.parameters(recurse=False))
    head = model.get_output_embeddings()
    replaced = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and child is not head and users[id(child.weight)] == 1:
                quick = _checked(partial(_LaidOut, child), child, child.in_features)
                if quick is not None:
                    setattr(parent, name, quick)
                    replaced += 1
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            _fuse(parent, name, child)
    return replaced


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x · weightᵀ + bias for weights as the model holds them: x [..., n], weight [m, n], bias [m] -> [..., m]."""
    if x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_grad_enabled() and _available():
        return _pointwise(x, weight, bias, NONE)
    return functional.linear(x, weight, bias)


class _LaidOut(nn.Module):
    """nn.Linear without gradients; its weight is in oneDNN's own order of elements."""

    weight: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None)
        self.register_buffer("weight", weight, persistent=False)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        return _pointwise(x, self.weight, self.bias, NONE)


class _GatedMlp(nn.Module):
    """down(act(gate(x)) · up(x)): the activation inside the gate's product, and the second product in place.

    A new tensor for each would be out of the cache whenever it is touched.
    """

    def __init__(self, gate: _LaidOut, up: _LaidOut, down: _LaidOut, activation: Activation) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = gate, up, down
        self._activation = activation

    def forward(self, x: Tensor) -> Tensor:
        gate = _pointwise(x, self.gate_proj.weight, self.gate_proj.bias, self._activation)
        return self.down_proj(gate.mul_(self.up_proj(x)))


def _fuse(parent: nn.Module, name: str, mlp: nn.Module) -> None:
    """Replace a gated MLP whose layers are laid out, whatever its family calls it."""
    activation = ACTIVATIONS.get(type(getattr(mlp, "act_fn", mlp)))
    gate, up, down = (getattr(mlp, key, None) for key in ("gate_proj", "up_proj", "down_proj"))
    if activation is None or not (
        isinstance(gate, _LaidOut) and isinstance(up, _LaidOut) and isinstance(down, _LaidOut)
    ):
        return
    quick = _checked(partial(_GatedMlp, gate, up, down, activation), mlp, gate.in_features)
    if quick is not None:
        setattr(parent, name, quick)


def _checked(make: Callable[[], Module], old: nn.Module, in_features: int) -> Module | None:
    """What `make` makes; None where a few random rows do not give the old module's numbers."""
    rows = torch.randn(1, 4, in_features, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            quick = make()
            expected = old(rows)
            difference = float((expected - quick(rows)).abs().max())
            largest = float(expected.abs().max())
    except (RuntimeError, TypeError):  # another dtype, other arguments, more than one result: not what is known here
        return None
    # The same sums in another order: a few units in the last place of the largest one.
    return quick if difference <= 64 * torch.finfo(torch.float32).eps * largest else None


def _pointwise(x: Tensor, weight: Tensor, bias: Tensor | None, activation: Activation) -> Tensor:
    name, algorithm = activation
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, name, [], algorithm)


@cache
def _available() -> bool:
    names = ("_linear_pointwise", "_reorder_linear_weight")
    return torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in names)

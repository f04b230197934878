"""Attention over a pack: the three ways against one masked softmax in float64, and what is refused."""

import math

import pytest
import torch
from torch import Tensor, nn

from crossward.engines import shared_attention
from crossward.engines.packs import Layout, TokenGroup, pack
from crossward.engines.shared_attention import Unsupported, attend

MODULE = nn.Module()


def layout_of(*shapes: tuple[int, list[int]]) -> Layout:
    groups = [
        TokenGroup(prompt=(1,) * prompt, responses=tuple((2,) * n for n in responses)) for prompt, responses in shapes
    ]
    return pack(groups, torch.device("cpu")).layout


LAYOUTS = {
    "short": layout_of((5, [3, 4, 2]), (1, [2])),
    "long": layout_of((70, [200, 3, 150, 129, 30])),
    "prompts only": layout_of((9, [1, 0]), (4, [])),
}


def by_definition(q: Tensor, k: Tensor, v: Tensor, layout: Layout, softcap: float | None, window: int | None) -> Tensor:
    """Every score at once; a key is seen from its own response and, in a prompt, from the group's responses."""
    group, response, position = layout.owners
    order = torch.arange(layout.n_tokens)
    seen = (group[:, None] == group) & ((response[:, None] == response) | (response == 0)) & (order[:, None] >= order)
    if window is not None:
        seen &= position[:, None] - position < window
    k, v = (tensor.double().repeat_interleave(q.shape[1] // tensor.shape[1], dim=1) for tensor in (k, v))
    scores = q.double() @ k.transpose(-1, -2) * 0.3
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    return (scores.masked_fill(~seen, -math.inf).softmax(-1) @ v).transpose(1, 2)


def drawn(layout: Layout, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    n = layout.n_tokens
    return (
        (2 * torch.randn(1, 6, n, 16)).to(dtype),
        (2 * torch.randn(1, 2, n, 16)).to(dtype),
        torch.randn(1, 2, n, 24).to(dtype),
    )


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("window", [None, 20])
def test_three_ways_are_one(name, softcap, window):
    layout = LAYOUTS[name]
    q, k, v = drawn(layout)
    true = by_definition(q, k, v, layout, softcap, window)
    asked = {"layout": layout, "scaling": 0.3, "softcap": softcap, "sliding_window": window}
    with torch.no_grad():
        blocks, none = attend(MODULE, q, k, v, None, **asked)
    kept, _ = attend(MODULE, q, k.clone().requires_grad_(True), v, None, **asked)
    with torch.no_grad():
        flex = shared_attention._flex(q, k, v, layout, 0.3, softcap, window)
    assert none is None
    for found in (blocks, kept.detach(), flex):
        assert torch.allclose(found.double(), true, atol=1e-5)


@pytest.mark.parametrize("softcap", [None, 900.0])
@pytest.mark.parametrize("factor", [-30.0, 30.0])
def test_scores_whose_exponentials_leave_float32_are_weighed_alike(softcap, factor):
    layout = LAYOUTS["long"]
    q, k, v = drawn(layout)
    q, k = factor * q.abs(), k.abs()  # every score of one sign, hundreds of nats from 0
    true = by_definition(q, k, v, layout, softcap, None)
    with torch.no_grad():
        found, _ = attend(MODULE, q, k, v, None, layout=layout, scaling=0.3, softcap=softcap)
    assert torch.allclose(found.double(), true, atol=1e-3)


def test_a_score_that_is_no_number_stays_visible():
    q, k, v = drawn(LAYOUTS["short"])
    k[0, 0, 0] = math.nan
    with torch.no_grad():
        found, _ = attend(MODULE, q, k, v, None, layout=LAYOUTS["short"], scaling=0.3)
    assert bool(found[:, :11, :3].isnan().all())
    assert not bool(found[:, 11:].isnan().any())
    assert not bool(found[:, :, 3:].isnan().any())


def test_bfloat16_scores_are_not_rounded():
    """Only what goes in and comes out is: the error is that of one rounding of the values."""
    layout = LAYOUTS["long"]
    q, k, v = drawn(layout, torch.bfloat16)
    with torch.no_grad():
        found, _ = attend(MODULE, q, k, v, None, layout=layout, scaling=0.3)
    true = by_definition(q, k, v, layout, None, None)
    assert found.dtype == torch.bfloat16
    assert float((found.double() - true).abs().max()) < 0.02


def test_what_is_not_known_is_refused():
    layout = LAYOUTS["short"]
    q, k, v = drawn(layout)
    with pytest.raises(Unsupported, match="layout does not reach"):
        attend(MODULE, q, k, v, None)
    with pytest.raises(Unsupported, match="s_aux"):
        attend(MODULE, q, k, v, None, layout=layout, s_aux=torch.zeros(6))
    with pytest.raises(Unsupported):
        attend(MODULE, q, k, v, torch.zeros(1), layout=layout)
    windowed = nn.Module()
    windowed.config = type("Config", (), {"sliding_window": 8})()  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(Unsupported, match="sliding window does not reach"):
        attend(windowed, q, k, v, None, layout=layout)

"""The output head: blocks of vocabulary, whole rows and recomputed rows give one log-softmax."""

import pytest
import torch
from torch import Tensor, nn

from crossward.engines import heads
from crossward.engines.heads import Head, target_logprobs


def expected(head: Head, hidden: Tensor, targets: Tensor) -> Tensor:
    """float64, all logits at once."""
    logits = nn.Linear.forward(head.module.double(), hidden.double()) * head.scale
    if head.softcap is not None:
        logits = head.softcap * torch.tanh(logits / head.softcap)
    return logits.log_softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1).detach()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("scale", "softcap"), [(1.0, None), (0.3, 5.0)])
@pytest.mark.parametrize("vocabulary", [7, 1024, 1025, 3000])
def test_every_way_is_the_log_softmax(bias, scale, softcap, vocabulary, monkeypatch: pytest.MonkeyPatch):
    """1,025 leaves a last block of one token, which is also somebody's target."""
    torch.manual_seed(0)
    module = nn.Linear(16, vocabulary, bias=bias)
    head = Head(module=module, scale=scale, softcap=softcap)
    hidden = 3 * torch.randn(600, 16)
    targets = torch.randint(vocabulary, (600,))
    targets[0], targets[1] = vocabulary - 1, 0
    with torch.no_grad():
        blocks = target_logprobs(head, hidden, targets)
        with pytest.MonkeyPatch.context() as patch:  # what is compiled on a GPU
            patch.setattr(heads, "_fold_in_place", lambda logits, *rest: heads._fold(logits, *rest, 1.0, None))
            folded = target_logprobs(head, hidden, targets)
    rows = target_logprobs(head, hidden, targets)
    monkeypatch.setattr(heads, "LOGITS_BYTES", 4 * vocabulary * 100)
    again = target_logprobs(head, hidden, targets)
    again.sum().backward()
    one = module.weight.grad.clone()  # pyright: ignore[reportOptionalMemberAccess]
    module.zero_grad()
    rows.sum().backward()
    assert torch.allclose(one, module.weight.grad, atol=1e-4)  # pyright: ignore[reportArgumentType]
    true = expected(head, hidden, targets)
    for values in (blocks, folded, rows.detach(), again.detach()):
        assert values.dtype == torch.float32
        assert torch.allclose(values.double(), true, atol=2e-5)


def test_portions_are_one_call_of_the_module(monkeypatch: pytest.MonkeyPatch):
    """FSDP2 puts the head's weights away as soon as a call's gradient is there: none may come after it."""
    module = nn.Linear(16, 50)
    module.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    calls: list[int] = []
    module.register_forward_pre_hook(lambda _, given: calls.append(len(given[0])))
    hidden = torch.ones(30, 16, requires_grad=True)
    monkeypatch.setattr(heads, "LOGITS_BYTES", 4 * 50 * 7)
    values = target_logprobs(Head(module=module, scale=1.0, softcap=None), hidden, torch.arange(30))
    assert calls == [30]
    values.sum().backward()
    assert calls == [30], "what is computed again calls it no more"
    assert "forward" not in vars(module), "a call later is the module's own"
    assert module(hidden).shape == (30, 50)


def test_a_sure_token_is_never_more_than_certain():
    """Logit 60 against 0: log p is 0 to float32, and not above, although the logits were rounded to bfloat16."""
    module = nn.Linear(4, 50, bias=False).to(torch.bfloat16)
    module.weight.data.zero_()
    module.weight.data[3] = 15.03
    head = Head(module=module, scale=1.0, softcap=None)
    with torch.no_grad():
        values = target_logprobs(head, torch.ones(2, 4, dtype=torch.bfloat16), torch.tensor([3, 4]))
    assert -1e-6 < float(values[0]) <= 0.0
    assert float(values[1]) == pytest.approx(-60.0, abs=0.2)


def test_broken_logits_stay_broken():
    """NaN or infinite logits must not come out as a certain token."""
    module = nn.Linear(4, 50, bias=False)
    head = Head(module=module, scale=1.0, softcap=None)
    for value in (float("nan"), float("inf")):
        module.weight.data[3] = value
        with torch.no_grad():
            assert not bool(target_logprobs(head, torch.ones(1, 4), torch.tensor([3])).isfinite().any())


def test_a_head_that_is_no_plain_linear_layer_is_called():
    class Twice(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return 2 * super().forward(input)

    torch.manual_seed(0)
    module = Twice(8, 30, bias=False)
    hidden, targets = torch.randn(5, 8), torch.randint(30, (5,))
    with torch.no_grad():
        found = target_logprobs(Head(module=module, scale=1.0, softcap=None), hidden, targets)
    true = (2 * hidden @ module.weight.T).log_softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    assert torch.allclose(found, true, atol=1e-5)

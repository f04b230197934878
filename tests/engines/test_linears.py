"""Laid-out weights: the same numbers in every family, and everything left alone that they do not fit."""

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.support.families import FAMILIES, make_family
from torch import Tensor, nn
from torch.nn import functional
from transformers import GemmaConfig, GemmaForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from crossward.engines import linears
from crossward.engines.linears import lay_out_weights, product
from crossward.engines.logprobs import token_logprobs
from crossward.engines.models import load_model
from crossward.engines.protocols import ModelSpec

SEQUENCES = [((5, 6, 7), tuple(range(20, 60))), ((9,), (11, 12, 13))]
SIZES = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}


def llama(**changes: object) -> PreTrainedModel:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES | changes)).eval().requires_grad_(False)


def logprobs(model: PreTrainedModel) -> Tensor:
    return torch.cat(token_logprobs(model, SEQUENCES, pad_id=0))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_keeps_its_log_probabilities(name: str, tmp_path: Path):
    model = load_model(ModelSpec(path=str(make_family(name, tmp_path)), dtype="float32", device="cpu"))
    before = logprobs(model)
    assert lay_out_weights(model) > 0
    assert torch.allclose(logprobs(model), before, atol=1e-5)


@pytest.mark.parametrize("act", ["silu", "gelu_pytorch_tanh"])
def test_a_gated_mlp_is_fused(act: str):
    model = llama(hidden_act=act, mlp_bias=True, attention_bias=True)
    for name, weight in model.named_parameters():
        if name.endswith("bias"):  # transformers begins with zeros
            weight.normal_()
    before = logprobs(model)
    assert lay_out_weights(model) == 2 * 7
    assert [type(layer.mlp) for layer in model.model.layers] == [linears._GatedMlp] * 2
    assert torch.allclose(logprobs(model), before, atol=1e-5)


def test_an_activation_that_is_not_known_keeps_its_mlp():
    model = llama(hidden_act="relu")
    before = logprobs(model)
    assert lay_out_weights(model) == 2 * 7
    assert not any(isinstance(module, linears._GatedMlp) for module in model.modules())
    assert torch.allclose(logprobs(model), before, atol=1e-5)


def test_an_mlp_of_the_same_names_that_computes_something_else_stays():
    class Squared(nn.Module):
        def __init__(self, old: nn.Module) -> None:
            super().__init__()
            self.gate_proj, self.up_proj, self.down_proj = old.gate_proj, old.up_proj, old.down_proj
            self.act_fn = old.act_fn

        def forward(self, x: Tensor) -> Tensor:
            return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x) ** 2)

    model = llama()
    model.model.layers[1].mlp = Squared(model.model.layers[1].mlp)
    before = logprobs(model)
    lay_out_weights(model)
    assert [type(layer.mlp) for layer in model.model.layers] == [linears._GatedMlp, Squared]
    assert torch.allclose(logprobs(model), before, atol=1e-5)


def test_adapters_are_laid_out_like_their_base():
    torch.manual_seed(0)
    lora = LoraConfig(r=4, target_modules=["q_proj", "gate_proj"], init_lora_weights=False)
    model = get_peft_model(llama(), lora).eval().get_base_model()
    before = logprobs(model)
    assert lay_out_weights(model) == 2 * 7 + 2 * 2 * 2  # each of four adapted layers has two small ones beside it
    assert torch.allclose(logprobs(model), before, atol=1e-5)


def test_an_mlp_of_two_results_stays():
    class Twice(nn.Module):
        def __init__(self, old: nn.Module) -> None:
            super().__init__()
            self.gate_proj, self.up_proj, self.down_proj = old.gate_proj, old.up_proj, old.down_proj
            self.act_fn = old.act_fn

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    model = llama()
    model.model.layers[1].mlp = Twice(model.model.layers[1].mlp)
    assert lay_out_weights(model) == 2 * 7
    assert type(model.model.layers[1].mlp) is Twice


def test_head_and_shared_weights_stay():
    model = llama(tie_word_embeddings=False)
    layers = model.model.layers
    layers[1].self_attn.q_proj.weight = layers[0].self_attn.q_proj.weight
    assert lay_out_weights(model) == 2 * 7 - 2
    assert type(model.lm_head) is type(layers[0].self_attn.q_proj) is nn.Linear


def test_bfloat16_stays():
    model = llama().to(torch.bfloat16)
    assert lay_out_weights(model) == 0
    assert type(model.model.layers[0].mlp.up_proj) is nn.Linear


def test_operators_that_lie_are_not_used(monkeypatch: pytest.MonkeyPatch):
    real = linears._pointwise
    monkeypatch.setattr(linears, "_pointwise", lambda *asked: real(*asked) + 1e-3)
    model = llama()
    assert lay_out_weights(model) == 0


def test_operators_that_are_missing_are_not_missed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(linears, "_available", lambda: False)
    model = llama()
    before = logprobs(model)
    assert lay_out_weights(model) == 0
    assert torch.equal(logprobs(model), before)


def test_gemma_scales_its_norms_and_keeps_its_numbers():
    torch.manual_seed(0)
    model = GemmaForCausalLM(GemmaConfig(**SIZES)).eval().requires_grad_(False)
    before = logprobs(model)
    assert lay_out_weights(model) == 2 * 7
    assert torch.allclose(logprobs(model), before, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("biased", [True, False])
def test_product_is_a_linear_layer(dtype, biased):
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 5, 8).to(dtype), torch.randn(9, 8).to(dtype), torch.randn(9).to(dtype)
    given = bias if biased else None
    with torch.no_grad():
        assert torch.allclose(product(x, weight, given), functional.linear(x, weight, given), atol=1e-5)
    product(x, weight.requires_grad_(True), given).sum().backward()  # with gradients: torch's own
    assert weight.grad is not None
    assert torch.allclose(weight.grad, x.sum((0, 1)).expand_as(weight), rtol=0.02, atol=0.02)

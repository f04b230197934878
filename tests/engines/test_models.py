"""Loading: what is refused, LoRA beside its base, attention that is not silently changed, fingerprints."""

import json
import shutil
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.support.families import MAX_POSITIONS, make_family
from transformers import AutoModelForCausalLM

from crossward.engines import models
from crossward.engines.models import (
    base_spec,
    load_model,
    max_positions,
    model_fingerprint,
    resolve_device,
)
from crossward.engines.protocols import ModelSpec
from crossward.engines.tokens import load_tokens

IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])


def spec_of(folder: Path) -> ModelSpec:
    return ModelSpec(path=str(folder), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def llama3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_family("llama3", tmp_path_factory.mktemp("llama3"))


def save_adapter(base: Path, folder: Path, scale: float = 0.05) -> Path:
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=4, lora_alpha=8, target_modules="all-linear")
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    model.save_pretrained(str(folder))
    return folder


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_loads_frozen_in_eval_mode_and_in_the_dtype(llama3: Path, dtype):
    model = load_model(ModelSpec(path=str(llama3), dtype=dtype, device="cpu"))
    assert not model.training
    assert {str(parameter.dtype) for parameter in model.parameters()} == {f"torch.{dtype}"}
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert max_positions(model.config) == MAX_POSITIONS


def test_capped_attention_is_computed_with_its_cap(tmp_path: Path):
    """transformers' sdpa ignores Gemma 2's cap on attention scores: it must not be used there."""
    folder = make_family("gemma", tmp_path)
    ours = load_model(spec_of(folder))(IDS).logits
    eager = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")(IDS).logits
    torch.testing.assert_close(ours, eager)
    assert load_model(spec_of(make_family("neox", tmp_path / "neox"))).config._attn_implementation == "sdpa"


def test_a_wrong_path_is_one_sentence(llama3: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="does not exist"):
        load_model(spec_of(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="does not exist"):
        load_model(ModelSpec(path="./nowhere", dtype="float32"))
    with pytest.raises(ValueError, match=r"no config\.json"):
        load_model(spec_of(tmp_path))
    with pytest.raises(ValueError, match="is a file"):
        load_model(spec_of(llama3 / "config.json"))


def test_pickled_weights_are_refused(llama3: Path, tmp_path: Path):
    folder = Path(shutil.copytree(llama3, tmp_path / "pickled"))
    torch.save(load_model(spec_of(llama3)).state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"only pytorch_model\.bin: expected \*\.safetensors"):
        load_model(spec_of(folder))


def test_missing_weights_are_refused(llama3: Path, tmp_path: Path):
    """A checkpoint without its head would get a random one."""
    folder = Path(shutil.copytree(llama3, tmp_path / "headless"))
    model = load_model(spec_of(llama3))
    cast(Any, model.base_model).save_pretrained(folder)
    config = json.loads((llama3 / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"lacks 1 of its weights \(first: lm_head\.weight\)"):
        load_model(spec_of(folder))


def test_remote_code_is_refused(llama3: Path, tmp_path: Path):
    folder = Path(shutil.copytree(llama3, tmp_path / "remote"))
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "strange"}
    config |= {"auto_map": {"AutoConfig": "strange.Config", "AutoModelForCausalLM": "strange.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "strange.py").write_text("raise SystemExit('remote code ran')\n")
    with pytest.raises(ValueError, match="no readable configuration"):
        load_model(spec_of(folder))


def test_lora_equals_the_merged_model_and_is_not_merged(llama3: Path, tmp_path: Path):
    adapter = save_adapter(llama3, tmp_path / "adapter")
    model = load_model(spec_of(adapter))
    merged = get_peft_model(
        AutoModelForCausalLM.from_pretrained(llama3), LoraConfig(r=4, lora_alpha=8, target_modules="all-linear")
    )
    merged.load_adapter(str(adapter), "default")
    expected = cast(Any, merged).merge_and_unload()(IDS).logits
    ours = model(IDS).logits
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)
    assert float((ours - load_model(spec_of(llama3))(IDS).logits).abs().max()) > 0.01
    assert any("lora_A" in name for name, _ in model.named_parameters())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    # The tokenizer comes from the base, because the adapter's folder holds none.
    assert base_spec(spec_of(adapter)).path == str(llama3)
    assert load_tokens(spec_of(adapter)).fingerprint() == load_tokens(spec_of(llama3)).fingerprint()


def test_lora_stays_in_float32_beside_a_bfloat16_base(llama3: Path, tmp_path: Path):
    """Rounded to bfloat16, or merged into it, updates far below a weight's spacing would be lost."""
    adapter = save_adapter(llama3, tmp_path / "adapter", scale=0.002)
    bfloat16 = ModelSpec(path=str(adapter), dtype="bfloat16", device="cpu")
    kept = {name: p for name, p in load_model(bfloat16).named_parameters() if "lora_" in name}
    assert kept
    assert {p.dtype for p in kept.values()} == {torch.float32}


def test_pickled_or_stacked_adapters_are_refused(llama3: Path, tmp_path: Path):
    adapter = save_adapter(llama3, tmp_path / "adapter")
    stacked = save_adapter(llama3, tmp_path / "stacked")
    path = stacked / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": str(adapter)}))
    with pytest.raises(ValueError, match="lies over another adapter"):
        load_model(spec_of(stacked))
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(ValueError, match=r"no adapter_model\.safetensors"):
        load_model(spec_of(adapter))


def test_devices():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in ("cpu", "cuda")
    for name in ("gpu", "cpu:0", "cuda:x", "mps"):
        with pytest.raises(ValueError, match="unknown device"):
            resolve_device(name)
    with pytest.raises(ValueError, match="CUDA devices"):
        resolve_device("cuda:99")


def test_fingerprint_sees_weights_and_base_and_nothing_else(llama3: Path, tmp_path: Path):
    first = model_fingerprint(spec_of(llama3))
    copied = Path(shutil.copytree(llama3, tmp_path / "copy"))
    (copied / "README.md").write_text("notes")
    (copied / "trainer_state.json").write_text("{}")
    assert model_fingerprint(spec_of(copied)) == first
    adapter = save_adapter(copied, tmp_path / "adapter")
    with_base = model_fingerprint(spec_of(adapter))
    weights = bytearray((copied / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copied / "model.safetensors").write_bytes(weights)
    assert model_fingerprint(spec_of(copied)) != first
    assert model_fingerprint(spec_of(adapter)) != with_base
    assert model_fingerprint(ModelSpec(path="a/b", dtype="float32", revision="v1")) == "a/b@v1"


def test_a_system_without_glibc_keeps_its_allocator(monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []

    def none(name: str) -> None:
        asked.append(name)
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(models.ctypes, "CDLL", none)
    models.keep_freed_memory()
    assert asked == ["libc.so.6"]

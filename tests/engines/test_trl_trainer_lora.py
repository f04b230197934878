"""LoRA: a fresh adapter over an untouched base, and an adapter that goes on from where it was."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tests.support.families import make_family
from tests.support.training import (
    TRAINING,
    largest_difference,
    make_pairs,
    pair_logprob,
    read_journal,
    read_tensors,
    step_loss,
    train,
)
from torch import Tensor
from transformers import AutoModelForCausalLM

from crossward.engines.hf_scorer import HfScorer
from crossward.engines.models import base_spec, load_model
from crossward.engines.protocols import Judged, Lora, ModelSpec
from crossward.engines.tokens import compare_tokens, load_tokens

# Clipping at 1e-6 keeps Adam far from its full rate: a larger rate moves the policy by something that shows.
TRAINING_LORA = replace(TRAINING, lora=Lora(rank=4, alpha=8.0), learning_rate=2e-2, max_grad_norm=1.0, epochs=3)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    return ModelSpec(path=str(make_family("llama3", tmp_path_factory.mktemp("base"))), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def first(base: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a first training: output and metrics.jsonl."""
    folder = tmp_path_factory.mktemp("first")
    before = {file: file.read_bytes() for file in Path(base.path).iterdir()}
    train(base, make_pairs(base, load_tokens(base)), TRAINING_LORA, folder)
    assert {file: file.read_bytes() for file in Path(base.path).iterdir()} == before, "the base was written to"
    return folder


@pytest.fixture(scope="module")
def adapted(base: ModelSpec, first: Path) -> ModelSpec:
    return replace(base, path=str(first / "output"))


def logprob_of(spec: ModelSpec, pairs) -> list[float]:
    judged = [Judged(instruction=pair.instruction, responses=(pair.chosen, pair.rejected)) for pair in pairs]
    return [score.logprob for row in HfScorer(spec, load_tokens(spec)).score(judged) for score in row]


def test_fresh_adapter_is_all_that_is_saved(base: ModelSpec, first: Path, adapted: ModelSpec):
    names = read_tensors(first / "output").keys()
    assert names
    assert all("lora_A" in name or "lora_B" in name for name in names)
    assert any("down_proj" in name for name in names), "all-linear"
    files = {path.name for path in (first / "output").iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json"} <= files
    assert "model.safetensors" not in files
    assert "ref" not in files, "TRL's copy of the adapter"
    settings = json.loads((first / "output" / "adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"]) == (4, 8)
    assert base_spec(adapted).path == base.path
    assert compare_tokens(load_tokens(base), load_tokens(adapted)) == []
    assert load_tokens(adapted).stop_ids == load_tokens(base).stop_ids


def test_fresh_adapter_starts_at_the_base_and_learns(base: ModelSpec, first: Path, adapted: ModelSpec):
    journal = read_journal(first / "metrics.jsonl")
    assert abs(journal[0]["rewards/margins"]) < 1e-5
    assert journal[-1]["rewards/margins"] > 0.01
    pairs = make_pairs(base, load_tokens(base))
    (chosen, rejected) = logprob_of(adapted, pairs)[::2], logprob_of(adapted, pairs)[1::2]
    gains = [
        (c - pair.reference_chosen_logprob) - (r - pair.reference_rejected_logprob)
        for c, r, pair in zip(chosen, rejected, pairs, strict=True)
    ]
    assert TRAINING.beta * sum(gains) / 4 > journal[-1]["rewards/margins"] > 0


def test_saved_adapter_is_the_trained_policy(adapted: ModelSpec, base: ModelSpec):
    """load_model's base + adapter against base + B·A·alpha/r merged by hand."""
    tokens = load_tokens(base)
    merged = AutoModelForCausalLM.from_pretrained(base.path).eval()
    weights = merged.state_dict()
    tensors = read_tensors(Path(adapted.path))
    for name in [name for name in tensors if "lora_A" in name]:
        target = name.removeprefix("base_model.model.").replace("lora_A.weight", "weight")
        weights[target] += tensors[name.replace("lora_A", "lora_B")] @ tensors[name] * 2.0
    (pair,) = make_pairs(base, tokens, n=1)
    prompt, response = tokens.prompt_ids(pair.instruction), tokens.response_ids(pair.chosen)
    with torch.no_grad():
        ours = pair_logprob(load_model(adapted), prompt, response).item()
        assert ours == pytest.approx(pair_logprob(merged, prompt, response).item(), abs=1e-3)
        assert abs(ours - pair_logprob(load_model(base), prompt, response).item()) > 0.1


def adapter_step_by_hand(adapted: ModelSpec, base: ModelSpec, pairs, training) -> dict[str, Tensor]:
    """One AdamW step on the adapter's own weights, over transformers' logits."""
    model = PeftModel.from_pretrained(load_model(base), adapted.path, is_trainable=True).eval()
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    optimizer = torch.optim.AdamW(trainable.values(), lr=training.learning_rate, weight_decay=0.0)
    step_loss(model.get_base_model(), load_tokens(base), pairs, training).backward()  # pyright: ignore
    torch.nn.utils.clip_grad_norm_(trainable.values(), training.max_grad_norm)
    optimizer.step()
    return {name.replace(".default.", "."): parameter.detach() for name, parameter in trainable.items()}


def test_second_training_continues_the_same_adapter(base: ModelSpec, adapted: ModelSpec, first: Path, tmp_path: Path):
    """Its reference is the previous adapter's policy; the base's log-probabilities would be off from the start."""
    before = {file: file.read_bytes() for folder in (base.path, adapted.path) for file in Path(folder).iterdir()}
    pairs = make_pairs(adapted, load_tokens(adapted))
    training = replace(TRAINING_LORA, epochs=1, max_grad_norm=1e-6)
    train(adapted, pairs, training, tmp_path)
    (line,) = read_journal(tmp_path / "metrics.jsonl")
    for name in ("rewards/chosen", "rewards/rejected", "rewards/margins"):
        assert abs(line[name]) < 1e-5, name
    result = read_tensors(tmp_path / "output")
    assert largest_difference(result, read_tensors(first / "output")) > 1e-3
    assert largest_difference(result, adapter_step_by_hand(adapted, base, pairs, training)) < 1e-5
    assert {file: file.read_bytes() for file in before} == before
    assert base_spec(replace(base, path=str(tmp_path / "output"))).path == base.path, "the base, not the old adapter"


def test_reference_may_be_the_base_although_an_adapter_is_continued(
    base: ModelSpec, adapted: ModelSpec, tmp_path: Path
):
    """The reference is whatever the pairs say; the first margin then is what the first training gained."""
    pairs = make_pairs(base, load_tokens(base))
    train(adapted, pairs, replace(TRAINING_LORA, epochs=1), tmp_path)
    (line,) = read_journal(tmp_path / "metrics.jsonl")
    scores = logprob_of(adapted, pairs)
    margins = [
        (scores[2 * i] - pair.reference_chosen_logprob) - (scores[2 * i + 1] - pair.reference_rejected_logprob)
        for i, pair in enumerate(pairs)
    ]
    assert line["rewards/margins"] == pytest.approx(TRAINING.beta * sum(margins) / 4, abs=1e-4)
    assert line["rewards/margins"] > 0.01


def test_named_modules_and_seed(base: ModelSpec, tmp_path: Path):
    """Only the named modules; the same seed draws the same adapter, another seed another."""
    pairs = make_pairs(base, load_tokens(base))
    training = replace(TRAINING_LORA, epochs=1, lora=Lora(rank=2, alpha=4.0, target_modules=("q_proj", "v_proj")))
    seeds = {"one": training, "again": training, "other": replace(training, seed=training.seed + 1)}
    for name, settings in seeds.items():
        train(base, pairs, settings, tmp_path / name)
    one, again, other = (read_tensors(tmp_path / name / "output") for name in seeds)
    assert {name.split(".")[-3] for name in one} == {"q_proj", "v_proj"}
    assert largest_difference(one, again) == 0.0
    assert largest_difference(one, other) > 0.01


def test_adapter_over_a_bfloat16_base_is_trained_in_float32(base: ModelSpec, tmp_path: Path):
    bfloat16 = replace(base, dtype="bfloat16")
    pairs = make_pairs(bfloat16, load_tokens(base))
    train(bfloat16, pairs, replace(TRAINING_LORA, learning_rate=1e-6, epochs=2), tmp_path)
    tensors = load_file(tmp_path / "output" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    a = torch.cat([tensor.flatten() for name, tensor in tensors.items() if "lora_A" in name])
    assert not torch.equal(a, a.bfloat16().float()), "float32 values, not bfloat16 ones widened"


def test_base_revision_is_kept(base: ModelSpec, tmp_path: Path):
    """A base pinned to a revision stays pinned when its adapter is loaded later."""
    pinned = replace(base, revision="0123abc")
    train(pinned, make_pairs(base, load_tokens(base)), replace(TRAINING_LORA, epochs=1), tmp_path)
    assert base_spec(replace(base, path=str(tmp_path / "output"))).revision == "0123abc"

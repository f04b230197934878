"""Pickled weights become safetensors with the same logits; what is more than tensors becomes nothing."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from tests.support.command import call
from tests.support.families import make_family
from tests.support.planted import plant_code, plant_pickle
from transformers import AutoModelForCausalLM

from crossward.engines import convert_weights
from crossward.engines.models import load_model
from crossward.engines.protocols import ModelSpec
from crossward.pipeline.convert import convert

IDS = torch.tensor([[5, 17, 42, 99, 7]])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_family("gemma", tmp_path_factory.mktemp("gemma"))  # whose embeddings are tied


def logits_of(folder: Path) -> torch.Tensor:
    return load_model(ModelSpec(path=str(folder), dtype="float32", device="cpu"))(IDS).logits


def pickled(whole: Path, folder: Path, *, shards: int = 1) -> Path:
    """The model as it would have been saved years ago, tied weights under both of their names."""
    shutil.copytree(whole, folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    if shards == 1:
        torch.save(tensors, folder / "pytorch_model.bin")
        return folder
    names = [f"pytorch_model-{k + 1:05d}-of-{shards:05d}.bin" for k in range(shards)]
    places = {name: names[place % shards] for place, name in enumerate(sorted(tensors))}
    for name in names:
        torch.save({key: tensors[key] for key, place in places.items() if place == name}, folder / name)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


@pytest.mark.parametrize("shards", [1, 3])
def test_a_converted_model_gives_the_same_logits(shards: int, whole: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(convert_weights, "LARGEST_SHARD", "30KB")
    old = pickled(whole, tmp_path / "old", shards=shards)
    mark = tmp_path / "mark"
    plant_pickle(old / "training_args.bin", mark)
    plant_code(old / "modeling_own.py", mark)
    (old / ".secret").write_text("x")
    (old / "model.safetensors.index.json").write_text('{"weight_map": {"lm_head.weight": "model-1-of-9.safetensors"}}')
    done = convert(str(old), tmp_path / "new")
    assert torch.equal(logits_of(tmp_path / "new"), logits_of(whole))
    assert done["tensors"] == len(load_file(whole / "model.safetensors")) + 1
    assert done["shared_tensors_written_apart"] == (1 if shards == 1 else 0)
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == sorted([*done["written"], *done["copied"]])
    assert len([name for name in names if name.endswith(".safetensors")]) > 1
    assert {"config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors.index.json"} <= set(names)
    indices = 1 + (shards > 1)
    assert done["left_out"] == {"*.bin": shards + 1, "*.py": 1, "hidden files": 1, "indices of weights": indices}
    assert not mark.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"]


def test_a_converted_adapter_gives_the_same_logits(whole: Path, tmp_path: Path):
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(whole), LoraConfig(r=4, init_lora_weights=False))
    model.save_pretrained(str(tmp_path / "whole"))
    old = Path(shutil.copytree(tmp_path / "whole", tmp_path / "old"))
    torch.save(load_file(old / "adapter_model.safetensors"), old / "adapter_model.bin")
    (old / "adapter_model.safetensors").unlink()
    convert(str(old), tmp_path / "new", code=True)
    assert torch.equal(logits_of(tmp_path / "new"), logits_of(tmp_path / "whole"))


def test_what_is_no_tensor_is_refused_and_nothing_is_left(whole: Path, tmp_path: Path):
    old = pickled(whole, tmp_path / "old")
    weights = old / "pytorch_model.bin"
    plant_pickle(weights, tmp_path / "mark")
    cases = {
        "holds more than tensors": weights.read_bytes(),
        "holds no tensors by name": _saved([torch.ones(2)]),
        "holds 'state', which is no dense tensor": _saved({"state": {"weight": torch.ones(2)}}),
        "holds 7, which is no dense tensor": _saved({7: torch.ones(2)}),
        "cannot be read as weights|holds more than tensors": b"PK\x03\x04 cut",
    }
    for sentence, content in cases.items():
        weights.write_bytes(content)
        with pytest.raises(ValueError, match=sentence) as caught:
            convert(str(old), tmp_path / "new")
        assert str(weights) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["old"], "nothing was run, nothing is left"


def test_an_index_reaches_no_other_folder(whole: Path, tmp_path: Path):
    old = pickled(whole, tmp_path / "old", shards=2)
    index = old / "pytorch_model.bin.index.json"
    for name in ("../secret.bin", "/etc/passwd", 7, "config.json"):
        index.write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(ValueError, match=r"names the file|is no index"):
            convert(str(old), tmp_path / "new")
    index.write_text(json.dumps({"weight_map": {"a": "pytorch_model-9.bin"}}))
    with pytest.raises(ValueError, match=r"lacks pytorch_model-9\.bin"):
        convert(str(old), tmp_path / "new")
    index.write_text('{"weight_map": {}}')
    with pytest.raises(ValueError, match="is no index"):
        convert(str(old), tmp_path / "new")


def test_links_are_followed_only_within_the_model(whole: Path, tmp_path: Path):
    old = pickled(whole, tmp_path / "models--a--b" / "snapshots" / "1")
    secret = tmp_path / "secret"
    secret.write_text("x")
    for name, target in (("LICENSE", secret), ("README.md", Path("../../../secret"))):
        (old / name).symlink_to(target)
        with pytest.raises(ValueError, match=rf"{name} is a link that leads out of the model"):
            convert(str(old), tmp_path / "new")
        (old / name).unlink()
    blobs = tmp_path / "models--a--b" / "blobs"
    blobs.mkdir()
    for place, name in (("y", "config.json"), ("z", "pytorch_model.bin")):
        (old / name).rename(blobs / place)
        (old / name).symlink_to(f"../../blobs/{place}")
    (old / "LICENSE").symlink_to("config.json")
    assert {"LICENSE", "config.json"} <= set(convert(str(old), tmp_path / "new")["copied"])


def test_nothing_to_convert_and_nowhere_to_write(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for model, sentence in ((whole, "nothing to convert"), (tmp_path, "nothing to convert")):
        called = call(capsys, "convert", model, "--output", tmp_path / "new")
        assert (called.code, sentence in called.sentence) == (2, True)
    called = call(capsys, "convert", "https://me:secret@host/model", "--output", tmp_path / "new")
    assert (called.code, "cannot be read from an address" in called.sentence) == (2, True)
    assert "secret" not in called.err
    old = pickled(whole, tmp_path / "old")
    assert "is there already" in call(capsys, "convert", old, "--output", whole).sentence
    called = call(capsys, "convert", old, "--output", tmp_path / "new")
    assert (called.code, called.out.splitlines()[0]) == (0, "read: pytorch_model.bin")
    assert "1 of them written apart that shared memory" in called.out


def _saved(value: object) -> bytes:
    import io

    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()

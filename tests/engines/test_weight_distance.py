"""Distances between checkpoints on the disk: by hand, over shards and adapters, and None where nothing can be told."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from crossward.engines.weight_distance import ROWS, weight_distances


def checkpoint(folder: Path, weights: dict[str, torch.Tensor], *, shards: int = 1) -> str:
    folder.mkdir()
    (folder / "config.json").write_text("{}", encoding="utf-8")
    names = sorted(weights)
    for i in range(shards):
        part = {name: weights[name] for name in names[i::shards]}
        save_file(part, folder / f"model-{i + 1:05d}-of-{shards:05d}.safetensors")
    return str(folder)


def random(seed: int, *, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    noise = torch.Generator().manual_seed(seed)
    shapes = {"a.weight": (40, 30), "b.weight": (2 * ROWS, 8), "c.weight": (5, 6)}
    return {name: torch.randn(shape, generator=noise).to(dtype) for name, shape in shapes.items()} | {
        "norm": torch.ones(8)
    }


def test_by_hand(tmp_path: Path):
    one = checkpoint(tmp_path / "one", {"w": torch.tensor([[3.0, 4.0]])})
    two = checkpoint(tmp_path / "two", {"w": torch.tensor([[3.0, 1.0]])})
    assert weight_distances(two, one) == pytest.approx([0.6])  # 3 / 5
    assert weight_distances(one, one) == [0.0]


def test_relatives_and_strangers_over_shards_and_dtypes(tmp_path: Path):
    parent = random(0)
    base = checkpoint(tmp_path / "base", parent)
    moved = {name: tensor * 1.01 for name, tensor in parent.items()}
    child = checkpoint(tmp_path / "child", moved, shards=3)
    assert weight_distances(child, base) == pytest.approx([0.01] * 3, rel=1e-3)
    rounded = checkpoint(tmp_path / "rounded", random(0, dtype=torch.bfloat16), shards=2)
    found = weight_distances(rounded, base)
    assert found is not None
    assert 0 < max(found) < 0.004
    stranger = weight_distances(checkpoint(tmp_path / "stranger", random(1)), base)
    assert stranger == pytest.approx([2**0.5] * 3, rel=0.3)


def test_matrices_of_another_shape_are_left_out(tmp_path: Path):
    base = checkpoint(tmp_path / "base", random(0))
    resized = random(0) | {"a.weight": torch.zeros(41, 30)}
    assert weight_distances(checkpoint(tmp_path / "resized", resized), base) == [0.0, 0.0]
    assert weight_distances(checkpoint(tmp_path / "other", {"z": torch.ones(2, 2)}), base) is None


def test_an_adapter_stands_for_its_base(tmp_path: Path):
    base = checkpoint(tmp_path / "base", random(0))
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    save_file({"lora": torch.ones(2, 2)}, adapter / "adapter_model.safetensors")
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}), encoding="utf-8")
    assert weight_distances(str(adapter), base) == [0.0, 0.0, 0.0]
    stranger = checkpoint(tmp_path / "stranger", random(1))
    assert min(weight_distances(str(adapter), stranger) or [0.0]) > 1.0
    (adapter / "adapter_config.json").write_text('{"base_model_name_or_path": "somebody/base"}', encoding="utf-8")
    assert weight_distances(str(adapter), base) is None


def test_what_is_not_on_this_disk_or_damaged_says_nothing(tmp_path: Path):
    base = checkpoint(tmp_path / "base", random(0))
    assert weight_distances("somebody/something", base) is None
    assert weight_distances(base, str(tmp_path / "none")) is None
    broken = checkpoint(tmp_path / "broken", random(0))
    next(Path(broken).glob("*.safetensors")).write_bytes(b"not safetensors")
    assert weight_distances(base, broken) is None

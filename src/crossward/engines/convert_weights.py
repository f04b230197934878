"""Pickled weights (pytorch_model*.bin, adapter_model.bin) into safetensors, without running what a pickle may hold.

torch's restricted reader builds tensors and plain containers and nothing else; what is anything else is refused by
name. Tensors that share memory are written one by one, so that no name is missing. Knows no other files of a model.
"""

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict, snapshot_download
from huggingface_hub.errors import HFValidationError
from safetensors import safe_open
from torch import Tensor

from crossward.core.addresses import require_no_address

INDEX = "pytorch_model.bin.index.json"
ADAPTER = "adapter_model.bin"
LARGEST_SHARD = "5GB"
# What a model needs besides its weights; *.py comes only where it is asked for.
_BESIDE = ["*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken", "LICENSE*", "README.md"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was written: the files' names, how many tensors and bytes, how many of the tensors shared memory."""

    files: tuple[str, ...]
    tensors: int
    n_bytes: int
    shared: int


def fetched(model: str, *, code: bool) -> Path:
    """The model's folder, of a hub name a snapshot without what is no part of it. Raises ValueError where none is."""
    require_no_address(model, "a model", "its folder or its name on the hub")
    if Path(model).exists():
        return Path(model)
    wanted = [*_BESIDE, "pytorch_model*.bin", ADAPTER, *(["*.py"] if code else [])]
    try:
        return Path(snapshot_download(model, allow_patterns=wanted))
    except (OSError, ValueError, HFValidationError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"model {model} is neither a folder nor a reachable hub name: {first}") from None


def pickled_files(folder: Path) -> list[Path]:
    """The files with the weights, of all shards. Raises ValueError where there are none, or one is missing."""
    if any(folder.glob("*.safetensors")):
        raise ValueError(f"model folder {folder} holds *.safetensors already: there is nothing to convert")
    if (folder / INDEX).is_file():
        return _shards(folder)
    for name in ("pytorch_model.bin", ADAPTER):
        if (folder / name).is_file():
            return [folder / name]
    raise ValueError(f"model folder {folder} holds no pytorch_model.bin, {INDEX} or {ADAPTER}: nothing to convert")


def convert_weights(files: list[Path], target: Path) -> Written:
    """Write the weights of `files` into the folder `target` as safetensors, and read them back.

    Raises ValueError for a file that holds anything but tensors by name, and for a name that two files hold.
    """
    tensors: dict[str, Tensor] = {}
    for file in files:
        found = _read(file)
        if twice := sorted(tensors.keys() & found.keys()):
            raise ValueError(f"{file} holds {twice[0]!r}, which another file of the model holds too: give whole shards")
        tensors |= found
    apart, shared = _apart(tensors)
    adapter = files[0].name == ADAPTER
    pattern = "adapter_model{suffix}.safetensors" if adapter else "model{suffix}.safetensors"
    save_torch_state_dict(
        apart,
        target,
        filename_pattern=pattern,
        max_shard_size="1TB" if adapter else LARGEST_SHARD,
        safe_serialization=True,
    )
    written = sorted(target.glob("*.safetensors"))
    _compare(apart, written)
    names = tuple(sorted(path.name for path in target.iterdir()))
    return Written(files=names, tensors=len(apart), n_bytes=sum(path.stat().st_size for path in written), shared=shared)


def _shards(folder: Path) -> list[Path]:
    try:
        weights = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
        names = sorted(set(weights.values()))
        if not names:
            raise ValueError("it names no file")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"{folder / INDEX} is no index of shards: expected a weight_map of names and files") from None
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".bin"):
            raise ValueError(f"{folder / INDEX} names the file {name!r}: expected names such as pytorch_model-….bin")
        if not (folder / name).is_file():
            raise ValueError(f"model folder {folder} lacks {name}, which {INDEX} names: fetch the whole model")
    return [folder / name for name in names]


def _read(file: Path) -> dict[str, Tensor]:
    try:
        content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{file} holds more than tensors, or is none of torch's files; nothing of it was run: it is not converted"
        ) from None
    except Exception as error:  # whatever torch and pickle raise on a stranger's file
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{file} cannot be read as weights: {first[:200]}") from None
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{file} holds no tensors by name (but {type(content).__name__}): it is no model's weights")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor) or value.layout is not torch.strided:
            raise ValueError(f"{file} holds {name!r}, which is no dense tensor with a name: it is no model's weights")
        if value.is_quantized or value.is_meta:
            raise ValueError(
                f"{file} holds {name!r}, a quantised or empty tensor, which safetensors cannot: save it anew"
            )
    return dict(content)


def _apart(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], int]:
    """Each tensor in memory of its own, and how many shared theirs (tied weights)."""
    seen: set[int] = set()
    apart: dict[str, Tensor] = {}
    shared = 0
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        again = place in seen and tensor.numel() > 0
        seen.add(place)
        shared += again
        apart[name] = (
            tensor.detach().clone(memory_format=torch.contiguous_format) if again else tensor.detach().contiguous()
        )
    return apart, shared


def _compare(tensors: Mapping[str, Tensor], written: list[Path]) -> None:
    """Raise where the files do not hold exactly these tensors: a full disk is told by no error everywhere."""
    left = dict(tensors)
    for path in written:
        with safe_open(path, framework="pt") as stream:
            for name in stream.keys():  # noqa: SIM118 (no mapping)
                read, given = stream.get_tensor(name), left.pop(name)
                same = read.dtype == given.dtype and read.shape == given.shape
                if not same or not torch.equal(read.reshape(-1).view(torch.uint8), given.reshape(-1).view(torch.uint8)):
                    raise ValueError(f"{path} does not hold {name!r} as it was read: is the disk full?")
    if left:
        raise ValueError(f"the files written lack {len(left)} tensors (first: {sorted(left)[0]!r}): is the disk full?")

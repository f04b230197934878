"""Loading a checkpoint for reading: one frozen causal model, in a named dtype, on a named device.

Refuses what would silently compute something else: pickled weights, missing weights (transformers would draw them at
random), code from the hub unless it was asked for. A LoRA folder becomes base + adapter and is *not* merged: in
bfloat16 merging rounds small updates away. Knows no tokens and no runs.
"""

import ctypes
import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, cast

import torch
from huggingface_hub import snapshot_download
from peft import PeftConfig, PeftModel
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.utils import logging
from transformers.utils.peft_utils import find_adapter_config_file

from crossward.core.addresses import require_no_address
from crossward.core.plain_text import visible_line
from crossward.engines.protocols import Advance, Dtype, ModelSpec, no_progress

DTYPES: dict[Dtype, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}

# What decides a model's output; a trainer's own state and people's README stay outside.
_FINGERPRINTED = (".json", ".safetensors", ".jinja", ".model", ".txt", ".tiktoken", ".py")
_NOT_FINGERPRINTED = ("trainer_state.json",)

Item = TypeVar("Item")
Result = TypeVar("Result")


def load_model(spec: ModelSpec) -> PreTrainedModel:
    """The model of `spec` in eval mode, its parameters frozen.

    Raises ValueError where the path, its files, the dtype or the device cannot give one.
    """
    device = resolve_device(spec.device)
    base = base_spec(spec)
    model = _load_base(base)
    if base is not spec:
        model = _with_adapter(model, spec)
    model = model.to(device)  # pyright: ignore[reportArgumentType]
    model.eval()
    return model.requires_grad_(False)


def settle(*, threads: int | None = None) -> None:
    """Set the process up for reading models: no progress bars of the library's own; `threads` CPU threads if given."""
    logging.disable_progress_bar()
    if threads is not None:
        torch.set_num_threads(threads)


def keep_freed_memory() -> None:
    """For a CPU: activations that are freed stay with the process for the next ones; compiled products do not pile up.

    By itself glibc gives every large tensor back to the system and asks for it anew, a page fault for each 4 kB:
    measured on SmolLM2 in packs of 2,048 tokens, 174 faults a token and 8 % of the time. And oneDNN, which compiles a
    product for every shape, keeps 1,024 of them: 350 MB on a tiny model, as packs are of all sizes.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")  # read when oneDNN computes first
    trim_threshold, mmap_threshold, arena_max = -1, -3, -8  # M_… of malloc.h
    with suppress(OSError, AttributeError):
        allocator = ctypes.CDLL("libc.so.6")
        allocator.mallopt(mmap_threshold, 2**25)  # the most that glibc takes
        allocator.mallopt(trim_threshold, 2**31 - 1)
        allocator.mallopt(arena_max, 1)  # threads' own arenas give memory back whatever the thresholds say


def resolve_device(name: str) -> torch.device:
    """auto (CUDA where there is one), cpu, cuda or cuda:i."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if name == "cpu":
        return torch.device("cpu")
    if kind != "cuda" or (name != "cuda" and not index.isdecimal()):
        raise ValueError(f"unknown device {name!r}: expected auto, cpu, cuda or cuda:0, cuda:1, ...")
    count = torch.cuda.device_count()
    if int(index or 0) >= count:
        raise ValueError(f"device {name!r} is not there: this machine shows {count} CUDA devices; use auto or cpu")
    return torch.device(name)


def base_spec(spec: ModelSpec) -> ModelSpec:
    """The spec itself, or the spec of the base model where `spec` names a LoRA adapter."""
    _check_place(spec)
    if not _is_adapter(spec):
        return spec
    try:
        peft_config = PeftConfig.from_pretrained(str(adapter_folder(spec)))
    except Exception as error:  # whatever peft raises on a stranger's file
        raise ValueError(sentence(f"adapter {spec.path} has no readable configuration", error)) from None
    if peft_config.is_prompt_learning or not peft_config.base_model_name_or_path:
        raise ValueError(f"adapter {spec.path} is {peft_config.peft_type}: only LoRA over a named base is supported")
    base = replace(spec, path=peft_config.base_model_name_or_path, revision=peft_config.revision)
    _check_place(base)
    if _is_adapter(base):
        raise ValueError(f"adapter {spec.path} lies over another adapter, {base.path}: merge that one into its base")
    return base


def read_config(spec: ModelSpec) -> PretrainedConfig:
    """The checkpoint's configuration, errors as one sentence."""
    try:
        return AutoConfig.from_pretrained(spec.path, revision=spec.revision, trust_remote_code=spec.trust_remote_code)
    except Exception as error:  # whatever transformers raises on a stranger's file
        raise ValueError(sentence(f"model {spec.path} has no readable configuration", error)) from None


def text_config(config: PretrainedConfig) -> dict[str, object]:
    """The language model's part of a configuration as a plain dictionary, so that absent keys can be asked for."""
    return cast(dict[str, object], config.get_text_config(decoder=True).to_dict())


def max_positions(config: PretrainedConfig) -> int | None:
    """How many tokens the model takes, None where its configuration does not say."""
    values = text_config(config)
    for key in ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len"):
        value = values.get(key)
        if isinstance(value, int) and value > 0:
            return value
    return None


def rotary_switch(config: PretrainedConfig) -> int | None:
    """The length of the longest sequence at hand above which longrope (Phi-3) takes other rotary factors, for all.

    None where a sequence's positions depend on itself alone.
    """
    given = text_config(config).get("rope_parameters")
    kinds = [given, *given.values()] if isinstance(given, dict) else []  # one for all layers, or one a kind of layer
    switches = [
        length
        for kind in kinds
        if isinstance(kind, dict) and kind.get("rope_type") == "longrope"
        if isinstance(length := kind.get("original_max_position_embeddings"), int)
    ]
    return min(switches, default=None)


def model_fingerprint(spec: ModelSpec, *, advance: Advance = no_progress) -> str:
    """sha256 over names and contents of a local folder's files (a LoRA's base included); path@revision for the hub.

    `advance` counts bytes.
    """
    if not Path(spec.path).is_dir():
        return f"{spec.path}@{spec.revision or 'main'}"
    total = hashlib.sha256()
    for file in _fingerprinted(spec):
        content = hashlib.sha256()
        with file.open("rb") as stream:
            while block := stream.read(1 << 22):
                content.update(block)
                advance(len(block))
        total.update(f"{file.name} {content.hexdigest()}\n".encode())
    if _is_adapter(spec):
        total.update(f"base {model_fingerprint(base_spec(spec), advance=advance)}\n".encode())
    return total.hexdigest()


def fingerprint_size(spec: ModelSpec) -> int:
    """How many bytes `model_fingerprint` reads."""
    if not Path(spec.path).is_dir():
        return 0
    own = sum(file.stat().st_size for file in _fingerprinted(spec))
    return own + (fingerprint_size(base_spec(spec)) if _is_adapter(spec) else 0)


def _fingerprinted(spec: ModelSpec) -> list[Path]:
    return sorted(
        file
        for file in Path(spec.path).iterdir()
        if file.is_file() and file.suffix in _FINGERPRINTED and file.name not in _NOT_FINGERPRINTED
    )


def tokens_in_memory(model: PreTrainedModel) -> int:
    """How many tokens may go through a model at once.

    On a CPU 2,048 a core, at most 16,384: more are no quicker. On CUDA half of the free memory over the activations of
    one token (its widest layer a few times over), at most 65,536. Memory that others take later is what halving is for.
    """
    if model.device.type != "cuda":
        return min(2048 * torch.get_num_threads(), 16384)
    config = text_config(model.config)
    sizes = [value for key in ("hidden_size", "intermediate_size") if isinstance(value := config.get(key), int)]
    bytes_per_token = 8 * sum(sizes or [16384]) * (torch.finfo(model.dtype).bits // 8)
    free, _ = torch.cuda.mem_get_info(model.device)
    return max(1024, min(65536, free // 2 // bytes_per_token))


def in_portions(
    items: Sequence[Item], work: Callable[[Sequence[Item]], list[Result]], *, describe: Callable[[Item], str]
) -> list[Result]:
    """work(items); when memory runs out, the same in two halves, and so on. One item too large is a ValueError."""
    try:
        return work(items)
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    # Outside the handler: the traceback would keep the failed attempt's tensors alive.
    if len(items) == 1:
        raise ValueError(f"out of memory with a single row, {describe(items[0])}: use a larger or another device")
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = len(items) // 2
    first = in_portions(items[:half], work, describe=describe)
    return first + in_portions(items[half:], work, describe=describe)


def is_out_of_memory(error: Exception) -> bool:
    """CUDA has its own exception; the CPU allocator raises a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _load_base(spec: ModelSpec) -> PreTrainedModel:
    config = read_config(spec)
    try:
        loaded = AutoModelForCausalLM.from_pretrained(
            spec.path,
            config=config,
            revision=spec.revision,
            dtype=DTYPES[spec.dtype],
            attn_implementation=_attention(config),
            trust_remote_code=spec.trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ValueError(sentence(f"model {spec.path} cannot be loaded from safetensors", error)) from None
    model, info = cast(tuple[PreTrainedModel, dict[str, set[str]]], loaded)
    if missing := sorted(info["missing_keys"]):
        raise ValueError(
            f"model {spec.path} lacks {len(missing)} of its weights (first: {missing[0]}), which would be random "
            "numbers: save the whole causal language model there"
        )
    return model


def _attention(config: PretrainedConfig) -> str:
    """sdpa, but eager where attention scores are capped (Gemma 2): transformers' sdpa ignores the cap silently."""
    return "eager" if text_config(config).get("attn_logit_softcapping") is not None else "sdpa"


def _with_adapter(model: PreTrainedModel, spec: ModelSpec) -> PreTrainedModel:
    """The base with LoRA layers beside its own; the adapter stays in float32 where the base is bfloat16."""
    with_adapter = PeftModel.from_pretrained(model, str(adapter_folder(spec)), is_trainable=False)
    return cast(PreTrainedModel, with_adapter.get_base_model())


def _check_place(spec: ModelSpec) -> None:
    """Say what is wrong with a local path before transformers asks the hub for it."""
    require_no_address(spec.path, "a model", "its folder or its name on the hub")
    folder = Path(spec.path)
    if folder.is_dir():
        if (folder / "adapter_config.json").is_file():
            _check_adapter_weights(folder)
        if (folder / "config.json").is_file():
            _check_weights(folder)
        elif not (folder / "adapter_config.json").is_file():
            raise ValueError(f"model folder {folder} holds no config.json or adapter_config.json: name a checkpoint")
    elif folder.exists():
        raise ValueError(f"model {spec.path} is a file: give the folder of a safetensors checkpoint (GGUF is not read)")
    elif folder.is_absolute() or spec.path.startswith((".", "~")) or spec.path.count("/") > 1 or _is_beside(folder):
        raise ValueError(f"model folder {spec.path} does not exist: give a checkpoint's folder or a hub name")


def _is_beside(folder: Path) -> bool:
    """a/b where a folder a is here: a misspelt folder rather than a name on the hub."""
    return folder.parent != Path() and folder.parent.is_dir()


def _check_weights(folder: Path) -> None:
    if any(folder.glob("*.safetensors")):
        return
    found = sorted(file.name for file in folder.iterdir() if file.suffix in (".bin", ".pt", ".pth", ".gguf"))
    got = f"only {found[0]}" if found else "no weights"
    hint = _convert_hint(folder) if found and not found[0].endswith(".gguf") else "save it so"
    raise ValueError(f"model folder {folder} holds {got}: expected *.safetensors; {hint}")


def _check_adapter_weights(folder: Path) -> None:
    """transformers, PEFT and vLLM would each take a pickled adapter where there is no other."""
    if (folder / "adapter_model.safetensors").is_file():
        return
    found = next((name for name in ("adapter_model.bin", "adapter_model.pt") if (folder / name).exists()), "no weights")
    raise ValueError(f"adapter {folder} has no adapter_model.safetensors (but {found}): {_convert_hint(folder)}")


def _convert_hint(place: object) -> str:
    return (
        f"pickled weights can run code and are never read; convert them with: crossward convert {place} --output FOLDER"
    )


def _is_adapter(spec: ModelSpec) -> bool:
    folder = Path(spec.path)
    if folder.is_dir():
        return (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file()
    try:
        return find_adapter_config_file(spec.path, revision=spec.revision) is not None
    except (OSError, ValueError) as error:
        raise ValueError(sentence(f"model {spec.path} is neither a folder nor a reachable hub name", error)) from None


def adapter_folder(spec: ModelSpec) -> Path:
    """Where an adapter's files are; those of a hub name are fetched."""
    if Path(spec.path).is_dir():
        return Path(spec.path)
    wanted = ["adapter_config.json", "adapter_model.safetensors"]
    folder = Path(snapshot_download(spec.path, revision=spec.revision, allow_patterns=wanted))
    if not (folder / "adapter_model.safetensors").is_file():
        raise ValueError(f"adapter {spec.path} has no adapter_model.safetensors: {_convert_hint(spec.path)}")
    return folder


def sentence(what: str, error: Exception) -> str:
    """Our sentence, and the first line of the library's own."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"{what}: {visible_line(lines[0])[:300]}"

"""A checkpoint's shape for planning, from its configuration alone: nothing is downloaded and no weights are read.

The model is built without memory for its weights (torch's meta device) and counted. Knows no plan.
"""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from huggingface_hub import try_to_load_from_cache
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig

from crossward.core.workload import ModelShape
from crossward.engines.models import base_spec, read_config, text_config
from crossward.engines.protocols import ModelSpec


def read_shape(spec: ModelSpec) -> ModelShape | None:
    """The shape of a local checkpoint (of an adapter: of its base), or of a hub name that was downloaded before.

    None where it is neither. ValueError where the configuration is there and cannot be read.
    """
    if not Path(spec.path).is_dir() and not isinstance(_cached(spec), str):
        return None
    base = base_spec(spec) if Path(spec.path).is_dir() else spec
    if base.path != spec.path and not Path(base.path).is_dir() and not isinstance(_cached(base), str):
        return None
    local = base if Path(base.path).is_dir() else replace(base, path=str(Path(str(_cached(base))).parent))
    config = read_config(local)
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=spec.trust_remote_code)
    except (ValueError, KeyError, ImportError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"the size of {spec.path} cannot be told from its configuration ({str(error).splitlines()[0]}): give its "
            "parameters with --parameters"
        ) from None
    return _shape(model, config)


def _cached(spec: ModelSpec) -> object:
    """Where the configuration lies in the hub's cache; no text where it does not."""
    with suppress(ValueError):
        return try_to_load_from_cache(spec.path, "config.json", revision=spec.revision)
    return None


def _shape(model: nn.Module, config: PretrainedConfig) -> ModelShape:
    values = text_config(config)

    def number(*keys: str, default: int) -> int:
        found = (values.get(key) for key in keys)
        return next((value for value in found if isinstance(value, int) and value > 0), default)

    hidden = number("hidden_size", "n_embd", "d_model", default=1)
    heads = number("num_attention_heads", "n_head", default=1)
    size = number("head_dim", default=max(1, hidden // heads))
    key_heads = number("num_key_value_heads", default=heads)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    experts = sum(each.numel() for name, each in model.named_parameters() if ".experts." in name)
    n_experts = number("num_local_experts", "num_experts", "n_routed_experts", default=1)
    used = number("num_experts_per_tok", default=n_experts)
    linears = [module for name, module in model.named_modules() if isinstance(module, nn.Linear) and name != "lm_head"]
    return ModelShape(
        parameters=parameters,
        layers=number("num_hidden_layers", "n_layer", default=1),
        hidden=hidden,
        intermediate=number("intermediate_size", "n_inner", default=4 * hidden),
        attention_width=heads * size,
        kv_width=key_heads * size,
        vocabulary=number("vocab_size", default=1),
        tied=bool(values.get("tie_word_embeddings")),
        adapter_width=sum(linear.in_features + linear.out_features for linear in linears),
        active_parameters=round(parameters - experts * (1.0 - used / n_experts)) if experts else None,
    )

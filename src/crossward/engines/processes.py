"""The processes of one training: which of them this is, what they agree on, and the weights gathered from all of them.

torchrun or accelerate started them and says so in the environment. Without gradients nothing here is computed; the
library's Trainer and accelerate do the exchange of gradients.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType
from peft import PeftModel
from torch import Tensor, distributed
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.nn import functional
from transformers import PreTrainedModel, TrainingArguments

from crossward.engines.models import resolve_device
from crossward.engines.state_files import Sharding

Weights = dict[str, Tensor]
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """`number` of `count`, `local` among this machine's; `sharding`: whether each holds a part of the weights."""

    count: int = 1
    number: int = 0
    local: int = 0
    sharding: Sharding = "none"

    @property
    def first(self) -> bool:
        """The one that writes."""
        return self.number == 0

    @property
    def sharded(self) -> bool:
        return self.sharding != "none"

    @property
    def plain(self) -> bool:
        """One process with whole weights: the library's Trainer keeps its states as of any training."""
        return self.count == 1 and not self.sharded

    def accumulation(self, batch: int, micro: int) -> int:
        """Micro-batches of a process in a step. Raises ValueError where a step cannot be shared out evenly."""
        if batch % micro:
            raise ValueError(f"batch_size must be a multiple of micro_batch_size, got {batch} and {micro}")
        if batch % (micro * self.count):
            raise ValueError(
                f"batch_size {batch} cannot be shared out over {self.count} processes in micro-batches of {micro}: "
                f"expected a multiple of {micro * self.count}"
            )
        return batch // (micro * self.count)

    def device(self, name: str) -> str:
        """Where this process trains: its own GPU, where the recipe's device is one."""
        if self.plain:
            return name
        if resolve_device(name).type == "cpu":
            return "cpu"
        if self.local >= torch.cuda.device_count():
            raise ValueError(
                f"process {self.local + 1} of this machine has no GPU: {torch.cuda.device_count()} are visible, so "
                "launch fewer processes"
            )
        return f"cuda:{self.local}"

    def begin(self, args: TrainingArguments) -> None:
        """Between the arguments, with which the processes find each other, and the model's sharding.

        accelerate shards on accelerators only. On a CPU, where FSDP2 works as well and tests run, it is told that the
        processes are of that kind; the device stays.
        """
        if self.sharding == "fsdp2" and args.device.type == "cpu":
            PartialState().distributed_type = DistributedType.MULTI_GPU

    def keep_float32(self, accelerator: Accelerator) -> None:
        """Before the model is sharded: where the recipe says bfloat16, only what is computed with is bfloat16.

        accelerate would let FSDP2 round all that a model gives, our log-probabilities too, and add up gradients in
        bfloat16; DeepSpeed would add them up so over the micro-batches as well as over the processes.
        """
        if accelerator.mixed_precision != "bf16":
            return
        match self.sharding:
            case "none":
                pass
            case "fsdp2":
                plugin = accelerator.state.fsdp_plugin
                assert plugin is not None, "accelerate shards by it"
                policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
                plugin.mixed_precision_policy = policy
            case "deepspeed":
                plugin = accelerator.state.deepspeed_plugin
                assert plugin is not None, "accelerate shards by it"
                plugin.deepspeed_config |= {
                    "communication_data_type": "fp32",
                    "data_types": {"grad_accum_dtype": "fp32"},
                }

    def before_rounding(self, accelerator: Accelerator, model: PreTrainedModel | PeftModel) -> Weights:
        """The trained weights that `put_back` needs: DeepSpeed rounds the model and makes its float32 ones of that, so
        that a second iteration would begin without the small updates of the first.
        """
        if self.sharding != "deepspeed" or accelerator.mixed_precision != "bf16":
            return {}
        return {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}

    def put_back(self, accelerator: Accelerator, model: PreTrainedModel | PeftModel, weights: Weights) -> None:
        """Float32 weights as they were read, each process its part; what is computed with stays their rounding."""
        from deepspeed import utils  # pyright: ignore[reportMissingImports]

        plugin = accelerator.state.deepspeed_plugin
        assert plugin is not None, "accelerate shards by it"
        for name, parameter in model.named_parameters():
            if (whole := weights.get(name)) is None:
                continue
            if plugin.zero_stage < 3:
                utils.safe_set_full_fp32_param(parameter, whole)
            else:
                size = utils.safe_get_local_fp32_param(parameter).numel()
                utils.safe_set_local_fp32_param(parameter, part_of(whole, self.number, size))

    def agree(self, wish: bool, device: torch.device) -> bool:
        """The first process's wish, for all."""
        if self.count == 1:
            return wish
        said = torch.tensor([int(wish)], device=device)
        distributed.broadcast(said, src=0)
        return bool(said.item())

    def wait(self) -> None:
        """Until all are here."""
        if self.count > 1:
            distributed.barrier()

    def of_first(self, value: Value) -> Value:
        """The first process's value, for all."""
        if self.count == 1:
            return value
        said = [value]
        distributed.broadcast_object_list(said, src=0)
        return said[0]

    def of_all(self, value: Value) -> list[Value]:
        """Every process's value, in their order."""
        if self.count == 1:
            return [value]
        said: list[Any] = [None] * self.count
        distributed.all_gather_object(said, value)
        return said

    def gathered(self, model: PreTrainedModel | PeftModel, wrapped: Any) -> Weights | None:
        """The trained weights on the CPU, in the first process, where no process holds them all; else None.

        `wrapped` is the model as the library trains it. Of tied weights one name stays, as where they are saved whole.
        Of an adapter the base is left out.
        """
        match self.sharding:
            case "none":
                return None
            case "fsdp2":
                adapter = isinstance(model, PeftModel)
                options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=adapter)
                return _kept(model, get_model_state_dict(wrapped, options=options))
            case "deepspeed":
                return self._master_weights(model)

    def _master_weights(self, model: PreTrainedModel | PeftModel) -> Weights:
        """ZeRO's float32 weights: those that it computes with may be bfloat16, in which small updates are lost."""
        from deepspeed.utils import safe_get_full_fp32_param  # pyright: ignore[reportMissingImports]

        found: Weights = {}
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            whole = safe_get_full_fp32_param(parameter)  # together with all others
            if self.first:
                found[name] = whole.detach().cpu().clone()
        return found


ALONE = Processes()


def processes_here(environment: Mapping[str, str] = os.environ) -> Processes:
    """What torchrun and accelerate say in the environment. Raises ValueError for what this training does not know."""
    flags = {name: environment.get(f"ACCELERATE_USE_{name}", "false").lower() == "true" for name in _FLAGS}
    if odd := [name for name in ("MEGATRON_LM", "PARALLELISM_CONFIG") if flags[name]]:
        raise ValueError(f"training does not know {odd[0]} of accelerate's configuration: use DDP, FSDP2 or ZeRO")
    if flags["FSDP"] and environment.get("FSDP_VERSION", "1") != "2":
        raise ValueError("training takes FSDP in version 2 only: set fsdp_version: 2 in accelerate's configuration")
    return Processes(
        count=int(environment.get("WORLD_SIZE", "1")),
        number=int(environment.get("RANK", "0")),
        local=int(environment.get("LOCAL_RANK", "0")),
        sharding="fsdp2" if flags["FSDP"] else "deepspeed" if flags["DEEPSPEED"] else "none",
    )


def part_of(whole: Tensor, number: int, size: int) -> Tensor:
    """The values that process `number` holds of a weight, `size` of them in each process: the last are filled up."""
    part = whole.flatten()[size * number : size * (number + 1)]
    return functional.pad(part, (0, size - part.numel()))


_FLAGS = ("FSDP", "DEEPSPEED", "MEGATRON_LM", "PARALLELISM_CONFIG")


def _kept(model: PreTrainedModel | PeftModel, state: dict[str, Any]) -> Weights:
    tied = {name for name, _ in model.named_parameters(remove_duplicate=False)} - {
        name for name, _ in model.named_parameters()
    }
    return {name: value for name, value in state.items() if name not in tied and isinstance(value, Tensor)}

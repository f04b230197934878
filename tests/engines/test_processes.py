"""What a process knows of the others, from its environment, and what it refuses."""

from types import SimpleNamespace

import pytest
import torch

from crossward.engines.processes import ALONE, Processes, part_of, processes_here


def test_from_the_environment():
    assert processes_here({}) == ALONE
    here = {"WORLD_SIZE": "8", "RANK": "5", "LOCAL_RANK": "1"}
    assert processes_here(here) == Processes(count=8, number=5, local=1)
    assert not processes_here(here).first
    fsdp = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
    assert processes_here(here | fsdp).sharding == "fsdp2"
    assert processes_here(here | {"ACCELERATE_USE_DEEPSPEED": "true"}).sharding == "deepspeed"


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"ACCELERATE_USE_FSDP": "true"}, "FSDP in version 2 only"),
        ({"ACCELERATE_USE_MEGATRON_LM": "true"}, "does not know MEGATRON_LM"),
    ],
)
def test_what_is_refused(environment: dict[str, str], told: str):
    with pytest.raises(ValueError, match=told):
        processes_here(environment)


def test_accumulation_by_hand():
    """32 pairs a step, 2 at once in each of 4 processes: 4 micro-batches each."""
    assert Processes(count=4).accumulation(32, 2) == 4
    assert ALONE.accumulation(32, 2) == 16
    with pytest.raises(ValueError, match="batch_size 32 cannot be shared out over 3 processes in micro-batches of 2"):
        Processes(count=3).accumulation(32, 2)
    with pytest.raises(ValueError, match="batch_size must be a multiple of micro_batch_size, got 32 and 5"):
        ALONE.accumulation(32, 5)


def test_one_process_decides_for_itself():
    cpu = torch.device("cpu")
    assert (ALONE.agree(True, cpu), ALONE.agree(False, cpu)) == (True, False)
    assert Processes(count=2, number=1, local=1).device("cpu") == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="it names a GPU that is not there")
def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert Processes(count=2).device("auto") == "cuda:0"
    with pytest.raises(ValueError, match="process 2 of this machine has no GPU: 1 are visible, so launch fewer"):
        Processes(count=2, number=1, local=1).device("auto")


def test_log_probabilities_stay_float32_under_fsdp2():
    plugin = SimpleNamespace(mixed_precision_policy="accelerate's")
    accelerator = SimpleNamespace(mixed_precision="bf16", state=SimpleNamespace(fsdp_plugin=plugin))
    Processes(count=2).keep_float32(accelerator)  # pyright: ignore[reportArgumentType]
    assert plugin.mixed_precision_policy == "accelerate's"
    Processes(count=2, sharding="fsdp2").keep_float32(accelerator)  # pyright: ignore[reportArgumentType]
    policy = plugin.mixed_precision_policy
    assert (policy.param_dtype, policy.reduce_dtype, policy.output_dtype) == (torch.bfloat16, torch.float32, None)


def test_gradients_are_added_up_in_float32_under_deepspeed():
    plugin = SimpleNamespace(deepspeed_config={"bf16": {"enabled": True}})
    accelerator = SimpleNamespace(mixed_precision="no", state=SimpleNamespace(deepspeed_plugin=plugin))
    zero = Processes(count=2, sharding="deepspeed")
    zero.keep_float32(accelerator)  # pyright: ignore[reportArgumentType]
    assert plugin.deepspeed_config == {"bf16": {"enabled": True}}
    accelerator.mixed_precision = "bf16"
    zero.keep_float32(accelerator)  # pyright: ignore[reportArgumentType]
    assert plugin.deepspeed_config["communication_data_type"] == "fp32"
    assert plugin.deepspeed_config["data_types"] == {"grad_accum_dtype": "fp32"}


def test_weights_before_deepspeed_rounds_them():
    model = torch.nn.Linear(2, 3)
    model.bias.requires_grad_(False)
    zero, bfloat16 = Processes(count=2, sharding="deepspeed"), SimpleNamespace(mixed_precision="bf16")
    kept = zero.before_rounding(bfloat16, model)  # pyright: ignore[reportArgumentType]
    before = model.weight.detach().clone()
    model.weight.data = model.weight.data.to(torch.bfloat16)
    assert list(kept) == ["weight"], "what is not trained is not needed"
    assert torch.equal(kept["weight"], before)
    assert Processes(count=2).before_rounding(bfloat16, model) == {}  # pyright: ignore[reportArgumentType]


def test_the_part_of_a_weight_by_hand():
    """5 values over 2 processes: 3 in each, of which the last is filled up."""
    whole = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]])
    assert part_of(whole, 0, 3).tolist() == [1.0, 2.0, 3.0]
    assert part_of(whole, 1, 3).tolist() == [4.0, 5.0, 0.0]
    assert part_of(whole, 2, 3).tolist() == [0.0, 0.0, 0.0]

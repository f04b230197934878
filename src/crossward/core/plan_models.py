"""FLOP and seconds of a model that reads: scoring groups, and training on pairs. Formulas in docs/planning.md."""

from crossward.core.hardware import Hardware
from crossward.core.workload import Workload

# An optimiser step's traffic: Adam reads weight, gradient and moments and writes three of them, the norm and clearing
# go over the gradient three times more.
OPTIMISER_BYTES = 40.0


def scoring_flops(work: Workload, groups: float, prompt_tokens: float, responses: float) -> tuple[float, float]:
    """(unique tokens, FLOP) of one model: a prompt once a group, logits at response tokens alone."""
    shape, length = work.shape, work.drawing.response_tokens
    response_tokens = groups * responses * length
    flops = groups * prompt_tokens * shape.token_flops(prompt_tokens / 2.0)
    flops += response_tokens * (shape.token_flops(prompt_tokens + length / 2.0) + shape.head_flops)
    return groups * prompt_tokens + response_tokens, flops


def scoring(work: Workload, hardware: Hardware, groups: float, responses: float) -> tuple[float, float, float]:
    """(tokens, FLOP, seconds) of one model on `groups` of `responses` each, start apart."""
    measured = hardware.efficiency
    tokens, flops = scoring_flops(work, groups, work.judged_tokens, responses)
    seconds = flops / (hardware.flops(work.value_bytes) * measured.score_share)
    seconds += groups * work.shape.layers * measured.group_s + groups * responses * measured.row_s
    return tokens, flops, seconds


def training_flops(work: Workload, pairs: float) -> tuple[float, float]:
    """(tokens, FLOP) of so many pairs: the pair's prompt once, both responses behind it; forward is 2 a parameter.

    All weights: forward + twice backward, 3 × forward. LoRA: nothing is derived by the base's weights, 2 × forward.
    Checkpointing: forward once more.
    """
    lora = work.schedule.lora_rank is not None
    passes = (2.0 if lora else 3.0) + (1.0 if work.schedule.checkpointing else 0.0)
    tokens, forward = scoring_flops(work, pairs, work.drawing.prompt_tokens, 2.0)
    return tokens, passes * forward


def step_seconds(work: Workload, hardware: Hardware, pairs: float, steps: int) -> float:
    """Optimiser steps on so many pairs.

    FLOP over the share of the matrix rate, what forward and backward of a micro-batch and of a group take however
    small they are, and the optimiser's traffic.
    """
    shape, measured, schedule = work.shape, hardware.efficiency, work.schedule
    # On a GPU all weights are held in float32 and multiplied in bfloat16; on a CPU they are multiplied as they are.
    trained_bytes = work.value_bytes if hardware.kind == "gpu" or schedule.lora_rank is not None else 4
    trained = float(shape.parameters if work.adapter_parameters is None else work.adapter_parameters)
    passes = 3.0 if schedule.checkpointing else 2.0
    calls = pairs / schedule.micro_pairs * (measured.step_s + shape.layers * measured.layer_s)
    return (
        training_flops(work, pairs)[1] / (hardware.flops(trained_bytes) * measured.train_share)
        + passes * (calls + pairs * shape.layers * measured.group_s)
        + steps * OPTIMISER_BYTES * trained / (1e9 * hardware.bandwidth_gb_s * measured.bandwidth_share)
    )

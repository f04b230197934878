"""A tiny workload and two machines of round numbers, for arithmetic in the head."""

from dataclasses import replace
from typing import Any

from crossward.core.hardware import Efficiency, Hardware
from crossward.core.workload import Drawing, ModelShape, Rating, Schedule, Workload

SHAPE = ModelShape(
    parameters=1000,
    layers=2,
    hidden=8,
    intermediate=16,
    attention_width=8,
    kv_width=4,
    vocabulary=10,
    tied=True,
    adapter_width=50,
)
EFFICIENCY = Efficiency(
    read_share=0.6,
    draw_share=0.4,
    bandwidth_share=0.5,
    score_share=0.8,
    train_share=0.6,
    step_s=0.001,
    layer_s=0.0005,
    vllm_step_s=0.02,
    row_s=0.0001,
    group_s=0.0005,
    pair_s=0.00001,
    start_s=0.3,
    vllm_start_s=30.0,
    train_start_s=1.0,
)
CPU = Hardware(
    name="two-cores",
    kind="cpu",
    memory_gib=24,
    float32_tflops=0.2,
    bfloat16_tflops=0.4,
    bandwidth_gb_s=20,
    disk_gb_s=1.0,
    host_gib=24,
    efficiency=EFFICIENCY,
)
GPU = replace(
    CPU,
    name="card",
    kind="gpu",
    memory_gib=80,
    float32_tflops=67,
    bfloat16_tflops=989,
    bandwidth_gb_s=3350,
    host_gib=256,
)


def drawing(**changes: Any) -> Drawing:
    base = Drawing(prompts=96, languages=1, n=4, prompt_tokens=6.0, response_tokens=8.0, max_new_tokens=32)
    return replace(base, **changes)


def workload(**changes: Any) -> Workload:
    """`changes` are of the workload or, by name, of its schedule."""
    schedule = Schedule(
        batch_pairs=8,
        micro_pairs=1,
        epochs=1.0,
        max_steps=None,
        max_length=512,
        checkpointing=False,
        lora_rank=None,
        save_bytes=4,
    )
    own = {name: changes.pop(name) for name in list(changes) if name in Schedule.__dataclass_fields__}
    base = Workload(
        shape=SHAPE,
        value_bytes=4,
        engine="transformers",
        drawing=drawing(),
        judged_tokens=6.0,
        rating=Rating(),
        schedule=replace(schedule, **own),
        iterations=2,
        noise_prompts=2,
        answers=drawing(prompts=6, n=1),
        policies=4,
        judging=None,
        batch_rows=8,
    )
    return replace(base, **changes)

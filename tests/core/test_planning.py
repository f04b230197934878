"""What a recipe costs: every formula by hand on numbers that can be done in the head, and how costs grow."""

from dataclasses import replace

import pytest
from tests.support.planning import CPU, GPU, SHAPE, drawing, workload

from crossward.core.hardware import Factors
from crossward.core.plan_drawing import VOCABULARY_BYTES, drawing_seconds
from crossward.core.plan_memory import (
    PROCESS_BYTES,
    checkpoint_bytes,
    disk,
    host_bytes,
    sampling_bytes,
    scoring_bytes,
    training_bytes,
    vllm_rows,
)
from crossward.core.plan_models import OPTIMISER_BYTES, scoring_flops, step_seconds, training_flops
from crossward.core.planning import plan
from crossward.core.workload import Judging, Rating, typical_shape


def test_the_shape_by_hand():
    """1,000 parameters, of which 10 words × 8 features are head and embedding in one: 920 in the layers."""
    assert SHAPE.body_parameters == 920
    assert replace(SHAPE, tied=False).body_parameters == 840
    assert replace(SHAPE, active_parameters=500).body_parameters == 420
    assert SHAPE.head_flops == 2 * 8 * 10
    assert SHAPE.token_flops(5.0) == 2 * 920 + 4 * 2 * 8 * 5
    assert SHAPE.cache_bytes(2) == 2 * 2 * 4 * 2


@pytest.mark.parametrize(
    ("parameters", "layers", "hidden"), [(1.24e9, 16, 2048), (8.03e9, 32, 4096), (70.6e9, 80, 8192)]
)
def test_a_typical_shape_is_near_that_of_llama_3(parameters: float, layers: int, hidden: int):
    shape = typical_shape(parameters)
    assert shape.layers == pytest.approx(layers, rel=0.25)
    assert shape.hidden == pytest.approx(hidden, rel=0.25)
    assert shape.parameters == parameters


def test_the_longest_of_a_batch():
    """Geometric lengths: of two, 1 + 1/2 means; never more than the limit."""
    assert drawing(response_tokens=10.0, max_new_tokens=100).longest(1) == 10.0
    assert drawing(response_tokens=10.0, max_new_tokens=100).longest(2) == pytest.approx(15.0, rel=0.02)
    assert drawing(response_tokens=10.0, max_new_tokens=12).longest(64) == 12.0


def test_a_batch_of_transformers_by_hand():
    """One batch of 4 rows, prompts of 6 tokens, 8 steps as the limit is 8: context 10, two queries a key, so that the

    cache is moved 2 + 2 × 2 times.
    """
    work = workload(
        batch_rows=4, drawing=drawing(prompts=2, n=2, prompt_tokens=6.0, response_tokens=8.0, max_new_tokens=8)
    )
    efficiency = CPU.efficiency
    moved = 1000 * 4 + 4 * (10 * 6 * SHAPE.cache_bytes(4) + VOCABULARY_BYTES * 10)
    flops = 4 * (SHAPE.token_flops(10) + SHAPE.head_flops)
    step = efficiency.step_s + 2 * efficiency.layer_s + moved / (20e9 * 0.5) + flops / (0.2e12 * 0.4)
    reading = 24 * SHAPE.token_flops(3.0) / (0.2e12 * 0.6)
    seconds, read = drawing_seconds(work, work.drawing, CPU)
    assert read == 24
    assert seconds.work == pytest.approx(8 * step + reading + 4 * efficiency.row_s)
    assert seconds.fixed == pytest.approx(4000 / 1e9 + efficiency.start_s)


def test_batches_are_of_one_shard_of_one_language():
    """3 languages × 10 prompts × 2: shards of 4 prompts make 3 calls a language of 6.7 rows, each 2 batches of 5."""
    one = workload(batch_rows=5, shard_prompts=4, drawing=drawing(prompts=30, languages=3, n=2))
    steps = one.drawing.longest(60 / 9 / 2)
    only_steps = replace(CPU, efficiency=replace(CPU.efficiency, layer_s=0.0, row_s=0.0, step_s=1.0))
    assert drawing_seconds(one, one.drawing, only_steps)[0].work == pytest.approx(18 * steps, rel=1e-4)


def test_vllm_by_hand():
    """8 requests, 4 at once: 4 × 10 / 4 steps in which all work, then as many as the longest of four has."""
    work = workload(
        engine="vllm", value_bytes=2, drawing=drawing(prompts=4, n=2, response_tokens=10.0, max_new_tokens=40)
    )
    room = 4.5 * work.shape.cache_bytes(2) * (work.drawing.prompt_tokens + 10.0)
    small = replace(
        GPU,
        memory_gib=(room + 2000 + 2e9) / 0.9 / 2**30,
        efficiency=replace(GPU.efficiency, vllm_step_s=1.0, row_s=0.0),
    )
    assert vllm_rows(work, work.drawing, small) == pytest.approx(4.5)
    steps = (8 - 4.5) * 10 / 4.5 + work.drawing.longest(4.5)
    assert drawing_seconds(work, work.drawing, small)[0].work == pytest.approx(steps, rel=1e-4)


def test_a_model_that_vllm_cannot_hold_has_no_rows():
    assert vllm_rows(workload(engine="vllm"), drawing(), replace(GPU, memory_gib=2.0)) == 0.0


def test_scoring_by_hand():
    """2 groups: prompts of 6 tokens once, 3 responses of 4 tokens that see 6 + 2, logits at those alone."""
    work = workload(drawing=drawing(response_tokens=4.0))
    tokens, flops = scoring_flops(work, 2.0, 6.0, 3.0)
    assert tokens == 2 * (6 + 12)
    assert flops == 12 * SHAPE.token_flops(3.0) + 24 * (SHAPE.token_flops(8.0) + SHAPE.head_flops)


@pytest.mark.parametrize(
    ("lora", "checkpointing", "passes"), [(None, False, 3), (None, True, 4), (4, False, 2), (4, True, 3)]
)
def test_training_is_forward_times_passes(lora: int | None, checkpointing: bool, passes: int):
    """All weights: forward and twice backward; LoRA once backward; checkpointing forward again."""
    work = workload(lora_rank=lora, checkpointing=checkpointing)
    tokens, forward = scoring_flops(work, 10.0, work.drawing.prompt_tokens, 2.0)
    assert training_flops(work, 10.0) == (tokens, passes * forward)


def test_an_optimiser_step_moves_the_trained_weights_alone():
    still = replace(CPU, float32_tflops=1e12, efficiency=replace(CPU.efficiency, step_s=0.0, layer_s=0.0, group_s=0.0))
    full, adapter = workload(), workload(lora_rank=4)
    assert step_seconds(full, still, 0.0, 5) == pytest.approx(5 * OPTIMISER_BYTES * 1000 / (20e9 * 0.5))
    assert step_seconds(adapter, still, 0.0, 5) == pytest.approx(5 * OPTIMISER_BYTES * 4 * 50 / (20e9 * 0.5))


def test_steps_pairs_and_their_limits():
    work = workload(drawing=drawing(prompts=50), batch_pairs=8, epochs=2.0)
    assert (work.pairs, work.steps, work.trained_pairs) == (50.0, 14, 100.0)
    limited = workload(drawing=drawing(prompts=100), batch_pairs=8, max_steps=3)
    assert (limited.steps, limited.trained_pairs) == (3, 24.0)
    assert workload(drawing=drawing(prompts=100), replay_share=0.2).pairs == 125.0


def test_memory_by_hand():
    """Sampling: weights, 4 rows of 6 + 8 tokens, 4 × 10 logits. Training: 16 bytes a parameter; LoRA its adapter's."""
    work = workload(batch_rows=4, drawing=drawing(prompts=4, n=2, prompt_tokens=6.0, max_new_tokens=8))
    assert sampling_bytes(work, work.drawing, CPU) == 4000 + 4 * 14 * SHAPE.cache_bytes(4) + 4 * 10 * 28 + PROCESS_BYTES
    assert sampling_bytes(replace(work, engine="vllm"), work.drawing, GPU) == pytest.approx(0.9 * 80 * 2**30)
    assert scoring_bytes(replace(work, pack_tokens=100), CPU) == 2 * 2 * 4000 + 100 * (32 + 48) * 4 + PROCESS_BYTES
    tokens = 6 + 2 * 8
    activations, logits = tokens * 34 * 8 * 2 * 2, 12 * tokens * 10
    assert training_bytes(work, CPU) == 16_000 + activations + logits + PROCESS_BYTES
    adapted = replace(work, schedule=replace(work.schedule, lora_rank=4))
    assert training_bytes(adapted, CPU) == 4000 + 16 * 200 + activations + logits + PROCESS_BYTES
    assert training_bytes(work, replace(CPU, training_devices=4)) == 4000 + activations + logits + PROCESS_BYTES


def test_the_drivers_memory_by_hand():
    """Pairing 4 prompts × 2 responses in one language: 64 bytes a response; in two, half of it, and 8 a prompt less."""
    work = workload(answers=None, drawing=drawing(prompts=4, n=2, languages=1))
    assert host_bytes(work) == PROCESS_BYTES + 4 * 2 * 64
    assert host_bytes(replace(work, drawing=replace(work.drawing, languages=2))) == PROCESS_BYTES + 4 * 2 * 32
    many = replace(work, drawing=replace(work.drawing, languages=100))
    assert host_bytes(many) == PROCESS_BYTES + 4 * 8
    held_out = drawing(prompts=3, prompt_tokens=6.0)
    assert host_bytes(replace(many, answers=held_out)) == PROCESS_BYTES + 4 * 8 + 3 * (1200 + 48)


def test_disk_holds_a_checkpoint_an_iteration_and_one_trainings_state():
    work = workload()
    assert checkpoint_bytes(work) == 4000
    found = disk(work)
    assert (found.checkpoints, found.training) == (8000, 12_000)
    assert disk(workload(lora_rank=4)).checkpoints == 2 * 4 * 200
    assert found.total == found.data + 20_000


def test_twice_the_prompts_take_twice_the_tokens_and_hours_beside_the_fixed_part():
    once, twice = (
        plan(workload(noise_prompts=0, answers=drawing(prompts=n), drawing=drawing(prompts=n)), CPU)
        for n in (960, 1920)
    )
    for small, large in zip(once.stages, twice.stages, strict=True):
        assert large.tokens == pytest.approx(2 * small.tokens)
        assert large.seconds.fixed == small.seconds.fixed
        assert large.seconds.work == pytest.approx(2 * small.seconds.work, rel=1e-9)


def test_more_responses_take_more_of_sampling_and_scoring_and_none_of_training():
    few, many = ({stage.name: stage for stage in plan(workload(drawing=drawing(n=n)), CPU).stages} for n in (4, 8))
    assert many["sample"].generated_tokens == 2 * few["sample"].generated_tokens
    assert many["sample"].seconds.work > few["sample"].seconds.work
    assert few["score"].scored_tokens < many["score"].scored_tokens < 2 * few["score"].scored_tokens, "prompts once"
    assert many["train"] == few["train"]


def test_more_devices_take_less_wall_time_and_no_less_device_time():
    work = workload(engine="vllm", value_bytes=2, drawing=drawing(prompts=100_000))
    one, eight = plan(work, GPU), plan(work, replace(GPU, devices=8, spread_share=0.95))
    assert eight.wall_hours < one.wall_hours
    assert eight.device_hours > one.device_hours
    sample, spread = one.stages[0], eight.stages[0]
    assert spread.wall_seconds == pytest.approx(sample.seconds.work / 8 / 0.95 + sample.seconds.fixed)
    assert {stage.name: stage.devices for stage in eight.stages}["train"] == 1, "one training is on one device"
    assert eight.paid_hours == 8 * eight.wall_hours


def test_devices_that_hold_one_model_together_are_one_copy():
    work = workload(engine="vllm", value_bytes=2, drawing=drawing(prompts=100_000), tensor_parallel=2)
    one, four = (plan(work, replace(GPU, devices=n)).stages[0] for n in (1, 4))
    assert (one.devices, one.split, four.devices) == (2, 2, 4)
    assert four.wall_seconds == pytest.approx(four.seconds.work / 2 + four.seconds.fixed)
    assert one.device_hours == pytest.approx(one.times * 2 * one.seconds.total / 3600)


def test_memory_grows_with_what_is_in_it():
    base = workload()
    larger = replace(base, shape=replace(SHAPE, parameters=10_000))
    longer = replace(base, drawing=replace(base.drawing, max_new_tokens=500))
    for bytes_of in (
        lambda work: sampling_bytes(work, work.drawing, CPU),
        lambda work: scoring_bytes(work, CPU),
        lambda work: training_bytes(work, CPU),
    ):
        assert bytes_of(larger) > bytes_of(base)
        assert bytes_of(longer) >= bytes_of(base)


def test_factors_of_a_probe_multiply_work_and_leave_starts_alone():
    plain, probed = (
        plan(workload(), CPU),
        plan(workload(), replace(CPU, factors=Factors(sample=3.0, score=2.0, train=1.0))),
    )
    before, after = ({stage.name: stage for stage in each.stages} for each in (plain, probed))
    assert after["sample"].seconds.work == pytest.approx(3 * before["sample"].seconds.work)
    assert after["evaluate"].seconds.work == pytest.approx(3 * before["evaluate"].seconds.work)
    assert after["score"].seconds.work == pytest.approx(2 * before["score"].seconds.work)
    assert after["sample"].seconds.fixed == before["sample"].seconds.fixed
    assert before["train"].seconds.work < after["train"].seconds.work < 2 * before["train"].seconds.work


def test_the_stages_follow_the_recipe():
    def names(**changes: object) -> list[str]:
        return [stage.name for stage in plan(replace(workload(), **changes), CPU).stages]

    assert names() == ["sample", "score", "pair", "train", "evaluate"]
    assert names(answers=None) == ["sample", "score", "pair", "train"]
    assert names(rating=Rating(kind="reward-model")) == ["sample", "rate", "pair", "train", "evaluate"]
    assert names(translates=2, foreign_share=0.8, direction=True) == [
        "sample",
        "translate",
        "pair",
        "train",
        "evaluate",
    ]
    local = Judging(questions=10, policies=3, prompt_tokens=100.0, local=True)
    assert names(judging=local)[-1] == "judge"


def test_two_views_are_scored_twice_and_bfloat16_has_its_noise_floor_in_float32():
    one, two = (plan(workload(rating=Rating(views=n)), CPU).stages[1] for n in (1, 2))
    assert two.scored_tokens == 2 * one.scored_tokens
    exact, rounded = (plan(workload(noise_prompts=2, value_bytes=n), CPU).stages[1] for n in (4, 2))
    assert rounded.scored_tokens > exact.scored_tokens


def test_a_rivals_reading_by_hand():
    work = workload(drawing=drawing(prompts=10, n=4, response_tokens=8.0), judged_tokens=6.0)
    rated = {
        "reward-model": 10 * 4 * 14,
        "judge": 10 * 4 * 3 * 14,
        "translation-likelihood": 10 * 0.5 * 16 * 16,
    }
    for kind, tokens in rated.items():
        rating = Rating(kind=kind, draws=3, written_tokens=5.0 if kind == "judge" else 0.0)
        found = plan(replace(work, rating=rating, foreign_share=0.5), CPU).stages[1]
        assert found.scored_tokens == tokens
        assert found.generated_tokens == (10 * 4 * 3 * 5 if kind == "judge" else 0)


def test_a_server_that_samples_takes_no_time_of_ours_but_handling():
    work = workload(engine="server")
    stage = plan(work, CPU).stages[0]
    assert stage.seconds.total == pytest.approx(work.drawing.responses * CPU.efficiency.row_s)
    assert stage.memory_bytes == 0

"""Seconds of drawing responses, by transformers and by vLLM. Plain arithmetic; formulas in docs/planning.md."""

from crossward.core.hardware import Hardware
from crossward.core.plan_cost import Seconds, StageCost
from crossward.core.plan_memory import sampling_bytes, vllm_rows, weight_bytes
from crossward.core.workload import Drawing, Workload

VOCABULARY_BYTES = 60.0  # read and written a row and word while a token is drawn (engines/hf_sampler.InverseCdf)


def drawn(name: str, times: int, work: Workload, drawing: Drawing, hardware: Hardware, disk_bytes: float) -> StageCost:
    if work.engine == "server" and name == "sample":
        row_s = hardware.efficiency.row_s * drawing.responses
        seconds, read = Seconds(work=row_s, fixed=0.0), float(drawing.responses * drawing.prompt_tokens)
        memory = 0.0
    else:
        seconds, read = drawing_seconds(work, drawing, hardware)
        memory = sampling_bytes(work, drawing, hardware)
    split = work.tensor_parallel if work.engine == "vllm" else 1
    return StageCost(
        name=name,
        times=times,
        seconds=seconds.scaled(hardware.factors.sample),
        devices=max(1, hardware.devices // split) * split,
        split=split,
        spread_share=hardware.spread_share,
        prompt_tokens=read,
        generated_tokens=drawing.tokens,
        flops=_drawing_flops(work, drawing, read),
        memory_bytes=memory,
        disk_bytes=disk_bytes,
    )


def _drawing_flops(work: Workload, drawing: Drawing, read: float) -> float:
    """Of the tokens that are kept: what rows do that have ended and wait for their batch is not in it."""
    shape, middle = work.shape, drawing.prompt_tokens + drawing.response_tokens / 2.0
    own = drawing.tokens * (shape.token_flops(middle) + shape.head_flops)
    return own + read * shape.token_flops(drawing.prompt_tokens / 2.0)


def drawing_seconds(work: Workload, drawing: Drawing, hardware: Hardware) -> tuple[Seconds, float]:
    """Seconds of drawing, and how many prompt tokens are read for it."""
    each = drawing.prompts / max(1, drawing.languages)
    calls = drawing.languages * max(1.0, -(-each // work.shard_prompts))
    rows_a_call = max(1.0, drawing.responses / calls)
    loading = weight_bytes(work) / (1e9 * hardware.disk_gb_s)
    measured = hardware.efficiency
    if work.engine == "vllm":
        seconds, read = _vllm_seconds(work, drawing, hardware, calls, rows_a_call)
        fixed = loading + measured.vllm_start_s
    else:
        seconds, read = _transformers_seconds(work, drawing, hardware, calls, rows_a_call)
        fixed = loading + measured.start_s
    return Seconds(work=seconds + drawing.responses * measured.row_s, fixed=fixed), read


def _transformers_seconds(
    work: Workload, drawing: Drawing, hardware: Hardware, calls: float, rows_a_call: float
) -> tuple[float, float]:
    """Batches of one shard's rows. Each reads every row's prompt and steps until its longest response has ended.

    A step reads the weights once and moves every row's cache (2 + 2 × queries a key) times: keys and values are joined
    anew (read, written), and repeated for every query head (written, read).
    """
    shape, measured = work.shape, hardware.efficiency
    batches_a_call = -(-rows_a_call // work.batch_rows)
    rows = rows_a_call / batches_a_call
    steps = max(1.0, drawing.longest(rows))
    context = drawing.prompt_tokens + steps / 2.0
    groups = shape.attention_width / max(1, shape.kv_width)
    moves = 2.0 + 2.0 * groups
    moved = weight_bytes(work) + rows * (
        context * moves * shape.cache_bytes(work.value_bytes) + VOCABULARY_BYTES * shape.vocabulary
    )
    flops = rows * (shape.token_flops(context) + shape.head_flops)
    step = (
        measured.step_s
        + shape.layers * measured.layer_s
        + moved / (1e9 * hardware.bandwidth_gb_s * measured.bandwidth_share)
        + flops / (hardware.flops(work.value_bytes) * measured.draw_share)
    )
    read = rows * drawing.prompt_tokens
    reading = _reading_seconds(work, drawing, hardware, read)
    batches = calls * batches_a_call
    return batches * (steps * step + reading), batches * read


def _vllm_seconds(
    work: Workload, drawing: Drawing, hardware: Hardware, calls: float, rows_a_call: float
) -> tuple[float, float]:
    """As many rows at once as its cache holds, the next where one has ended; a prompt is read once.

    A call is one shard. When no row waits any more, those at work end one by one, as long as the longest of them lasts:
    rows × mean tokens are drawn in `longest` steps.
    """
    rows = max(1.0, min(vllm_rows(work, drawing, hardware), rows_a_call))
    ending = max(1.0, drawing.longest(rows))
    left = min(rows, rows * drawing.response_tokens / ending)
    full = max(0.0, rows_a_call - rows) * drawing.response_tokens / rows
    seconds = full * _vllm_step(work, drawing, hardware, rows) + ending * _vllm_step(work, drawing, hardware, left)
    read = drawing.prompts * drawing.prompt_tokens
    return calls * seconds + _reading_seconds(work, drawing, hardware, read / work.tensor_parallel), read


def _vllm_step(work: Workload, drawing: Drawing, hardware: Hardware, rows: float) -> float:
    """Seconds of a token for each of `rows`: weights read once, every row's cache read once."""
    shape, measured, split = work.shape, hardware.efficiency, work.tensor_parallel
    context = drawing.prompt_tokens + drawing.response_tokens / 2.0
    moved = (weight_bytes(work) + rows * context * shape.cache_bytes(work.value_bytes)) / split
    flops = rows * (shape.token_flops(context) + shape.head_flops) / split
    return (
        measured.vllm_step_s
        + moved / (1e9 * hardware.bandwidth_gb_s * measured.bandwidth_share)
        + flops / (hardware.flops(work.value_bytes) * measured.draw_share)
    )


def _reading_seconds(work: Workload, drawing: Drawing, hardware: Hardware, tokens: float) -> float:
    rate = hardware.flops(work.value_bytes) * hardware.efficiency.read_share
    return tokens * work.shape.token_flops(drawing.prompt_tokens / 2.0) / rate

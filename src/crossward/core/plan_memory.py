"""How many bytes a stage needs at its peak, on a device, in the machine's own memory and on disk. Plain arithmetic.

Peaks are of the longest rows that the recipe allows, not of the mean ones: that is where memory runs out.
"""

from dataclasses import dataclass

from crossward.core.hardware import Hardware
from crossward.core.workload import Drawing, Workload

PROCESS_BYTES = 0.6e9  # Python, torch and their buffers; on a GPU its context
LOGIT_BYTES = 28  # a row and word while a token is drawn: scores, softmax in float32, sums in float64, the mask
VLLM_BYTES = 2e9  # activations and graphs that vLLM keeps beside weights and cache
VLLM_ROWS = 256  # sequences that vLLM works on at once, memory allowing
HEAD_BLOCK = 4096 * 16384 * 4 * 2  # scoring's block of logits on a GPU (engines/heads.py), twice
TRAIN_LOGITS = 3 * 2**28  # logits, their softmax and gradient: bounded by engines/heads.py
# Bytes on disk a token, measured on the tiny world's demo and on SmolLM2 (docs/planning.md).
SAMPLE_DISK, SCORE_DISK, PAIR_DISK, ANSWER_DISK = 5.0, 7.0, 9.0, 25.0
HOST_ROW_BYTES = 1200  # a prompt as Python values, its texts apart
RESPONSE_NUMBERS = 64.0  # measured at the peak of finding α, ten responses a prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """Bytes that a run leaves, and what one training needs besides while it goes on."""

    data: float
    checkpoints: float
    training: float

    @property
    def total(self) -> float:
        return self.data + self.checkpoints + self.training


def weight_bytes(work: Workload) -> float:
    """Of one model while it samples or scores: parameters × bytes a value."""
    return float(work.shape.parameters) * work.value_bytes


def vllm_rows(work: Workload, drawing: Drawing, hardware: Hardware) -> float:
    """Sequences that vLLM draws at once: (share × memory − weights − 2 GB) / (cache of one), at most 256.

    Of mean length; 0 where the weights alone do not fit. On a CPU the cache's size is a key of the recipe.
    """
    length = drawing.prompt_tokens + drawing.response_tokens
    each = max(1.0, work.shape.cache_bytes(work.value_bytes) * length)
    room = work.cpu_cache_gib * 2**30
    if hardware.kind == "gpu":
        split = work.tensor_parallel
        room = split * (work.cache_share * hardware.memory_bytes - VLLM_BYTES) - weight_bytes(work)
    if room < each:
        return 0.0
    return min(float(VLLM_ROWS), room / each)


def sampling_bytes(work: Workload, drawing: Drawing, hardware: Hardware) -> float:
    """transformers: weights + rows × (prompt + new tokens) × cache a token + rows × vocabulary × 28 bytes.

    vLLM takes the share of the memory that the recipe gives it; where weights are larger, what they need.
    """
    weights = weight_bytes(work)
    if work.engine == "vllm":
        if hardware.kind == "cpu":
            return weights + work.cpu_cache_gib * 2**30 + PROCESS_BYTES
        return max(work.cache_share * hardware.memory_bytes, weights / work.tensor_parallel + VLLM_BYTES)
    rows = min(work.batch_rows, drawing.responses)
    cache = rows * (drawing.prompt_tokens + drawing.max_new_tokens) * work.shape.cache_bytes(work.value_bytes)
    return weights + cache + rows * work.shape.vocabulary * LOGIT_BYTES + PROCESS_BYTES


def scoring_bytes(work: Workload, hardware: Hardware, *, models: int = 2) -> float:
    """Weights of both models + tokens at once × (4 × hidden + 3 × intermediate) × bytes + a block of logits.

    On a CPU in float32 weights lie there twice, laid out for products. The noise floor of bfloat16 models has one of
    them at a time in float32. Tokens at once are `runtime.score_tokens`, or what engines/models.py takes of memory.
    """
    shape, gpu = work.shape, hardware.kind == "gpu"
    weights = weight_bytes(work)
    laid_out = 2.0 if not gpu and work.value_bytes == 4 else 1.0
    held = models * laid_out * weights
    per_token = (4.0 * shape.hidden + 3.0 * shape.intermediate) * work.value_bytes
    default = min(65536.0, max(1024.0, (hardware.memory_bytes - held) / 2.0 / (2.5 * per_token))) if gpu else 4096.0
    tokens = float(work.pack_tokens or default)
    exact = 0.0 if work.value_bytes == 4 or not work.noise_prompts else 2.0 * weights + 2.0 * tokens * per_token
    return max(held + tokens * per_token, exact) + (HEAD_BLOCK if gpu else 0.0) + PROCESS_BYTES


def training_bytes(work: Workload, hardware: Hardware) -> float:
    """All weights: 16 bytes a parameter (float32 weights, gradients, two moments). LoRA: the model + 16 an adapter's.

    Both: + the activations of the longest micro-batch, 34 × hidden bytes a token and layer in 16 bits, twice that in
    32 (Korthikanti et al. 2022, attention without its scores); with checkpointing one layer's, and each layer's input.
    """
    shape, schedule = work.shape, work.schedule
    longest = min(
        work.drawing.prompt_tokens + 2.0 * work.drawing.max_new_tokens,
        2.0 * schedule.max_length,
    )
    tokens = longest * schedule.micro_pairs
    wide = 1.0 if work.value_bytes == 2 and hardware.kind == "gpu" else 2.0
    layer = 34.0 * shape.hidden * wide
    each = layer + 2.0 * wide * shape.hidden * shape.layers if schedule.checkpointing else layer * shape.layers
    adapter = work.adapter_parameters
    state = 16.0 * shape.parameters if adapter is None else weight_bytes(work) + 16.0 * adapter
    logits = min(float(TRAIN_LOGITS), 12.0 * tokens * shape.vocabulary)
    return state / hardware.training_devices + tokens * each + logits + PROCESS_BYTES


def checkpoint_bytes(work: Workload) -> float:
    """What an iteration saves: parameters × bytes of `train.save_dtype`; of LoRA the adapter."""
    adapter = work.adapter_parameters
    return float(work.shape.parameters if adapter is None else adapter) * work.schedule.save_bytes


def sample_disk(work: Workload, drawing: Drawing) -> float:
    return SAMPLE_DISK * drawing.tokens


def score_disk(work: Workload) -> float:
    """Of all views: the responses with both log-probabilities."""
    return SCORE_DISK * work.drawing.tokens * work.rating.views


def pair_disk(work: Workload) -> float:
    """Two responses a pair."""
    return PAIR_DISK * 2.0 * work.pairs * work.drawing.response_tokens


def answer_disk(drawing: Drawing) -> float:
    """Answers, as Parquet, as alpaca_eval reads them, and measured one by one."""
    return ANSWER_DISK * drawing.tokens


def disk(work: Workload) -> Disk:
    """Samples, scores, pairs and checkpoints of every iteration, answers of every policy.

    While one trains, 12 bytes a trained parameter more: weights and moments, kept every ten minutes for a training
    that is cut.
    """
    each = sample_disk(work, work.drawing) * (1 + work.translates) + score_disk(work) + pair_disk(work)
    answers = 0.0 if work.answers is None else work.policies * answer_disk(work.answers)
    trained = work.shape.parameters if work.adapter_parameters is None else work.adapter_parameters
    return Disk(
        data=work.iterations * each + answers,
        checkpoints=work.iterations * checkpoint_bytes(work),
        training=12.0 * trained,
    )


def host_bytes(work: Workload) -> float:
    """Of the process that drives the run: what grows is held-out prompts, and numbers of responses.

    Prompts to sample from, groups and pairs are on disk. Scoring keeps 8 bytes a prompt, pairing 64 a response of one
    language: what α is found from, and where the gap in length steps.
    """
    held_out = 0 if work.answers is None else work.answers.prompts
    drawing = work.drawing
    numbers = max(8.0 * drawing.prompts, RESPONSE_NUMBERS * drawing.responses / max(1, drawing.languages))
    return PROCESS_BYTES + held_out * (HOST_ROW_BYTES + 8.0 * drawing.prompt_tokens) + numbers

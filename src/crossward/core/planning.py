"""What a recipe costs on a machine, stage by stage: tokens, FLOP, seconds. Plain arithmetic; formulas in docs/planning.md.

Seconds of a kind of work are a sum: FLOP over the share of the matrix rate that it reaches, bytes over the share of the
memory's rate, and what every step, response and start takes however small it is. No overlap is assumed. Bytes are in
plan_memory.py, rates in hardware.py, counts in workload.py.
"""

from dataclasses import dataclass, replace

from crossward.core.hardware import Hardware
from crossward.core.plan_memory import (
    Disk,
    answer_disk,
    checkpoint_bytes,
    disk,
    pair_disk,
    sample_disk,
    sampling_bytes,
    score_disk,
    scoring_bytes,
    training_bytes,
    vllm_rows,
    weight_bytes,
)
from crossward.core.workload import Drawing, Workload

LINGUA_S_PER_CHARACTER = 0.6e-6  # one thread, docs/planning.md
CHARACTERS_A_TOKEN = 4.0
# An optimiser step's traffic: Adam reads weight, gradient and moments and writes three of them, the norm and clearing
# go over the gradient three times more.
OPTIMISER_BYTES = 40.0
VOCABULARY_BYTES = 60.0  # read and written a row and word while a token is drawn (engines/hf_sampler.InverseCdf)
RATED_SHARE = 0.5  # of the policy's own rate, what a rival's model reaches that is not scored in packs


@dataclass(frozen=True, slots=True, kw_only=True)
class Seconds:
    """`work` can be spread over devices, `fixed` is taken by each of them at the same time."""

    work: float
    fixed: float

    @property
    def total(self) -> float:
        """On one device."""
        return self.work + self.fixed

    def scaled(self, factor: float) -> "Seconds":
        return Seconds(work=self.work * factor, fixed=self.fixed)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCost:
    """One stage, once; a run does it `times` times. Tokens by what is done with them; memory is of one device.

    `devices` is over how many the stage is spread: 1 where it cannot be.
    """

    name: str
    times: int
    seconds: Seconds
    devices: int = 1
    spread_share: float = 1.0
    prompt_tokens: float = 0.0
    generated_tokens: float = 0.0
    scored_tokens: float = 0.0
    trained_tokens: float = 0.0
    flops: float = 0.0
    memory_bytes: float = 0.0
    disk_bytes: float = 0.0

    @property
    def tokens(self) -> float:
        """All tokens that go through a model, once."""
        return self.prompt_tokens + self.generated_tokens + self.scored_tokens + self.trained_tokens

    @property
    def wall_seconds(self) -> float:
        """Once: what can be spread over devices × the share that spreading keeps, and the fixed part."""
        rate = self.devices * (self.spread_share if self.devices > 1 else 1.0)
        return self.seconds.work / rate + self.seconds.fixed

    @property
    def device_hours(self) -> float:
        """Of all times: devices × wall."""
        return self.times * self.devices * self.wall_seconds / 3600.0

    @property
    def wall_hours(self) -> float:
        """Of all times."""
        return self.times * self.wall_seconds / 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A recipe on a machine."""

    hardware: Hardware
    stages: tuple[StageCost, ...]
    disk: Disk

    @property
    def wall_hours(self) -> float:
        return sum(stage.wall_hours for stage in self.stages)

    @property
    def device_hours(self) -> float:
        """Device-hours; of a machine that is paid for whole while one of its devices trains, see `paid_hours`."""
        return sum(stage.device_hours for stage in self.stages)

    @property
    def paid_hours(self) -> float:
        """Every device from the first stage to the last, whether it works or waits."""
        return self.wall_hours * self.hardware.devices

    @property
    def memory_bytes(self) -> float:
        """The largest stage's, of one device."""
        return max(stage.memory_bytes for stage in self.stages)

    @property
    def money(self) -> float | None:
        """`paid_hours` × the price of an hour; None where it is not known."""
        price = self.hardware.hour_price
        return None if price is None else price * self.paid_hours


def plan(work: Workload, hardware: Hardware) -> Plan:
    """Every stage of a run in the order of the first iteration."""
    stages = [sample(work, hardware)]
    if work.translates:
        stages.append(translate(work, hardware))
    if not work.direction:
        stages.append(score(work, hardware) if work.rating.kind == "implicit" else rate(work, hardware))
    stages += [pair(work, hardware), train(work, hardware)]
    if work.answers is not None:
        stages.append(answer(work, work.answers, hardware))
    if work.judging is not None and work.judging.local:
        stages.append(judge(work, hardware))
    return Plan(hardware=hardware, stages=tuple(stages), disk=disk(work))


def sample(work: Workload, hardware: Hardware) -> StageCost:
    """N responses to every prompt, once an iteration."""
    return _drawn("sample", work.iterations, work, work.drawing, hardware, sample_disk(work, work.drawing))


def translate(work: Workload, hardware: Hardware) -> StageCost:
    """Responses in other languages than English, written again by the translator, taken to be as large as the policy."""
    foreign = work.foreign_share * work.translates
    drawing = replace(
        work.drawing,
        prompts=round(work.drawing.prompts * foreign),
        prompt_tokens=work.drawing.response_tokens + 100.0,  # the response to translate and the words around it
    )
    return _drawn("translate", work.iterations, work, drawing, hardware, sample_disk(work, drawing))


def answer(work: Workload, answers: Drawing, hardware: Hardware) -> StageCost:
    """Answers to the held-out prompts, once a policy: the reference, π_0 and every iteration's."""
    return _drawn("evaluate", work.policies, work, answers, hardware, answer_disk(answers))


def _drawn(
    name: str, times: int, work: Workload, drawing: Drawing, hardware: Hardware, disk_bytes: float
) -> StageCost:
    if work.engine == "server" and name == "sample":
        row_s = hardware.efficiency.row_s * drawing.responses
        seconds, read = Seconds(work=row_s, fixed=0.0), float(drawing.responses * drawing.prompt_tokens)
        memory = 0.0
    else:
        seconds, read = drawing_seconds(work, drawing, hardware)
        memory = sampling_bytes(work, drawing, hardware)
    return StageCost(
        name=name,
        times=times,
        seconds=seconds.scaled(hardware.factors.sample),
        devices=hardware.devices,
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
    """Batches of one shard's rows. Each reads every row's prompt and steps until its longest response has ended:

    a step reads the weights once and moves every row's cache (2 + 2 × queries a key) times: keys and values are joined
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
    """As many rows at once as its cache holds; a shard ends with its longest response. A prompt is read once."""
    shape, measured = work.shape, hardware.efficiency
    rows = max(1.0, min(vllm_rows(work, drawing, hardware), rows_a_call))
    tail = drawing.longest(rows) - drawing.response_tokens
    steps = rows_a_call * drawing.response_tokens / rows + max(0.0, tail) / 2.0
    context = drawing.prompt_tokens + drawing.response_tokens / 2.0
    split = work.tensor_parallel
    moved = (weight_bytes(work) + rows * context * shape.cache_bytes(work.value_bytes)) / split
    flops = rows * (shape.token_flops(context) + shape.head_flops) / split
    step = (
        measured.vllm_step_s
        + moved / (1e9 * hardware.bandwidth_gb_s * measured.bandwidth_share)
        + flops / (hardware.flops(work.value_bytes) * measured.draw_share)
    )
    read = drawing.prompts * drawing.prompt_tokens
    return calls * steps * step + _reading_seconds(work, drawing, hardware, read / split), read


def _reading_seconds(work: Workload, drawing: Drawing, hardware: Hardware, tokens: float) -> float:
    rate = hardware.flops(work.value_bytes) * hardware.efficiency.read_share
    return tokens * work.shape.token_flops(drawing.prompt_tokens / 2.0) / rate


def scoring_flops(work: Workload, groups: float, prompt_tokens: float, responses: float) -> tuple[float, float]:
    """(unique tokens, FLOP) of one model: a prompt once a group, logits at response tokens alone."""
    shape, length = work.shape, work.drawing.response_tokens
    response_tokens = groups * responses * length
    flops = groups * prompt_tokens * shape.token_flops(prompt_tokens / 2.0)
    flops += response_tokens * (shape.token_flops(prompt_tokens + length / 2.0) + shape.head_flops)
    return groups * prompt_tokens + response_tokens, flops


def score(work: Workload, hardware: Hardware) -> StageCost:
    """log π and log π_ref of every response, in every view, and the noise floor's prompts again."""
    tokens, flops, seconds = scoring(work, hardware, work.drawing.prompts, work.drawing.n)
    views = work.rating.views
    again = noise(work, hardware)
    loading = 2.0 * (weight_bytes(work) / (1e9 * hardware.disk_gb_s) + hardware.efficiency.start_s)
    return StageCost(
        name="score",
        times=work.iterations,
        seconds=Seconds(work=views * (2.0 * seconds + again[2]), fixed=views * loading).scaled(hardware.factors.score),
        devices=hardware.devices,
        spread_share=hardware.spread_share,
        scored_tokens=views * (2.0 * tokens + again[0]),
        flops=views * (2.0 * flops + again[1]),
        memory_bytes=scoring_bytes(work, hardware),
        disk_bytes=score_disk(work),
    )


def scoring(work: Workload, hardware: Hardware, groups: float, responses: float) -> tuple[float, float, float]:
    """(tokens, FLOP, seconds) of one model on `groups` of `responses` each, start apart."""
    measured = hardware.efficiency
    tokens, flops = scoring_flops(work, groups, work.judged_tokens, responses)
    seconds = flops / (hardware.flops(work.value_bytes) * measured.score_share)
    seconds += groups * work.shape.layers * measured.group_s + groups * responses * measured.row_s
    return tokens, flops, seconds


def noise(work: Workload, hardware: Hardware) -> tuple[float, float, float]:
    """(tokens, FLOP, seconds) of scoring a few prompts again, both models: each group in two halves, one call each

    (a prompt is read twice), and where the models are in bfloat16 once more in float32.
    """
    if not work.noise_prompts:
        return 0.0, 0.0, 0.0
    groups, measured = float(work.noise_prompts), hardware.efficiency
    tokens, flops, seconds = scoring(work, hardware, 2.0 * groups, work.drawing.n / 2.0)
    pass_s = 2.0 * (measured.step_s + work.shape.layers * measured.layer_s)  # prompts, then responses
    total = (2.0 * tokens, 2.0 * flops, 2.0 * (seconds + 2.0 * groups * pass_s))
    if work.value_bytes == 4:
        return total
    exact = replace(work, value_bytes=4)
    more = scoring(exact, hardware, groups, work.drawing.n)
    loading = weight_bytes(exact) / (1e9 * hardware.disk_gb_s)
    return total[0] + 2.0 * more[0], total[1] + 2.0 * more[1], total[2] + 2.0 * (more[2] + loading)


def rate(work: Workload, hardware: Hardware) -> StageCost:
    """A rival's ratings: a reward model reads every response with its prompt, a judge also writes, MAPO reads every

    response with every English one. Its model is as large as `Rating.parameters` says, else as the policy.
    """
    rating, drawing, measured = work.rating, work.drawing, hardware.efficiency
    together = work.judged_tokens + drawing.response_tokens
    share = 1.0 if rating.parameters is None else rating.parameters / work.shape.parameters
    read, written = 0.0, 0.0
    match rating.kind:
        case "reward-model":
            read = drawing.responses * together
        case "judge":
            read = drawing.responses * rating.draws * together
            written = drawing.responses * rating.draws * rating.written_tokens
        case "translation-likelihood":
            read = drawing.prompts * work.foreign_share * drawing.n**2 * 2.0 * drawing.response_tokens
        case _:
            pass
    each = share * work.shape.token_flops(together / 2.0)
    seconds = read * each / (hardware.flops(work.value_bytes) * measured.score_share * RATED_SHARE)
    if written:
        said = replace(
            drawing, n=drawing.n * rating.draws, prompt_tokens=0.0, response_tokens=rating.written_tokens
        )
        seconds += drawing_seconds(work, said, hardware)[0].work
    start = measured.start_s + share * weight_bytes(work) / (1e9 * hardware.disk_gb_s)
    return StageCost(
        name="rate",
        times=work.iterations,
        seconds=Seconds(work=seconds, fixed=start).scaled(hardware.factors.score),
        devices=hardware.devices,
        spread_share=hardware.spread_share,
        scored_tokens=read,
        generated_tokens=written,
        flops=read * each + written * (work.shape.token_flops(together) + work.shape.head_flops),
        memory_bytes=scoring_bytes(work, hardware, models=1),
        disk_bytes=score_disk(work),
    )


def pair(work: Workload, hardware: Hardware) -> StageCost:
    """Surveying every response on one core; identifying its language where the recipe asks for it."""
    drawing = work.drawing
    said = drawing.response_tokens * CHARACTERS_A_TOKEN * LINGUA_S_PER_CHARACTER if work.identified else 0.0
    seconds = drawing.responses * (2.0 * hardware.efficiency.pair_s + said)
    return StageCost(
        name="pair",
        times=work.iterations,
        seconds=Seconds(work=seconds, fixed=0.0),
        disk_bytes=pair_disk(work),
    )


def training_flops(work: Workload) -> tuple[float, float]:
    """(tokens, FLOP) of all epochs: the pair's prompt once, both responses behind it; forward is 2 a parameter.

    All weights: forward + twice backward, 3 × forward. LoRA: nothing is derived by the base's weights, 2 × forward.
    Checkpointing: forward once more.
    """
    lora = work.schedule.lora_rank is not None
    passes = (2.0 if lora else 3.0) + (1.0 if work.schedule.checkpointing else 0.0)
    tokens, forward = scoring_flops(work, work.trained_pairs, work.drawing.prompt_tokens, 2.0)
    return tokens, passes * forward


def train(work: Workload, hardware: Hardware) -> StageCost:
    """The reference's log-probabilities once, then the steps; the checkpoint is written at the end."""
    shape, measured, schedule = work.shape, hardware.efficiency, work.schedule
    read, reference_flops = scoring_flops(work, work.pairs, work.drawing.prompt_tokens, 2.0)
    tokens, flops = training_flops(work)
    # On a GPU all weights are held in float32 and multiplied in bfloat16; on a CPU they are multiplied as they are.
    trained_bytes = work.value_bytes if hardware.kind == "gpu" or schedule.lora_rank is not None else 4
    passes = 4.0 if schedule.checkpointing else 3.0
    micro = work.trained_pairs / schedule.micro_pairs
    trained = float(shape.parameters if work.adapter_parameters is None else work.adapter_parameters)
    seconds = (
        reference_flops / (hardware.flops(work.value_bytes) * measured.score_share)
        + flops / (hardware.flops(trained_bytes) * measured.train_share)
        + passes * micro * (measured.step_s + shape.layers * measured.layer_s)
        + (1.0 + passes) * work.pairs * shape.layers * measured.group_s
        + 2.0 * work.pairs * measured.row_s
        + work.steps * OPTIMISER_BYTES * trained / (1e9 * hardware.bandwidth_gb_s * measured.bandwidth_share)
    )
    moved = 2.0 * weight_bytes(work) + checkpoint_bytes(work)
    fixed = 2.0 * measured.start_s + measured.train_start_s + moved / (1e9 * hardware.disk_gb_s)
    return StageCost(
        name="train",
        times=work.iterations,
        seconds=Seconds(work=seconds, fixed=fixed).scaled(hardware.factors.train),
        devices=hardware.training_devices,
        spread_share=hardware.spread_share,
        scored_tokens=read,
        trained_tokens=tokens,
        flops=reference_flops + flops,
        memory_bytes=max(training_bytes(work, hardware), scoring_bytes(work, hardware, models=1)),
        disk_bytes=checkpoint_bytes(work),
    )


def judge(work: Workload, hardware: Hardware) -> StageCost:
    """A judge in this process, taken to be as large as the policy, behind vLLM: it reads questions and writes a token."""
    judging = work.judging
    assert judging is not None
    drawing = Drawing(
        prompts=judging.questions,
        languages=1,
        n=1,
        prompt_tokens=judging.prompt_tokens,
        response_tokens=judging.completion_tokens,
        max_new_tokens=8,
    )
    return _drawn("judge", judging.policies, replace(work, engine="vllm"), drawing, hardware, 0.0)

"""What a recipe costs on a machine, stage by stage: tokens, FLOP, seconds. The formulas are in docs/planning.md, too.

Seconds of a kind of work are a sum: FLOP over the share of the matrix rate that it reaches, bytes over the share of the
memory's rate, and what every step, response and start takes however small it is. No overlap is assumed. Drawing is in
plan_drawing.py, scoring and training in plan_models.py, bytes in plan_memory.py, rates in hardware.py, counts in
workload.py.
"""

from dataclasses import dataclass, replace

from crossward.core.hardware import Hardware
from crossward.core.plan_cost import Seconds, StageCost
from crossward.core.plan_drawing import drawing_seconds, drawn
from crossward.core.plan_memory import (
    Disk,
    answer_disk,
    checkpoint_bytes,
    disk,
    pair_disk,
    sample_disk,
    score_disk,
    scoring_bytes,
    training_bytes,
    weight_bytes,
)
from crossward.core.plan_models import scoring, scoring_flops, step_seconds, training_flops
from crossward.core.workload import Drawing, Workload

LINGUA_S_PER_CHARACTER = 0.6e-6  # one thread, docs/planning.md
CHARACTERS_A_TOKEN = 4.0
RATED_SHARE = 0.5  # of the policy's own rate, what a rival's model reaches that is not scored in packs


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
    return drawn("sample", work.iterations, work, work.drawing, hardware, sample_disk(work, work.drawing))


def translate(work: Workload, hardware: Hardware) -> StageCost:
    """Responses in other languages than English, written again by a translator that is taken to be the policy."""
    foreign = work.foreign_share * work.translates
    drawing = replace(
        work.drawing,
        prompts=round(work.drawing.prompts * foreign),
        prompt_tokens=work.drawing.response_tokens + 100.0,  # the response to translate and the words around it
    )
    return drawn("translate", work.iterations, work, drawing, hardware, sample_disk(work, drawing))


def answer(work: Workload, answers: Drawing, hardware: Hardware) -> StageCost:
    """Answers to the held-out prompts, once a policy: the reference, π_0 and every iteration's."""
    return drawn("evaluate", work.policies, work, answers, hardware, answer_disk(answers))


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


def noise(work: Workload, hardware: Hardware) -> tuple[float, float, float]:
    """(tokens, FLOP, seconds) of scoring a few prompts again, both models.

    Each group in two halves, one call each (a prompt is read twice), and where the models are in bfloat16 once more in
    float32.
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
    """A rival's ratings.

    A reward model reads every response with its prompt, a judge also writes, MAPO reads every response with every
    English one. Its model is as large as `Rating.parameters` says, else as the policy.
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
        said = replace(drawing, n=drawing.n * rating.draws, prompt_tokens=0.0, response_tokens=rating.written_tokens)
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


def train(work: Workload, hardware: Hardware) -> StageCost:
    """The reference's log-probabilities once, then the steps; the checkpoint is written at the end."""
    measured = hardware.efficiency
    read, reference_flops = scoring_flops(work, work.pairs, work.drawing.prompt_tokens, 2.0)
    tokens, flops = training_flops(work, work.trained_pairs)
    reference = (
        reference_flops / (hardware.flops(work.value_bytes) * measured.score_share)
        + work.pairs * work.shape.layers * measured.group_s
        + 2.0 * work.pairs * measured.row_s
    )
    moved = 2.0 * weight_bytes(work) + checkpoint_bytes(work)
    fixed = 2.0 * measured.start_s + measured.train_start_s + moved / (1e9 * hardware.disk_gb_s)
    return StageCost(
        name="train",
        times=work.iterations,
        seconds=Seconds(
            work=reference * hardware.factors.score
            + step_seconds(work, hardware, work.trained_pairs, work.steps) * hardware.factors.train,
            fixed=fixed,
        ),
        devices=hardware.training_devices,
        spread_share=hardware.spread_share,
        scored_tokens=read,
        trained_tokens=tokens,
        flops=reference_flops + flops,
        memory_bytes=max(training_bytes(work, hardware), scoring_bytes(work, hardware, models=1)),
        disk_bytes=checkpoint_bytes(work),
    )


def judge(work: Workload, hardware: Hardware) -> StageCost:
    """A judge in this process, taken to be as large as the policy: vLLM reads its questions and writes a token."""
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
    return drawn("judge", judging.policies, replace(work, engine="vllm"), drawing, hardware, 0.0)

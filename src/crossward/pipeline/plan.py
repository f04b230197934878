"""A recipe's plan: its keys and what plan_inputs.py found, as counts; on every machine asked for, what they cost.

The arithmetic is in core/planning.py. Here is what a recipe's words mean for it, and what does not fit, in sentences.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from crossward.config import Config
from crossward.core.hardware import Hardware
from crossward.core.plan_memory import host_bytes
from crossward.core.planning import Plan, StageCost, plan
from crossward.core.spending import Budget
from crossward.core.workload import Drawing, Judging, Rating, Schedule, Workload
from crossward.pipeline.plan_inputs import Inputs
from crossward.plan_tables import Prices

MAPO_PARAMETERS = 0.6e9  # of the translation model that docs/rivals.md names
BYTES = {"float32": 4, "bfloat16": 2}
MANY_SHARDS = 200_000
SIDE_BY_SIDE = ("laptop", "h100-80gb", "8xh100", "cluster-64xh100")


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeCost:
    """What all questions of a run take; `cost` None where no price is known."""

    model: str
    questions: int
    prompt_tokens: float
    completion_tokens: float
    cost: float | None
    currency: str
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OnHardware:
    """A plan and what is to be said of it: what does not fit, what it takes for granted."""

    plan: Plan
    remarks: tuple[str, ...]

    def plain(self) -> dict[str, Any]:
        """Everything as JSON."""
        made = self.plan
        return {
            "name": made.hardware.name,
            "facts": asdict(made.hardware),
            "stages": [
                {
                    **asdict(stage),
                    "tokens": stage.tokens,
                    "wall_seconds": stage.wall_seconds,
                    "wall_hours": stage.wall_hours,
                    "device_hours": stage.device_hours,
                }
                for stage in made.stages
            ],
            "wall_hours": made.wall_hours,
            "device_hours": made.device_hours,
            "memory_bytes": made.memory_bytes,
            "disk_bytes": {**asdict(made.disk), "total": made.disk.total},
            "money": made.money,
            "remarks": list(self.remarks),
        }


def workload_of(config: Config, inputs: Inputs, kind: Literal["cpu", "gpu"]) -> Workload:
    """The recipe in counts, for a machine of that kind: `sample.engine: auto` is vLLM on a GPU."""
    section = config.sample
    engine = section.engine
    if engine == "auto":
        engine = "vllm" if kind == "gpu" else inputs.local_engine
    if engine == "openai" or engine == "given":  # what a server or a program's own engine takes is not ours to know
        engine = "server"
    vllm = config.runtime.vllm
    drawing = Drawing(
        prompts=inputs.prompts,
        languages=inputs.languages,
        n=section.n,
        prompt_tokens=inputs.prompt_tokens,
        response_tokens=inputs.response_tokens,
        max_new_tokens=section.max_new_tokens,
    )
    return Workload(
        shape=inputs.shape,
        value_bytes=BYTES[config.models.dtype],
        engine=engine,
        drawing=drawing,
        judged_tokens=inputs.judged_tokens,
        rating=_rating(config),
        schedule=_schedule(config),
        iterations=config.iterations,
        noise_prompts=min(config.score.noise_sample * inputs.languages, inputs.prompts),
        answers=_answers(config, inputs),
        policies=config.iterations + 2,
        judging=_judging(config, inputs),
        translates=_translates(config),
        foreign_share=inputs.foreign_share,
        direction=config.method == "lidr",
        identified=config.pair.language_filter == "lingua",
        batch_rows=config.runtime.sample_rows,
        shard_prompts=config.shard_size,
        pack_tokens=config.runtime.score_tokens,
        cache_share=vllm.memory_share,
        cpu_cache_gib=vllm.cpu_cache_gib,
        tensor_parallel=vllm.tensor_parallel_size,
    )


def _rating(config: Config) -> Rating:
    reward = config.reward
    views = len(reward.scored_views)
    match reward.kind:
        case "judge":
            # A verdict with its reasons; 200 is docs/paper.md's
            written = min(200.0, float(reward.judge.max_new_tokens))
            return Rating(kind="judge", views=views, draws=reward.judge.draws, written_tokens=written)
        case "translation-likelihood":
            return Rating(kind="translation-likelihood", views=views, parameters=MAPO_PARAMETERS)
        case kind:
            return Rating(kind=kind, views=views)


def _schedule(config: Config) -> Schedule:
    section = config.train
    return Schedule(
        batch_pairs=section.batch_size,
        micro_pairs=section.micro_batch_size,
        epochs=section.epochs,
        max_steps=section.max_steps,
        max_length=section.max_length,
        checkpointing=section.gradient_checkpointing,
        lora_rank=None if section.lora is None else section.lora.rank,
        save_bytes=BYTES[section.save_dtype],
        replay_share=0.0 if section.replay is None else section.replay.share,
    )


def _answers(config: Config, inputs: Inputs) -> Drawing | None:
    if not inputs.answers:
        return None
    return Drawing(
        prompts=inputs.answers,
        languages=inputs.answer_languages,
        n=config.evaluate.n,
        prompt_tokens=inputs.answer_prompt_tokens,
        response_tokens=inputs.answer_tokens,
        max_new_tokens=config.evaluate.max_new_tokens,
    )


def _translates(config: Config) -> int:
    """How often responses are translated: into English for that view; for lidr from English too."""
    if config.method == "lidr":
        return 2
    return int("translated" in config.reward.scored_views)


def _judging(config: Config, inputs: Inputs) -> Judging | None:
    """Each question shows instruction and two answers; the policies judged are π_0 and on, and π_I but as baseline."""
    section = config.evaluate.judge
    if section is None:
        return None
    return Judging(
        questions=inputs.answers * (2 if section.order == "both" else 1),
        policies=config.iterations + 1 + (config.evaluate.baseline != "reference"),
        prompt_tokens=inputs.template_tokens + inputs.answer_prompt_tokens + 2.0 * inputs.answer_tokens,
        name=section.model or section.checkpoint or "",
        local=section.checkpoint is not None,
    )


def judge_cost(config: Config, work: Workload, prices: Prices) -> JudgeCost | None:
    """All questions of a run at the recipe's prices, else at the table's; None where no server judges."""
    section, judging = config.evaluate.judge, work.judging
    if section is None or judging is None:
        return None
    questions = judging.questions * judging.policies
    prompt, completion = questions * judging.prompt_tokens, questions * judging.completion_tokens
    price, origin = (section.prompt_price, section.completion_price), "the recipe's prices"
    if judging.local:
        price, origin = (0.0, 0.0), "judged in this process: hours, no money"
    elif not any(price):
        known = prices.models.get(judging.name)
        origin = f"list prices of {prices.as_of}, which age" if known else f"no price of {judging.name!r} is known"
        price = known or (0.0, 0.0)
    cost = Budget(prompt_price=price[0], completion_price=price[1]).cost(round(prompt), round(completion))
    return JudgeCost(
        model=judging.name,
        questions=questions,
        prompt_tokens=prompt,
        completion_tokens=completion,
        cost=cost if any(price) else None,
        currency=prices.currency,
        origin=origin,
    )


def on_hardware(config: Config, inputs: Inputs, hardware: Hardware) -> OnHardware:
    """The recipe on one machine, with what does not fit."""
    work = workload_of(config, inputs, hardware.kind)
    made = plan(work, hardware)
    return OnHardware(plan=made, remarks=tuple(_remarks(work, made)))


def _remarks(work: Workload, made: Plan) -> list[str]:
    hardware, said = made.hardware, []
    for stage in made.stages:
        if stage.split > hardware.devices:
            said.append(
                f"{stage.name} takes {stage.split} devices (runtime.vllm.tensor_parallel_size) of {hardware.devices}"
            )
        if stage.memory_bytes > hardware.memory_bytes:
            said.append(
                f"{stage.name} does not fit: about {_gb(stage.memory_bytes)} on a device of "
                f"{_gb(hardware.memory_bytes)}{_instead(stage, work)}"
            )
    if (needed := host_bytes(work)) > hardware.host_gib * 2**30:
        said.append(
            f"the process that drives the run needs about {_gb(needed)}, and the machine has {hardware.host_gib:g} "
            "GiB: run parts of the languages or prompts"
        )
    shards = work.drawing.languages * -(-work.drawing.prompts // work.drawing.languages // work.shard_prompts)
    if shards > MANY_SHARDS:
        said.append(
            f"{shards:,} shards a stage, each a file and an entry in stage.json: raise shard_size (now "
            f"{work.shard_prompts}) for fewer"
        )
    if hardware.devices > 1:
        train = "training stays on one" if hardware.training_devices == 1 else "training is sharded"
        said.append(
            f"hours on {hardware.devices} devices take a replica on each (the recipe's section cluster); {train}"
        )
    if hardware.efficiency.assumed:
        said.append(f"assumed, not measured, of its efficiency: {', '.join(hardware.efficiency.assumed)}")
    return said


def _instead(stage: StageCost, work: Workload) -> str:
    match stage.name:
        case "train" if work.schedule.lora_rank is None:
            return ": train an adapter (train.lora), or on a larger device"
        case "train":
            return ": lower train.max_length or train.micro_batch_size, or take a larger device"
        case "score":
            return ": lower runtime.score_tokens, or take a larger device"
        case _ if work.engine == "vllm":
            return ": raise runtime.vllm.tensor_parallel_size, or take a larger device"
        case _:
            return ": lower runtime.sample_rows, or take a larger device"


def _gb(n: float) -> str:
    return f"{n / 1e9:.1f} GB"

"""A short measurement of this machine with the recipe's own models and prompts, which a plan is then calibrated by.

The real engines draw one batch, score what was drawn under both models, and take a few optimiser steps. What is kept is
the ratio of measured to estimated seconds of each kind of work, how long opening took, and the mean length of a
response. Nothing is left on disk. Bounded: where a batch would take too long, fewer rows or tokens are drawn.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, TypeVar

from crossward.core.hardware import Factors, Hardware
from crossward.core.plan_drawing import drawing_seconds
from crossward.core.plan_memory import weight_bytes
from crossward.core.plan_models import scoring, step_seconds
from crossward.core.records import Prompt, SampledPrompt, ScoredPrompt, View
from crossward.core.workload import Workload
from crossward.engines.machine import product_tflops, read_gb_s, this_machine
from crossward.engines.protocols import Sampler, Sampling, Scorer, TrainingPair
from crossward.pipeline.assemble import Engines, Prompts
from crossward.pipeline.progress import Progress
from crossward.pipeline.ranking import steering_of
from crossward.pipeline.streams import score_groups
from crossward.pipeline.unpack import sampling_of, training_of

BUDGET_S = 120.0  # of all three kinds of work together, opening apart
SHORT_S = 2.0  # what takes less is done again, up to ROUNDS times, and averaged
ROUNDS = 8
LENGTH_PROMPTS = 4  # a mean length of fewer tells little: tokens are cut before prompts
STEPS = 3  # optimiser steps at least, of which the first warms up
PROBED = "this machine"
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One kind of work: tokens that went through, seconds of it, and the seconds that the plan's formula gives."""

    tokens: float
    seconds: float
    estimated: float

    @property
    def factor(self) -> float:
        return self.seconds / self.estimated if self.estimated > 0 else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What was measured: the machine with its factors, each kind of work, the mean tokens of a response.

    `response_tokens` is None where responses were cut by the probe's own limit.
    """

    hardware: Hardware
    sample: Measured | None
    score: Measured
    train: Measured | None
    response_tokens: float | None

    def plain(self) -> dict[str, Any]:
        """Everything as JSON."""
        kinds = (("sample", self.sample), ("score", self.score), ("train", self.train))
        told = {name: None if found is None else asdict(found) | {"factor": found.factor} for name, found in kinds}
        return {**told, "response_tokens": self.response_tokens, "hardware": asdict(self.hardware)}

    def lines(self) -> list[str]:
        """What was measured, for people."""
        told = [("sampling", self.sample), ("scoring", self.score), ("training", self.train)]
        said = [
            f"{name}: {found.tokens:.0f} tokens in {found.seconds:.2f} s, {found.tokens / found.seconds:.0f} tokens/s; "
            f"{found.factor:.2f} times the estimate"
            for name, found in told
            if found is not None
        ]
        if self.response_tokens is not None:
            said.append(f"mean response: {self.response_tokens:.1f} tokens")
        return said


def machine_row(device: str, table: dict[str, Hardware]) -> Hardware | None:
    """The row of the table that this machine is, by its GPU's name or its number of cores; None: not recognised."""
    machine = this_machine(device)
    if machine.kind == "cpu":
        return table["laptop-8-core"] if machine.cores > 4 else table["laptop"]
    marks = (("H200", "h200-141gb"), ("H100", "h100-80gb"), ("A100", "a100-80gb"), ("4090", "rtx-4090"))
    found = next((row for mark, row in marks if mark in machine.name), None)
    return None if found is None else table[found]


def probe(
    engines: Engines, prompts: Prompts, works: dict[str, Workload], table: dict[str, Hardware], progress: Progress
) -> Probe:
    """Measure; `works` is the recipe in counts by kind of machine. ValueError where there are no prompts."""
    chosen = _spread(prompts)
    if not chosen:
        raise ValueError("--probe needs the recipe's prompts, and none could be read: mend that, or leave --probe out")
    hardware = _facts(engines.config.runtime.device, table)
    work = works[hardware.kind]
    if work.engine == "server":
        raise ValueError("--probe measures engines of this machine, and sample.engine is openai: leave --probe out")
    engine = engines.sample_engine("sample")["engine"]
    work = replace(work, engine="vllm" if engine == "vllm" else "transformers")
    progress.say("probe: drawing one batch of responses")
    groups, drawn, whole, sampler_s = _sample(engines, chosen, work, hardware, progress)
    work = _with_lengths(work, groups)
    progress.say("probe: scoring them under both models")
    scored, scores, scorers_s = _score(engines, groups, work, hardware)
    progress.say("probe: a few optimiser steps")
    trained, trainer_s = _train(engines, scored, work, hardware, scores)
    loading = weight_bytes(work) / (1e9 * hardware.disk_gb_s)
    efficiency = replace(
        hardware.efficiency,
        start_s=max(0.0, scorers_s / 2.0 - loading),
        vllm_start_s=max(0.0, sampler_s - loading) if engine == "vllm" else hardware.efficiency.vllm_start_s,
        train_start_s=hardware.efficiency.train_start_s if trainer_s is None else trainer_s,
    )
    factors = Factors(
        sample=drawn.factor, score=scores.factor, train=scores.factor if trained is None else trained.factor
    )
    return Probe(
        hardware=replace(hardware, efficiency=efficiency, factors=factors),
        sample=drawn,
        score=scores,
        train=trained,
        response_tokens=work.drawing.response_tokens if whole else None,
    )


def _spread(prompts: Prompts) -> list[Prompt]:
    """Prompts of all languages in turn."""
    return [prompt for row in zip_longest(*prompts.values()) for prompt in row if prompt is not None]


def _facts(device: str, table: dict[str, Hardware]) -> Hardware:
    """This machine: its rates measured, its efficiency that of the row it is like."""
    machine = this_machine(device)
    gpu = machine.kind == "gpu"
    row = machine_row(device, table) or table["h100-80gb" if gpu else "laptop"]
    return replace(
        row,
        name=PROBED,
        devices=1,
        training_devices=1,
        memory_gib=machine.memory_gib,
        host_gib=machine.host_gib,
        float32_tflops=product_tflops("float32", device),
        bfloat16_tflops=product_tflops("bfloat16", device),
        bandwidth_gb_s=read_gb_s(device),
        source=f"{machine.name}, measured",
    )


def _sample(
    engines: Engines, chosen: Sequence[Prompt], work: Workload, hardware: Hardware, progress: Progress
) -> tuple[list[SampledPrompt], Measured, bool, float]:
    """The groups, what drawing them took, whether their lengths are the recipe's own, and seconds of opening."""
    sampling = sampling_of(engines.config.sample, seed=0)
    policy, started = engines.policy(), time.perf_counter()
    with closing(engines.sampler(policy, "sample")) as sampler:
        opened = time.perf_counter() - started
        sampler.sample(chosen[:1], replace(sampling, max_new_tokens=2))  # what the first call alone takes
        rows = min(work.batch_rows, work.drawing.n * work.shard_prompts)
        asked = list(chosen[: max(1, round(rows / sampling.n))])
        asked, most = _affordable(sampler, asked, sampling)
        groups, seconds = _mean_seconds(lambda: sampler.sample(asked, replace(sampling, max_new_tokens=most)))
    found = _with_lengths(work, groups)
    tokens = found.drawing.response_tokens * len(groups) * sampling.n
    whole = most == sampling.max_new_tokens or all(
        response.finish_reason == "stop" for group in groups for response in group.responses
    )
    drawing = replace(found.drawing, prompts=len(groups), languages=1, max_new_tokens=most)
    estimated = drawing_seconds(replace(found, shard_prompts=len(groups)), drawing, hardware)[0].work
    return groups, Measured(tokens=tokens, seconds=seconds, estimated=estimated), whole, opened


def _affordable(sampler: Sampler, asked: list[Prompt], sampling: Sampling) -> tuple[list[Prompt], int]:
    """Prompts and new tokens that half of the budget affords, by the seconds of one token and of five."""
    budget, most = 0.5 * BUDGET_S, sampling.max_new_tokens
    while True:
        reading, five = (_seconds_of(sampler, asked, replace(sampling, max_new_tokens=min(n, most))) for n in (1, 5))
        step = max(five - reading, 0.0) / 4.0
        needed = reading + step * most
        if needed <= budget:
            return asked, most
        if len(asked) <= LENGTH_PROMPTS:
            return asked, max(4, min(most, int((budget - reading) / max(step, 1e-9))))
        asked = asked[: max(LENGTH_PROMPTS, int(len(asked) * budget / needed))]


def _seconds_of(sampler: Sampler, asked: Sequence[Prompt], sampling: Sampling) -> float:
    started = time.perf_counter()
    sampler.sample(asked, sampling)
    return time.perf_counter() - started


def _with_lengths(work: Workload, groups: Sequence[SampledPrompt]) -> Workload:
    """The recipe's counts with the mean length of these responses."""
    lengths = [len(response.token_ids or ()) for group in groups for response in group.responses]
    mean = max(1.0, sum(lengths) / len(lengths))
    return replace(work, drawing=replace(work.drawing, response_tokens=mean))


def _score(
    engines: Engines, groups: Sequence[SampledPrompt], work: Workload, hardware: Hardware
) -> tuple[list[ScoredPrompt], Measured, float]:
    """The groups scored, what that took, and seconds of opening both models."""
    asked = engines.config.reward.scored_views
    view: View = "multilingual" if "multilingual" in asked and "crosslingual" not in asked else "crosslingual"
    steering = steering_of(engines)
    started = time.perf_counter()
    policy: Scorer = engines.scorer(engines.policy())
    reference: Scorer = engines.scorer(engines.reference())
    opened = time.perf_counter() - started
    with closing(policy), closing(reference):
        started = time.perf_counter()
        score_groups(groups[:1], view, policy, reference, steering=steering)
        one = time.perf_counter() - started
        kept = groups[: max(1, min(len(groups), int(0.3 * BUDGET_S / max(one, 1e-6))))]
        scored, seconds = _mean_seconds(lambda: score_groups(kept, view, policy, reference, steering=steering))
    tokens, _, estimated = scoring(_with_lengths(work, kept), hardware, len(kept), work.drawing.n)
    tokens, estimated = 2.0 * tokens, 2.0 * estimated
    return scored, Measured(tokens=tokens, seconds=seconds, estimated=estimated), opened


def _train(
    engines: Engines, scored: Sequence[ScoredPrompt], work: Workload, hardware: Hardware, scores: Measured
) -> tuple[Measured | None, float | None]:
    """What a few steps took, and the seconds of a training beside its steps; None where no pair came of the probe."""
    pairs = list(chain.from_iterable(_pairs(group) for group in scored))
    if not pairs:
        return None, None
    schedule = work.schedule
    one = step_seconds(work, hardware, float(schedule.micro_pairs), 1) * max(1.0, scores.factor)
    micros = max(1, min(schedule.batch_pairs // schedule.micro_pairs, int(0.25 * BUDGET_S / STEPS / max(one, 1e-6))))
    batch = schedule.micro_pairs * micros
    n_steps = STEPS + min(ROUNDS, int(SHORT_S / max(one * micros, 1e-6)))
    pairs = (pairs * -(-n_steps * batch // len(pairs)))[: n_steps * batch]
    training = replace(
        training_of(engines.config, seed=0), batch_size=batch, epochs=1.0, max_steps=None, max_length=1_000_000
    )
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        engines.trainer(engines.policy()).train(
            pairs, training, output=Path(folder) / "out", metrics=Path(folder) / "metrics.jsonl", advance=clock
        )
        total = time.perf_counter() - started
    steps = n_steps - 1
    lengths = [len(response.token_ids or ()) for pair in pairs for response in (pair.chosen, pair.rejected)]
    drawing = replace(work.drawing, response_tokens=max(1.0, sum(lengths) / len(lengths)))
    estimated = step_seconds(replace(work, drawing=drawing), hardware, float(steps * batch), steps)
    tokens = steps * batch * (drawing.prompt_tokens + 2.0 * drawing.response_tokens)
    found = Measured(tokens=tokens, seconds=clock.seconds, estimated=estimated)
    return found, max(0.0, total - clock.seconds * n_steps / steps)


def _mean_seconds(work: Callable[[], Found]) -> tuple[Found, float]:
    """What it gives, and the mean seconds of it: once, or where that is short again, as a busy machine varies."""
    started, rounds = time.perf_counter(), 1
    found = work()
    while rounds < ROUNDS and time.perf_counter() - started < SHORT_S:
        found, rounds = work(), rounds + 1
    return found, (time.perf_counter() - started) / rounds


class _Clock:
    """Seconds from the end of the first step, which warms up, to the end of the last."""

    def __init__(self) -> None:
        self._done = 0
        self._started = 0.0
        self.seconds = 0.0

    def __call__(self, n: int) -> None:
        self._done += n
        if self._done == 1:
            self._started = time.perf_counter()
        self.seconds = time.perf_counter() - self._started


def _pairs(group: ScoredPrompt) -> list[TrainingPair]:
    """The first two responses of a group, on the prompt as it was sampled; which is better matters to no clock."""
    told = [scored for scored in group.responses if scored.response.token_ids]
    if len(told) < 2:
        return []
    chosen, rejected = told[:2]
    return [
        TrainingPair(
            instruction=group.prompt.instruction,
            chosen=chosen.response,
            rejected=rejected.response,
            reference_chosen_logprob=chosen.reference_logprob,
            reference_rejected_logprob=rejected.reference_logprob,
        )
    ]

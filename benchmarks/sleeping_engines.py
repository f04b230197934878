"""Engines that do next to nothing, the seconds that the planner's cost model gives them, and their schedule.

`SleepingSampler` and `SleepingScorer` are engines as the pipeline knows them: their answers follow from a prompt's id
alone. `schedule` says when replicas of them would have done which piece, by a clock of its own: pools of replicas
behind one another, replicas that die in the middle of a piece (which is done again by another) and pieces that take
longer.
"""

import heapq
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from crossward.core.plan_drawing import drawing_seconds
from crossward.core.plan_memory import weight_bytes
from crossward.core.plan_models import scoring
from crossward.core.records import Prompt, Response, ResponseLogprob, SampledPrompt
from crossward.core.workload import Drawing, Rating, Schedule, Workload, typical_shape
from crossward.engines.protocols import Advance, Judged, Sampling, Work, no_progress
from crossward.plan_tables import hardware_table

LETTERS = "eeeeaaaaoooiinnnsssrrrlllddttuuccmmppbgvyqhfzjñáéíóú        ,."
CHARACTERS_A_TOKEN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Seconds of one engine: of a prompt with all its responses, and of opening it (or opening it again)."""

    prompt_s: float
    open_s: float


def costs(
    *, parameters: float, hardware: str, shard_prompts: int, n: int, prompt_tokens: float, response_tokens: float
) -> dict[str, Costs]:
    """Sampler, policy and reference as core/plan_*.py takes them; the sampler is vLLM."""
    machine = replace(hardware_table()[hardware], devices=1)
    drawing = Drawing(
        prompts=shard_prompts, languages=1, n=n, prompt_tokens=prompt_tokens, response_tokens=response_tokens,
        max_new_tokens=2400,
    )  # fmt: skip
    work = _workload(parameters, drawing, shard_prompts)
    drawn = drawing_seconds(work, drawing, machine)[0]
    scored = scoring(work, machine, shard_prompts, n)[2]
    opening = weight_bytes(work) / (1e9 * machine.disk_gb_s) + machine.efficiency.start_s
    scorer = Costs(prompt_s=scored / shard_prompts, open_s=opening)
    return {
        "sampler": Costs(prompt_s=drawn.work / shard_prompts, open_s=drawn.fixed),
        "policy": scorer,
        "reference": scorer,
    }


def _workload(parameters: float, drawing: Drawing, shard_prompts: int) -> Workload:
    schedule = Schedule(
        batch_pairs=64, micro_pairs=1, epochs=1, max_steps=None, max_length=4096, checkpointing=True, lora_rank=None,
        save_bytes=2,
    )  # fmt: skip
    return Workload(
        shape=typical_shape(parameters), value_bytes=2, engine="vllm", drawing=drawing,
        judged_tokens=drawing.prompt_tokens + 20, rating=Rating(), schedule=schedule, iterations=1, noise_prompts=0,
        answers=None, policies=0, judging=None, shard_prompts=shard_prompts,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What goes wrong, drawn by the seed: shares of pieces whose replica dies, and of pieces that take longer."""

    seed: int = 0
    dies: float = 0.0
    slow: float = 0.0
    slower: float = 5.0

    def of(self, piece: int, step: str, attempt: int) -> tuple[float | None, float]:
        """(where in the piece its replica dies, or None; how many times as long the piece takes)."""
        lot = random.Random(f"{self.seed}/{step}/{piece}")
        times = self.slower if lot.random() < self.slow else 1.0
        deadly, at = lot.random() < self.dies, lot.random()
        return (at if deadly and attempt == 0 else None), times


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A piece at the end of one pool: when its last attempt began and ended, in seconds of the clock."""

    piece: int
    began: float
    ended: float


@dataclass(slots=True)
class Pool:
    """What the replicas of one step did: seconds at work of all, when each had nothing left to do, how many died."""

    replicas: int
    busy: float = 0.0
    lost: float = 0.0
    deaths: int = 0
    slow: int = 0
    began: float = 0.0
    ended: float = 0.0
    first_idle: float = 0.0


def schedule(
    ready: Sequence[tuple[float, int, float]], step: str, costs: Costs, replicas: int, faults: Faults
) -> tuple[list[Done], Pool]:
    """Pieces through one pool. `ready`: of each piece when it can be begun, its number, and how many prompts it has.

    A replica takes what was begun before and lost, else the next piece; it opens its engine at the start and after it
    died.
    """
    fresh, lost, pool, done = sorted(ready), [], Pool(replicas=replicas), []
    free = [fresh[0][0] + costs.open_s] * replicas
    pool.began = fresh[0][0]
    next_fresh = 0
    while next_fresh < len(fresh) or lost:
        now = heapq.heappop(free)
        soonest = min(
            fresh[next_fresh][0] if next_fresh < len(fresh) else float("inf"), lost[0][0] if lost else float("inf")
        )
        now = max(now, soonest)
        if lost and lost[0][0] <= now:
            _, piece, prompts, attempt = heapq.heappop(lost)
        else:
            _, piece, prompts = fresh[next_fresh]
            attempt, next_fresh = 0, next_fresh + 1
        dies_at, times = faults.of(piece, step, attempt)
        seconds = prompts * costs.prompt_s * times
        pool.slow += times > 1.0 and attempt == 0
        if dies_at is not None:
            pool.deaths += 1
            pool.lost += dies_at * seconds
            heapq.heappush(lost, (now + dies_at * seconds, piece, prompts, attempt + 1))
            heapq.heappush(free, now + dies_at * seconds + costs.open_s)
        else:
            pool.busy += seconds
            done.append(Done(piece=piece, began=now, ended=now + seconds))
            heapq.heappush(free, now + seconds)
    pool.first_idle, pool.ended = free[0], max(each.ended for each in done)
    return done, pool


@cache
def _base() -> tuple[str, tuple[int, ...]]:
    lot = random.Random(1)
    return "".join(lot.choices(LETTERS, k=200_000)), tuple(lot.randrange(100_000) for _ in range(50_000))


def answer(id: str, k: int, tokens: int) -> Response:
    """A response that follows from a prompt's id and its number: half to one and a half times `tokens` long."""
    text, ids = _base()
    lot = zlib.crc32(f"{id}/{k}".encode())
    n = max(1, tokens // 2 + lot % (tokens + 1))
    at, start = lot % (len(text) - CHARACTERS_A_TOKEN * n), lot % (len(ids) - n)
    return Response(text=text[at : at + CHARACTERS_A_TOKEN * n], token_ids=ids[start : start + n])


class SleepingSampler:
    """Answers by id, of about `tokens`."""

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens

    def sample(
        self, prompts: Sequence[Prompt], sampling: Sampling, *, advance: Advance = no_progress
    ) -> list[SampledPrompt]:
        return [
            SampledPrompt(
                prompt=prompt,
                responses=tuple(answer(f"{prompt.language}/{prompt.id}", k, self._tokens) for k in range(sampling.n)),
            )
            for prompt in prompts
        ]

    def close(self) -> None:
        return None


class SleepingScorer:
    """Sums that follow from a response's text and the model's number."""

    def __init__(self, number: int) -> None:
        self.work = Work()
        self._number = number

    def score(
        self, groups: Sequence[Judged], *, per_token: bool = False, advance: Advance = no_progress
    ) -> list[tuple[ResponseLogprob | None, ...]]:
        return [tuple(self._of(response) for response in group.responses) for group in groups]

    def close(self) -> None:
        return None

    def _of(self, response: Response) -> ResponseLogprob:
        n = len(response.token_ids or ())
        lot = random.Random(zlib.crc32(response.text.encode(), self._number))
        return ResponseLogprob(logprob=-0.8 * n + lot.gauss(0, 3), n_tokens=n)

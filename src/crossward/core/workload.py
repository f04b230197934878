"""What a recipe has to do, in counts: the shape of its model, its prompts, its tokens. Knows no hardware and no files.

Where a number is a mean (tokens of a prompt, of a response), the counts that follow from it are means too. The seconds
are in planning.py, the bytes in plan_memory.py.
"""

import math
from dataclasses import dataclass
from typing import Literal

Engine = Literal["transformers", "vllm", "server"]
Ranking = Literal["implicit", "reward-model", "judge", "translation-likelihood", "given"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """What of a decoder decides its cost. Widths are numbers of features; `attention_width` is heads × head size.

    `adapter_width` is Σ (inputs + outputs) over the linear layers that LoRA adapts: rank × that is an adapter's size.
    `active_parameters` is what one token goes through where that is not all (a mixture of experts).
    """

    parameters: int
    layers: int
    hidden: int
    intermediate: int
    attention_width: int
    kv_width: int
    vocabulary: int
    tied: bool
    adapter_width: int
    active_parameters: int | None = None

    @property
    def body_parameters(self) -> int:
        """Parameters of the products that every token goes through: neither embedding nor head."""
        held = self.parameters if self.active_parameters is None else self.active_parameters
        return max(0, held - self.vocabulary * self.hidden * (1 if self.tied else 2))

    @property
    def head_flops(self) -> float:
        """FLOP of the logits at one place: 2 × hidden × vocabulary."""
        return 2.0 * self.hidden * self.vocabulary

    def token_flops(self, context: float) -> float:
        """FLOP of one token through the layers, attending to `context` tokens: 2 × body + 4 × layers × width × context.

        The second term is the two products of attention, queries with keys and weights with values.
        """
        return 2.0 * self.body_parameters + 4.0 * self.layers * self.attention_width * context

    def cache_bytes(self, value_bytes: int) -> float:
        """Bytes of keys and values that one token leaves in the cache: 2 × layers × key width × bytes a value."""
        return 2.0 * self.layers * self.kv_width * value_bytes


def typical_shape(parameters: float, *, vocabulary: int = 128_000) -> ModelShape:
    """The shape of a decoder of which only the number of parameters is known, as such decoders usually are.

    12 × layers × hidden² parameters beside embedding and head (not tied), hidden = 128 × layers, 4 queries a key.

    >>> shape = typical_shape(8e9)
    >>> (shape.layers, shape.hidden, shape.kv_width)
    (33, 4196, 1049)
    """
    body, hidden = parameters, 0.0
    for _ in range(8):  # embeddings are taken off what is left for the layers
        hidden = (128.0 * body / 12.0) ** (1.0 / 3.0)
        body = max(parameters / 2.0, parameters - 2.0 * vocabulary * hidden)
    width = max(1, round(hidden))
    layers = max(1, round(hidden / 128.0))
    return ModelShape(
        parameters=round(parameters),
        layers=layers,
        hidden=width,
        intermediate=3 * width,
        attention_width=width,
        kv_width=max(1, width // 4),
        vocabulary=vocabulary,
        tied=False,
        adapter_width=layers * 20 * width,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """Responses to draw: `prompts` in all, in `languages` of equal size, `n` responses to each."""

    prompts: int
    languages: int
    n: int
    prompt_tokens: float
    response_tokens: float
    max_new_tokens: int

    @property
    def responses(self) -> int:
        return self.prompts * self.n

    @property
    def tokens(self) -> float:
        """Tokens that are generated and kept."""
        return self.responses * self.response_tokens

    def longest(self, rows: float) -> float:
        """How long the longest of `rows` responses is on average, if lengths are geometric: mean × Σ 1/k, k to rows.

        At most `max_new_tokens`. A batch of transformers runs until its longest response has ended.
        """
        if rows <= 1:
            return min(self.response_tokens, float(self.max_new_tokens))
        harmonic = math.log(rows) + 0.5772 + 0.5 / rows
        return min(self.response_tokens * harmonic, float(self.max_new_tokens))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """What ranks responses: `kind`, and for a rival's model its size and what it reads and writes a response."""

    kind: Ranking = "implicit"
    views: int = 1
    parameters: float | None = None
    draws: int = 1
    written_tokens: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How training goes: pairs a step and at once, epochs, what is trained, what is kept."""

    batch_pairs: int
    micro_pairs: int
    epochs: float
    max_steps: int | None
    max_length: int
    checkpointing: bool
    lora_rank: int | None
    save_bytes: int
    replay_share: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """Questions to a judge, one policy's: how many, and the tokens of one."""

    questions: int
    policies: int
    prompt_tokens: float
    completion_tokens: float = 1.0
    name: str = ""
    local: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A whole recipe in counts. Bytes a value are those of weights while sampling and scoring (4 or 2).

    `judged_tokens` is the mean length of a prompt as it is judged under; `foreign_share` the share of prompts in other
    languages than English. `noise_prompts` are scored again, of all
    languages together. `answers` are those of one policy to the held-out prompts, `policies` how many policies answer.
    """

    shape: ModelShape
    value_bytes: int
    engine: Engine
    drawing: Drawing
    judged_tokens: float
    rating: Rating
    schedule: Schedule
    iterations: int
    noise_prompts: int
    answers: Drawing | None
    policies: int
    judging: Judging | None
    translates: int = 0
    foreign_share: float = 0.0
    direction: bool = False
    identified: bool = False
    batch_rows: int = 64
    shard_prompts: int = 96
    pack_tokens: int | None = None
    cache_share: float = 0.9
    cpu_cache_gib: float = 2.0
    tensor_parallel: int = 1

    @property
    def pairs(self) -> float:
        """Pairs that an iteration trains on: one a prompt, with replayed ones among them."""
        return self.drawing.prompts / (1.0 - self.schedule.replay_share)

    @property
    def adapter_parameters(self) -> int | None:
        """Trained parameters of a LoRA adapter: rank × Σ (inputs + outputs); None where all weights are trained."""
        rank = self.schedule.lora_rank
        return None if rank is None else rank * self.shape.adapter_width

    @property
    def steps(self) -> int:
        """Optimiser steps of an iteration."""
        steps = math.ceil(math.ceil(self.pairs / self.schedule.batch_pairs) * self.schedule.epochs)
        return steps if self.schedule.max_steps is None else min(steps, self.schedule.max_steps)

    @property
    def trained_pairs(self) -> float:
        """Pairs that go through training in all epochs, no more than the steps take."""
        return min(self.pairs * self.schedule.epochs, float(self.steps * self.schedule.batch_pairs))

"""What the pipeline asks of an engine, on one screen: plain values in, plain values out.

An engine holds at most one model, knows no run directory, and reports progress by calling `advance(n)` when `n` more
responses (or training steps) are done.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from crossward.core.judging import Answer, NoAnswer, Question
from crossward.core.language import Identification
from crossward.core.records import Prompt, Response, ResponseLogprob, SampledPrompt
from crossward.core.spending import Spending
from crossward.core.translation import Translation

Dtype = Literal["float32", "bfloat16"]
Advance = Callable[[int], None]


def no_progress(n: int) -> None:
    """Report nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A checkpoint (folder or hub name; a LoRA adapter's folder too) and how to load it."""

    path: str
    dtype: Dtype
    device: str = "auto"
    revision: str | None = None
    trust_remote_code: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmOptions:
    """What vLLM may take: its share of each GPU's memory (all of weights, activations and cache), GPUs per model, the
    cache's size on a CPU (GiB). `eager` compiles nothing: a quicker start and slower tokens; on a CPU always so.
    `threads` on a CPU: None leaves it to vLLM, which binds a thread to every core but the one that schedules.
    """

    memory_share: float = 0.9
    tensor_parallel_size: int = 1
    cpu_cache_gib: float = 2.0
    eager: bool = False
    threads: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to decode. `temperature` 0 is greedy; `seed` with the prompt's id and the sample's index fixes every draw.

    `repetition_penalty` (CTRL, arXiv 1909.05858): logits of tokens that the prompt or the answer holds already are
    divided by it where they are positive and multiplied where not; 1 is none.
    """

    n: int
    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int
    repetition_penalty: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A group to score: every response under the same instruction. `name` names the group in errors."""

    instruction: str
    responses: tuple[Response, ...]
    name: str = "a group"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPair:
    """A pair on the prompt it trains, with log π_ref of both responses under that same prompt (nats)."""

    instruction: str
    chosen: Response
    rejected: Response
    reference_chosen_logprob: float
    reference_rejected_logprob: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """LoRA settings; `target_modules` as peft reads them ("all-linear" or names)."""

    rank: int
    alpha: float
    dropout: float = 0.0
    target_modules: str | tuple[str, ...] = "all-linear"


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How to train: `batch_size` pairs a step, split into micro-batches of `micro_batch_size`; at most `max_steps`."""

    beta: float
    nll_weight: float
    learning_rate: float
    epochs: float
    batch_size: int
    micro_batch_size: int
    warmup_ratio: float
    max_length: int
    seed: int
    scheduler: Literal["cosine", "linear", "constant"] = "cosine"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    gradient_checkpointing: bool = False
    lora: Lora | None = None
    save_dtype: Dtype = "float32"
    nll_normalisation: Literal["sequence", "tokens"] = "sequence"
    max_steps: int | None = None

    def steps(self, n_pairs: int) -> int:
        """Optimiser steps over so many pairs; no more than `max_steps`."""
        steps = math.ceil(math.ceil(n_pairs / self.batch_size) * self.epochs)
        return steps if self.max_steps is None else min(steps, self.max_steps)


@dataclass(slots=True, kw_only=True)
class Work:
    """What a scorer did: tokens that had to go through the model, tokens that went, and the seconds it took there.

    A prompt that a group shares has to go through once. More went where rows were padded or a prompt was repeated.
    """

    unique_tokens: int = 0
    processed_tokens: int = 0
    seconds: float = 0.0

    @property
    def waste(self) -> float:
        """The share of processed tokens that were not needed, 0 to 1."""
        return 1.0 - self.unique_tokens / self.processed_tokens if self.processed_tokens else 0.0

    def since(self, before: "Work") -> "Work":
        """What was done after it had done `before`."""
        return Work(
            unique_tokens=self.unique_tokens - before.unique_tokens,
            processed_tokens=self.processed_tokens - before.processed_tokens,
            seconds=self.seconds - before.seconds,
        )


class Kept(Protocol):
    """Answers that were paid for, by what was asked: kept from one process to the next."""

    def get(self, key: str) -> SampledPrompt | None:
        """What was kept under a key."""
        ...

    def put(self, key: str, group: SampledPrompt) -> None:
        """Keep an answer at once."""
        ...

    def close(self) -> None:
        """Neither get nor put is called again."""
        ...


class KeptRows(Protocol):
    """What a judge said and was paid for, as rows by what was asked: kept from one process to the next."""

    def get(self, key: str) -> dict[str, Any] | None:
        """The row kept under a key."""
        ...

    def put(self, key: str, row: dict[str, Any]) -> None:
        """Keep a row at once."""
        ...


class Sampler(Protocol):
    def sample(
        self, prompts: Sequence[Prompt], sampling: Sampling, *, advance: Advance = no_progress
    ) -> list[SampledPrompt]:
        """`sampling.n` responses to each prompt's own instruction, in the prompts' order."""
        ...

    def close(self) -> None:
        """Give the model's memory back; the sampler is not used again."""
        ...


class Scorer(Protocol):
    work: Work

    def score(
        self, groups: Sequence[Judged], *, per_token: bool = False, advance: Advance = no_progress
    ) -> list[tuple[ResponseLogprob | None, ...]]:
        """log π(y|x) of every response, in the groups' order; None where it is longer than the model's context.

        `per_token` keeps the terms of each sum as well.
        """
        ...

    def close(self) -> None:
        """Give the model's memory back; the scorer is not used again."""
        ...


def kept_by_nobody(result: dict[str, float]) -> None:
    """What a training came to is not wanted before its checkpoint is there."""


class Trainer(Protocol):
    def train(
        self,
        pairs: Iterable[TrainingPair],
        training: Training,
        *,
        output: Path,
        metrics: Path,
        advance: Advance = no_progress,
        keep: Callable[[dict[str, float]], None] = kept_by_nobody,
    ) -> dict[str, float]:
        """Train with DPO + NLL, save a checkpoint in `output` (resuming one that was cut), log steps to `metrics`.

        The pairs are taken one by one and kept on the disk. `advance` counts optimiser steps. `keep` is given what is
        returned: right before `output` is there, so that a kill between the two loses nothing, or, where other
        processes write it, right after.
        """
        ...


class LanguageIdentifier(Protocol):
    unsupported: tuple[str, ...]
    """Languages it was asked for and cannot tell: texts in them are never to be filtered by it."""

    def identify(self, texts: Sequence[str]) -> list[Identification]:
        """The language of each text."""
        ...


class Judge(Protocol):
    name: str
    spending: Spending

    @property
    def stopped(self) -> str | None:
        """Why questions were left unasked, in words; None where none were."""
        ...

    def ask(self, questions: Sequence[Question], *, advance: Advance = no_progress) -> list[Answer | NoAnswer]:
        """Which of two answers is better, for every question, in their order; kept as they come."""
        ...

    def close(self) -> None:
        """Give memory back; the judge is not used again."""
        ...


AlignMethod = Literal["dpo", "kto", "simpo", "orpo"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """How π_0 is made of π_I. `training.beta` is DPO's and KTO's β, SimPO's β, or ORPO's λ.

    `gamma` is SimPO's margin; the weights are KTO's λ_D and λ_U. `training.batch_size` counts pairs, for KTO answers.
    """

    method: AlignMethod
    training: Training
    gamma: float = 0.0
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingAnswer:
    """An answer that KTO trains on: desirable or not, with log π_ref of it and of `mismatched`, an answer to another
    prompt, both under this row's prompt (nats).
    """

    instruction: str
    response: Response
    desirable: bool
    mismatched: Response
    reference_logprob: float
    mismatched_reference_logprob: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ToRate:
    """A group to rate: its responses, each under the same instruction, which a view chose.

    `english_answers` are answers to the English twin, for raters that compare with them. `name` names it in errors.
    """

    prompt: Prompt
    instruction: str
    responses: tuple[Response, ...]
    english_answers: tuple[str, ...] = ()
    name: str = "a group"


class Rater(Protocol):
    name: str
    failures: Counter[str]
    """How many responses could not be rated, by reason."""
    left_out: Counter[str]
    """What was left out of ratings that there are, by reason: a judge's draws, English answers."""

    def rate(self, groups: Sequence[ToRate], *, advance: Advance = no_progress) -> list[tuple[float | None, ...]]:
        """A number for every response, in the groups' order: higher is better; None where it could not be rated."""
        ...

    def close(self) -> None:
        """Give memory back; the rater is not used again."""
        ...


class Translator(Protocol):
    name: str
    """Who translates, for people."""
    identity: str
    """A hash of all that decides its words but text, languages and attempt: model, wording, decoding."""

    def translate(
        self, texts: Sequence[str], *, source: str, target: str, attempt: int = 0, advance: Advance = no_progress
    ) -> list[Translation]:
        """Each text in another language, or why not, in their order; the same for the same text, alone or among others.

        Attempt 0 is greedy; later ones draw, with a seed of (attempt, text), so that another attempt may bring another
        text.
        """
        ...

    def close(self) -> None:
        """Give the model's memory back; the translator is not used again."""
        ...

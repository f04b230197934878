"""Scoring by vLLM's prompt_logprobs: prompt and response ids in, log π(y|x) of the response's own tokens out.

An option beside HfScorer, not the yardstick: vLLM computes the shared prompt of a group again for every response (it
reads no cache under prompt_logprobs), runs the head on prompt tokens too, and holds float32 logits of a whole step
(2,048 tokens x vocabulary: 1 GB at 128 k) beside its cache. In float32 it agrees with HfScorer to 0.005 nats on
responses of 700 tokens, in bfloat16 to 4: there it rounds the head's output before the log-softmax, and an adapter.
Policy and reference are two engines and live at the same time: give each a share of the memory. A response that fills
the context to its last token counts as too long: vLLM keeps that place for a token of its own.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from crossward.core.records import ResponseLogprob
from crossward.engines.protocols import Advance, Judged, ModelSpec, VllmOptions, Work, no_progress
from crossward.engines.tokens import ChatTokens
from crossward.engines.vllm_engine import VllmEngine

# Tokens of one step: what bounds the logits in memory.
STEP_TOKENS = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One response to score: where its result belongs, and its ids."""

    group: int
    place: int
    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]

    @property
    def length(self) -> int:
        return len(self.prompt_ids) + len(self.response_ids)


class VllmScorer:
    """protocols.Scorer over one model behind vLLM."""

    def __init__(self, spec: ModelSpec, tokens: ChatTokens, *, options: VllmOptions | None = None) -> None:
        self._engine = VllmEngine(
            spec,
            options=options or VllmOptions(),
            max_num_batched_tokens=STEP_TOKENS,
            logprobs_mode="raw_logprobs",  # of the model itself, before any temperature
            enable_prefix_caching=False,  # nothing would read it
        )
        self._tokens = tokens
        self.work = Work()

    def score(
        self, groups: Sequence[Judged], *, per_token: bool = False, advance: Advance = no_progress
    ) -> list[tuple[ResponseLogprob | None, ...]]:
        """log π(y|x) of every response (nats, summed in float64), in the groups' order; None where it is too long."""
        from vllm import SamplingParams  # pyright: ignore[reportMissingImports]

        results: list[list[ResponseLogprob | None]] = [[None] * len(group.responses) for group in groups]
        rows = self._rows(groups)
        asked = [row for row in rows if row.response_ids and row.length < self._limit]
        advance(len(rows) - len(asked))
        for row in rows:
            if not row.response_ids:
                results[row.group][row.place] = ResponseLogprob(
                    logprob=0.0, n_tokens=0, token_logprobs=() if per_token else None
                )
        params = SamplingParams(
            max_tokens=1, temperature=0.0, prompt_logprobs=0, flat_logprobs=True, detokenize=False, ignore_eos=True
        )
        started = time.perf_counter()
        outputs = self._engine.generate(
            [(*row.prompt_ids, *row.response_ids) for row in asked], [params] * len(asked), advance=advance
        )
        self._count(asked, time.perf_counter() - started)
        for row, output in zip(asked, outputs, strict=True):
            terms = self._terms(row, output.prompt_logprobs, groups[row.group])
            results[row.group][row.place] = ResponseLogprob(
                logprob=math.fsum(terms), n_tokens=len(terms), token_logprobs=terms if per_token else None
            )
        return [tuple(result) for result in results]

    def close(self) -> None:
        """End vLLM's processes: all of the model's memory is free."""
        self._engine.close()

    def _count(self, asked: Sequence[_Row], seconds: float) -> None:
        """A shared prompt is needed once and goes through once a response."""
        processed = sum(row.length for row in asked)
        prompts = {row.group: len(row.prompt_ids) for row in asked}
        repeated = sum(len(row.prompt_ids) for row in asked) - sum(prompts.values())
        self.work.unique_tokens += processed - repeated
        self.work.processed_tokens += processed
        self.work.seconds += seconds

    @property
    def _limit(self) -> int:
        return self._engine.positions or self._engine.room

    def _rows(self, groups: Sequence[Judged]) -> list[_Row]:
        rows = []
        for index, group in enumerate(groups):
            prompt_ids = self._tokens.prompt_ids(group.instruction)
            for place, response in enumerate(group.responses):
                row = _Row(
                    group=index,
                    place=place,
                    prompt_ids=prompt_ids,
                    response_ids=self._tokens.response_ids(response),
                )
                self._check(row, group)
                rows.append(row)
        return rows

    def _check(self, row: _Row, group: Judged) -> None:
        engine = self._engine
        if (largest := max(*row.prompt_ids, *row.response_ids, 0)) >= engine.vocabulary_size:
            raise ValueError(
                f"response {row.place} to {group.name} holds token id {largest}, but {engine.name} knows ids below "
                f"{engine.vocabulary_size}: score with the tokenizer of the model that sampled"
            )
        if engine.room <= row.length < self._limit:
            raise ValueError(
                f"response {row.place} to {group.name} has {row.length} tokens with its prompt, which {engine.name} "
                f"takes, but vLLM's memory holds {engine.room - 1}: give it more (runtime.vllm), or use the engine "
                "transformers"
            )

    def _terms(self, row: _Row, logprobs: Any, group: Judged) -> tuple[float, ...]:
        """log π of each response token: entry t of prompt_logprobs belongs to token t of prompt + response."""
        start = len(row.prompt_ids)
        terms = tuple(float(logprobs[start + step][token].logprob) for step, token in enumerate(row.response_ids))
        if not all(math.isfinite(term) for term in terms):
            raise ValueError(
                f"{self._engine.name} gives log-probabilities that are no numbers for response {row.place} to "
                f"{group.name}: its weights are broken or overflow"
            )
        return terms

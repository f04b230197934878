"""Sampling with transformers, reproducible row by row.

Every draw depends on (seed, language, prompt id, sample index, step) and on the model's probabilities, never on which
rows share a batch: a uniform number per row and step is fixed beforehand, and picks a token through the inverse of the
cumulative distribution. Nothing of the checkpoint's own generation settings is used but its stop ids.
"""

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from crossward.core.records import Prompt, Response, SampledPrompt
from crossward.engines.models import in_portions, load_model, max_positions
from crossward.engines.protocols import Advance, ModelSpec, Sampling, no_progress
from crossward.engines.sample_rows import SampleRow, grouped, response_of, sample_rows
from crossward.engines.tokens import ChatTokens


class HfSampler:
    """protocols.Sampler over one transformers model, `batch_rows` responses at a time."""

    def __init__(self, spec: ModelSpec, tokens: ChatTokens, *, batch_rows: int = 64) -> None:
        self._model = load_model(spec)
        # generate() fills what is unset from here; a checkpoint's repetition penalty or top-k must not leak in.
        self._model.generation_config = GenerationConfig()
        self._tokens = tokens
        self._batch_rows = batch_rows
        self._name = spec.path

    def sample(
        self, prompts: Sequence[Prompt], sampling: Sampling, *, advance: Advance = no_progress
    ) -> list[SampledPrompt]:
        """`sampling.n` responses to each prompt's instruction, in the prompts' order."""
        limit = max_positions(self._model.config)
        rows = sample_rows(prompts, self._tokens, sampling, limit=limit, name=self._name)
        drawn: dict[tuple[int, int], Response] = {}
        for batch in _batches(rows, self._batch_rows):
            results = in_portions(
                batch, lambda rows: self._draw(rows, sampling), describe=lambda row: f"{len(row.ids)} prompt tokens"
            )
            for row, response in zip(batch, results, strict=True):
                drawn[row.prompt, row.sample] = response
            advance(len(batch))
        return grouped(prompts, [drawn[row.prompt, row.sample] for row in rows], sampling.n)

    def close(self) -> None:
        """Give the model's memory back."""
        vars(self).pop("_model", None)

    def _draw(self, rows: Sequence[SampleRow], sampling: Sampling) -> list[Response]:
        """One left-padded batch through generate()."""
        width = max(len(row.ids) for row in rows)
        pad, device = self._tokens.pad_id, self._model.device
        input_ids = torch.tensor([[pad] * (width - len(row.ids)) + list(row.ids) for row in rows], device=device)
        starts = torch.tensor([[width - len(row.ids)] for row in rows], device=device)
        attention_mask = (torch.arange(width, device=device).expand(len(rows), -1) >= starts).long()
        output = self._model.generate(  # pyright: ignore[reportCallIssue]
            input_ids,
            attention_mask=attention_mask,
            generation_config=self._generation_config(sampling),
            logits_processor=_processors(rows, sampling, starts, width),
        )
        return [response_of(ids, self._tokens) for ids in cast(Tensor, output)[:, width:].tolist()]

    def _generation_config(self, sampling: Sampling) -> GenerationConfig:
        return GenerationConfig(
            do_sample=False,
            max_new_tokens=sampling.max_new_tokens,
            eos_token_id=sorted(self._tokens.stop_ids),
            pad_token_id=self._tokens.pad_id,
            use_cache=True,
        )


class InverseCdf(LogitsProcessor):
    """Temperature, top-p and the draw itself; leaves only the drawn token, so that greedy decoding takes it.

    `uniforms` is [rows, steps] in [0, 1), float64; `prompt_width` tells the step from the length so far.
    """

    def __init__(self, uniforms: Tensor, *, temperature: float, top_p: float, prompt_width: int) -> None:
        self._uniforms = uniforms
        self._temperature = temperature
        self._top_p = top_p
        self._prompt_width = prompt_width

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """scores [rows, vocabulary] -> the same shape, 0 at the drawn token and -inf elsewhere."""
        probabilities = (scores.float() / self._temperature).softmax(-1)
        if self._top_p < 1.0:
            probabilities = _nucleus(probabilities, self._top_p)
        cumulative = probabilities.double().cumsum(-1)  # vocabulary order: stable when two probabilities are close
        total = cumulative[:, -1:]
        if not bool((total > 0).all()):  # nor NaN
            raise ValueError("the model gives probabilities that are no numbers: its weights are broken or overflow")
        uniform = self._uniforms[:, input_ids.shape[1] - self._prompt_width].unsqueeze(1)
        # Strictly below the total, so that the first sum above it exists and belongs to a token that can be drawn.
        target = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
        drawn = torch.searchsorted(cumulative, target, right=True)
        masked = torch.full_like(scores, float("-inf")).scatter_(1, drawn, 0.0)
        return cast(torch.FloatTensor, masked)


class RepetitionPenalty(LogitsProcessor):
    """Sampling.repetition_penalty over what each row holds, prompt and answer; transformers' own counts padding too.

    `starts` [rows, 1] is where each left-padded row begins.
    """

    def __init__(self, penalty: float, starts: Tensor) -> None:
        self._penalty = penalty
        self._starts = starts

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """scores [rows, vocabulary] -> the same shape."""
        held = torch.arange(input_ids.shape[1], device=input_ids.device) >= self._starts
        seen = torch.zeros_like(scores, dtype=torch.int32).scatter_add_(1, input_ids, held.int()) > 0
        penalised = torch.where(scores > 0, scores / self._penalty, scores * self._penalty)
        return cast(torch.FloatTensor, torch.where(seen, penalised, scores))


def _nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """Zero all but the smallest set of most probable tokens whose sum reaches top_p."""
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    before = ordered.double().cumsum(-1) - ordered
    kept = torch.where(before < top_p, ordered, torch.zeros_like(ordered))
    return torch.zeros_like(probabilities).scatter_(-1, order, kept)


def _processors(
    rows: Sequence[SampleRow], sampling: Sampling, starts: Tensor, prompt_width: int
) -> LogitsProcessorList:
    """The penalty first, then the draw: temperature 0 is greedy and draws nothing."""
    processors = LogitsProcessorList()
    if sampling.repetition_penalty != 1.0:
        processors.append(RepetitionPenalty(sampling.repetition_penalty, starts))
    if sampling.temperature == 0:
        return processors
    draws = [
        torch.rand(sampling.max_new_tokens, generator=torch.Generator().manual_seed(row.seed), dtype=torch.float64)
        for row in rows
    ]
    inverse = InverseCdf(
        torch.stack(draws).to(starts.device),
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        prompt_width=prompt_width,
    )
    processors.append(inverse)
    return processors


def _batches(rows: Sequence[SampleRow], batch_rows: int) -> Iterator[list[SampleRow]]:
    """Prompts of like length together: less padding."""
    ordered = sorted(rows, key=lambda row: -len(row.ids))
    for start in range(0, len(ordered), batch_rows):
        yield ordered[start : start + batch_rows]

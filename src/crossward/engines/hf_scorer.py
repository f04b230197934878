"""Scoring with transformers: groups in, log π(y|x) of every response out.

Sequences of all groups are sorted by length and cut into batches of bounded padded size; the result of a response
depends on nothing but its own tokens (in float32, to rounding). Knows one model; a reward needs two scorers.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from crossward.core.records import ResponseLogprob
from crossward.engines.logprobs import response_logprobs, verify_head
from crossward.engines.models import in_portions, load_model, max_positions
from crossward.engines.protocols import Advance, Judged, ModelSpec, no_progress
from crossward.engines.tokens import ChatTokens


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One response to score, and the place its result belongs to."""

    group: int
    place: int
    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]

    @property
    def length(self) -> int:
        return len(self.prompt_ids) + len(self.response_ids)


class HfScorer:
    """protocols.Scorer over one transformers model. `batch_tokens` bounds rows x longest row of a batch."""

    def __init__(self, spec: ModelSpec, tokens: ChatTokens, *, batch_tokens: int = 8192) -> None:
        self._model = load_model(spec)
        self._tokens = tokens
        self._batch_tokens = batch_tokens
        self._name = spec.path
        embeddings = self._model.get_input_embeddings()
        self._vocabulary_size = int(embeddings.weight.shape[0])  # pyright: ignore
        verify_head(self._model, pad_id=tokens.pad_id)

    def score(self, groups: Sequence[Judged], *, advance: Advance = no_progress) -> list[tuple[ResponseLogprob, ...]]:
        """log π(y|x) of every response (nats, summed over its tokens), in the groups' order."""
        rows = self._rows(groups)
        scores: dict[tuple[int, int], ResponseLogprob] = {}
        for batch in _batches(rows, self._batch_tokens):
            results = in_portions(batch, self._score_rows, describe=lambda row: f"{row.length} tokens long")
            for row, result in zip(batch, results, strict=True):
                scores[row.group, row.place] = result
            advance(len(batch))
        return [
            tuple(scores[index, place] for place in range(len(group.responses))) for index, group in enumerate(groups)
        ]

    def _score_rows(self, rows: Sequence[_Row]) -> list[ResponseLogprob]:
        sequences = [(row.prompt_ids, row.response_ids) for row in rows]
        values = response_logprobs(self._model, sequences, pad_id=self._tokens.pad_id)
        if any(math.isnan(logprob) for logprob, _ in values):
            raise ValueError(f"{self._name} gives log-probabilities that are no numbers: its weights are broken")
        return [ResponseLogprob(logprob=logprob, n_tokens=n_tokens) for logprob, n_tokens in values]

    def _rows(self, groups: Sequence[Judged]) -> list[_Row]:
        rows = []
        for index, group in enumerate(groups):
            prompt_ids = self._tokens.prompt_ids(group.instruction)
            for place, response in enumerate(group.responses):
                response_ids = self._tokens.response_ids(response)
                row = _Row(group=index, place=place, prompt_ids=prompt_ids, response_ids=response_ids)
                self._check(row, group.instruction)
                rows.append(row)
        return rows

    def _check(self, row: _Row, instruction: str) -> None:
        limit = max_positions(self._model.config)
        if limit is not None and row.length > limit:
            raise ValueError(
                f"response {row.place} to {instruction[:60]!r} is too long for {self._name}: {len(row.prompt_ids)} "
                f"prompt + {len(row.response_ids)} response tokens, the model takes {limit}; shorten or leave it out"
            )
        if (largest := max((*row.prompt_ids, *row.response_ids))) >= self._vocabulary_size:
            raise ValueError(
                f"response {row.place} to {instruction[:60]!r} holds token id {largest}, but {self._name} knows ids "
                f"below {self._vocabulary_size}: score with the tokenizer of the model that sampled"
            )


def _batches(rows: Sequence[_Row], batch_tokens: int) -> Iterator[list[_Row]]:
    """Longest first, so that memory runs out at the beginning or never; ties in the given order."""
    batch: list[_Row] = []
    for row in sorted(rows, key=lambda row: -row.length):
        if batch and (len(batch) + 1) * batch[0].length > batch_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch

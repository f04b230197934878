"""Scoring with transformers: groups in, log π(y|x) of every response out.

Groups go through the model as packs: the prompt of a group once, its responses behind it, nothing padded, up to a
budget of tokens that fits the memory and is halved where it does not. Models whose attention packs cannot express
(`why_padded` says why) get right-padded batches of like length instead. The result of a response depends on nothing
but its own tokens (in float32, to rounding). Knows one model; a reward needs two scorers.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from crossward.core.records import ResponseLogprob
from crossward.engines.linears import lay_out_weights
from crossward.engines.logprobs import group_logprobs, share_prompts, token_logprobs, verify_head
from crossward.engines.models import (
    is_out_of_memory,
    keep_freed_memory,
    load_model,
    max_positions,
    rotary_switch,
    tokens_in_memory,
)
from crossward.engines.packs import TokenGroup, halves, portions, prompt_portions
from crossward.engines.protocols import Advance, Judged, ModelSpec, Work, no_progress
from crossward.engines.timing import timed
from crossward.engines.tokens import ChatTokens

Place = tuple[int, int]  # group, response
CPU_STEP = 768  # tokens of responses that one core computes at once: more are no quicker and balance worse


class HfScorer:
    """protocols.Scorer over one transformers model.

    `batch_tokens` bounds the tokens that go through the model at once; None: as many as the memory takes.
    """

    def __init__(self, spec: ModelSpec, tokens: ChatTokens, *, batch_tokens: int | None = None) -> None:
        self._model = load_model(spec)
        if self._model.device.type == "cpu":
            keep_freed_memory()
        self._tokens = tokens
        self._name = spec.path
        self._positions = max_positions(self._model.config)
        embeddings = self._model.get_input_embeddings()
        self._vocabulary_size = int(embeddings.weight.shape[0])  # pyright: ignore
        verify_head(self._model, pad_id=tokens.pad_id)
        self.why_padded = share_prompts(self._model)
        lay_out_weights(self._model)
        self._budget = batch_tokens or tokens_in_memory(self._model)
        self.work = Work()

    def score(
        self, groups: Sequence[Judged], *, per_token: bool = False, advance: Advance = no_progress
    ) -> list[tuple[ResponseLogprob | None, ...]]:
        """log π(y|x) of every response (nats, summed over its tokens), in the groups' order; None: too long.

        Raises ValueError for ids beyond the vocabulary and for log-probabilities that are no finite numbers.
        """
        asked = [self._token_group(index, group) for index, group in enumerate(groups)]
        asked = [group for group in asked if group.responses]
        self.work.unique_tokens += sum(group.unique_tokens for group in asked)
        found: dict[Place, Tensor] = {}
        for portion in self._portions(asked):
            before = len(found)
            self._score_portion(portion, found)
            for place in [place for group in portion for place in group.places]:
                self._require_finite(found[place], groups[place[0]], place[1])
            advance(len(found) - before)
        advance(sum(len(group.responses) for group in groups) - len(found))  # the too long ones
        return [
            tuple(self._result(found.get((index, k)), per_token) for k in range(len(group.responses)))
            for index, group in enumerate(groups)
        ]

    def close(self) -> None:
        """Give the model's memory back."""
        vars(self).pop("_model", None)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _token_group(self, index: int, group: Judged) -> TokenGroup:
        """The ids of a group without the responses that do not fit into the model's context."""
        prompt = self._tokens.prompt_ids(group.instruction)
        kept: list[tuple[tuple[int, ...], Place]] = []
        for k, response in enumerate(group.responses):
            ids = self._tokens.response_ids(response)
            if (largest := max((*prompt, *ids))) >= self._vocabulary_size:
                raise ValueError(
                    f"response {k} to {group.name} holds token id {largest}, but {self._name} knows ids below "
                    f"{self._vocabulary_size}: score with the tokenizer of the model that sampled"
                )
            if self._positions is None or len(prompt) + len(ids) <= self._positions:
                kept.append((ids, (index, k)))
        return TokenGroup(
            prompt=prompt, responses=tuple(ids for ids, _ in kept), places=tuple(place for _, place in kept)
        )

    def _portions(self, groups: Sequence[TokenGroup]) -> Iterator[list[TokenGroup]]:
        if self.why_padded is not None:
            yield from _like_lengths(groups, self._budget, rotary_switch(self._model.config))
        elif self._model.device.type == "cuda":
            yield from portions(groups, self._budget)
        else:
            yield from prompt_portions(groups, self._budget)

    def _score_portion(self, groups: list[TokenGroup], found: dict[Place, Tensor]) -> None:
        """One pack or padded batch; where memory runs out, its halves, and smaller ones from then on."""
        try:
            with timed(self.work, self._model.device):
                values = self._packed(groups) if self.why_padded is None else self._padded(groups)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            values = None
        if values is None:  # outside the handler: the traceback would keep the failed attempt's tensors alive
            self._in_halves(groups, found)
            return
        found.update(zip((place for group in groups for place in group.places), values, strict=True))

    def _in_halves(self, groups: list[TokenGroup], found: dict[Place, Tensor]) -> None:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        tokens = sum(group.unique_tokens for group in groups)
        parts = halves(groups)
        if parts is None:
            raise ValueError(
                f"out of memory with a single response of {tokens} tokens, its prompt included: use a larger or "
                "another device"
            )
        self._budget = min(self._budget, max(tokens // 2, 1))
        for part in parts:
            self._score_portion(part, found)

    def _packed(self, groups: Sequence[TokenGroup]) -> list[Tensor]:
        values, n_tokens = group_logprobs(
            self._model, groups, step_tokens=min(CPU_STEP, max(self._budget // torch.get_num_threads(), 1))
        )
        self.work.processed_tokens += n_tokens
        return values

    def _padded(self, groups: Sequence[TokenGroup]) -> list[Tensor]:
        sequences = [(group.prompt, response) for group in groups for response in group.responses]
        values = token_logprobs(self._model, sequences, pad_id=self._tokens.pad_id)
        longest = max(len(prompt) + len(response) for prompt, response in sequences) - 1
        self.work.processed_tokens += longest * len(sequences)
        return values

    def _require_finite(self, values: Tensor, group: Judged, k: int) -> None:
        if not bool(values.isfinite().all()):
            kind = "that are no numbers" if bool(values.isnan().any()) else "that are infinite"
            raise ValueError(
                f"{self._name} gives log-probabilities {kind} for response {k} to {group.name} "
                f"({group.instruction[-60:]!r}): its weights are broken or overflow in this dtype"
            )

    def _result(self, values: Tensor | None, per_token: bool) -> ResponseLogprob | None:
        if values is None:
            return None
        terms = tuple(values.tolist()) if per_token else None
        return ResponseLogprob(logprob=float(values.sum()), n_tokens=len(values), token_logprobs=terms)


def _like_lengths(groups: Sequence[TokenGroup], budget: int, switch: int | None) -> Iterator[list[TokenGroup]]:
    """Single responses for padded batches, longest first, so that memory runs out at the beginning or never.

    Sequences of more than `switch` tokens never share a batch with shorter ones (models.rotary_switch).
    """
    single = [
        TokenGroup(prompt=group.prompt, responses=(response,), places=(place,))
        for group in groups
        for response, place in zip(group.responses, group.places, strict=True)
    ]
    batch: list[TokenGroup] = []
    longest = 0
    for row in sorted(single, key=lambda row: -row.unique_tokens):
        apart = switch is not None and longest > switch >= row.unique_tokens
        if batch and (apart or (len(batch) + 1) * longest > budget):
            yield batch
            batch = []
        longest = longest if batch else row.unique_tokens
        batch.append(row)
    if batch:
        yield batch

"""# paper: scoring with the quirks of the published code, reproduced by name (`compatibility: published`).

The published scorer takes batches of three consecutive prompts, candidate by candidate, right-padded, with the end of
turn behind every response, and multiplies the log-probability of token t+1 by the mask of token t. So the first
response token is lost, and where pad ≠ end of turn every response that is not the longest of its batch also counts
log p(pad) at its end. Sums are rounded to 4 decimals. Use it to reproduce, never to align a model.
"""

from collections.abc import Sequence

from crossward.core.records import Response, ResponseLogprob
from crossward.engines.logprobs import token_logprobs, verify_head
from crossward.engines.models import load_model
from crossward.engines.protocols import Advance, Judged, ModelSpec, Work, no_progress
from crossward.engines.tokens import ChatTokens

BATCH_PROMPTS = 3  # paper: batches of 3 consecutive prompts, the same candidate of each


class PublishedScorer:
    """protocols.Scorer as the published code computes it. Groups must come in the file's order."""

    def __init__(self, spec: ModelSpec, tokens: ChatTokens) -> None:
        self._model = load_model(spec)
        self._tokens = tokens
        verify_head(self._model, pad_id=tokens.pad_id)
        self.work = Work()  # not counted: what it does is given

    def score(
        self, groups: Sequence[Judged], *, per_token: bool = False, advance: Advance = no_progress
    ) -> list[tuple[ResponseLogprob | None, ...]]:
        """The published "log_probs" of every response; `n_tokens` is the response with its end of turn."""
        if per_token:
            raise ValueError("the published scorer gives no values per token: leave compatibility at none")
        scores: list[tuple[ResponseLogprob | None, ...]] = []
        for start in range(0, len(groups), BATCH_PROMPTS):
            batch = groups[start : start + BATCH_PROMPTS]
            candidates = [self._column(batch, k) for k in range(max(len(group.responses) for group in batch))]
            scores += [tuple(candidates[k][i] for k in range(len(g.responses))) for i, g in enumerate(batch)]
            advance(sum(len(group.responses) for group in batch))
        return scores

    def close(self) -> None:
        """Give the model's memory back."""
        vars(self).pop("_model", None)

    def _column(self, batch: Sequence[Judged], k: int) -> list[ResponseLogprob]:
        """Candidate k of every prompt of one batch; a prompt without that many candidates gets a placeholder."""
        rows = [
            (self._tokens.prompt_ids(group.instruction), self._response_ids(group.responses[k]))
            if k < len(group.responses)
            else None
            for group in batch
        ]
        longest = max(len(prompt) + len(response) for prompt, response in filter(None, rows))
        return [ResponseLogprob(logprob=0.0, n_tokens=0) if row is None else self._score(*row, longest) for row in rows]

    def _response_ids(self, response: Response) -> tuple[int, ...]:
        """The response's ids with the end of turn, also where it was cut."""
        ids = self._tokens.response_ids(response)
        end = self._tokens.end_of_turn_id
        return ids if ids[-1:] == (end,) else (*ids, end)

    def _score(self, prompt: tuple[int, ...], response: tuple[int, ...], longest: int) -> ResponseLogprob:
        pad = self._tokens.pad_id
        counts_pad = pad != self._tokens.end_of_turn_id and len(prompt) + len(response) < longest
        shifted = (*response, pad) if counts_pad else response
        (values,) = token_logprobs(self._model, [(prompt, shifted)], pad_id=pad)
        return ResponseLogprob(logprob=round(float(values[1:].sum()), 4), n_tokens=len(response))

"""What is to be sampled, row by row: whose response it is, its seed and its prompt's ids. Shared by every sampler.

A row's seed depends on (seed, language, prompt id, sample index) alone, so shards, restarts and neighbours change
nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from crossward.core.records import Prompt, Response, SampledPrompt
from crossward.core.seeds import derive_seed
from crossward.engines.protocols import Sampling
from crossward.engines.tokens import ChatTokens


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRow:
    """One sample to draw: the prompt's place, which sample, its seed, and the prompt's ids."""

    prompt: int
    sample: int
    seed: int
    ids: tuple[int, ...]


def sample_rows(
    prompts: Sequence[Prompt], tokens: ChatTokens, sampling: Sampling, *, limit: int | None, name: str
) -> list[SampleRow]:
    """`sampling.n` rows for each prompt, in the prompts' order.

    Raises ValueError where prompt and new tokens are more than the `limit` of the model called `name`.
    """
    rows = []
    for index, prompt in enumerate(prompts):
        ids = tokens.conversation_ids(prompt.conversation)
        if limit is not None and len(ids) + sampling.max_new_tokens > limit:
            raise ValueError(
                f"prompt {prompt.id!r} ({prompt.language}) is too long for {name}: {len(ids)} prompt + "
                f"{sampling.max_new_tokens} new tokens, the model takes {limit}; lower max_new_tokens or drop it"
            )
        for sample in range(sampling.n):
            seed = derive_seed(sampling.seed, prompt.language, prompt.id, sample)
            rows.append(SampleRow(prompt=index, sample=sample, seed=seed, ids=ids))
    return rows


def response_of(ids: Sequence[int], tokens: ChatTokens) -> Response:
    """Ids as generated -> a response: cut behind the first stop id; "length" where there is none."""
    stop = next((index for index, token in enumerate(ids) if token in tokens.stop_ids), None)
    own = tuple(ids if stop is None else ids[: stop + 1])
    return Response(text=tokens.decode(own), token_ids=own, finish_reason="length" if stop is None else "stop")


def grouped(prompts: Sequence[Prompt], responses: Sequence[Response], n: int) -> list[SampledPrompt]:
    """Responses in the order of sample_rows -> one group per prompt."""
    assert len(responses) == len(prompts) * n
    return [
        SampledPrompt(prompt=prompt, responses=tuple(responses[index * n : (index + 1) * n]))
        for index, prompt in enumerate(prompts)
    ]

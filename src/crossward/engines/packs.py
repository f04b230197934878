"""Groups of token ids laid flat: every prompt once, its responses behind it, nothing padded.

A pack is one sequence of tokens that holds whole groups. Each response continues its own prompt and sees no other
response: positions restart behind the prompt, and attention follows the layout (shared_attention.py). The last token
of a response predicts nothing that is asked for and is left out.

Where no gradients are needed, prompts and responses can go through in turn: `prompt_pack` once, whose keys and values
are kept, then `response_packs` as small as a processor's cache likes them. Knows ids only, no model and no text.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

Span = tuple[int, int]  # first token and the one behind the last, in the pack
RUN_TOKENS = 128  # short responses of a group are attended together, up to so many tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenGroup:
    """A prompt and responses to it, as ids. `places` say which responses of which group they are, for the caller."""

    prompt: tuple[int, ...]
    responses: tuple[tuple[int, ...], ...]
    places: tuple[tuple[int, int], ...] = ()

    @property
    def unique_tokens(self) -> int:
        """Tokens that must go through the model: the prompt once, every response but its last token."""
        return len(self.prompt) + sum(max(len(response) - 1, 0) for response in self.responses)


@dataclass(frozen=True, slots=True, eq=False)
class PromptMemory:
    """Keys and values of a pack of prompts, by layer: each [1, key heads, tokens, head size]."""

    layers: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSpans:
    """Where one group lies. `runs` are neighbouring responses that are short enough to be attended together.

    In a pack of responses alone, `prompt` is the prompt's place in the pack of prompts.
    """

    prompt: Span
    runs: tuple[tuple[Span, ...], ...]


@dataclass(frozen=True)
class Layout:
    """Where the groups of a pack lie, and what follows from it for attention.

    A pack of prompts fills its `memory`; a pack of responses, which holds no prompts itself, reads it.
    """

    groups: tuple[GroupSpans, ...]
    n_tokens: int
    memory: PromptMemory | None = None
    holds_prompts: bool = True

    @cached_property
    def owners(self) -> tuple[Tensor, Tensor, Tensor]:
        """Per token, on the CPU: its group, its response within the pack (0: a prompt), its position (int32)."""
        group, response, position = (torch.zeros(self.n_tokens, dtype=torch.int32) for _ in range(3))
        number = 0
        for index, spans in enumerate(self.groups):
            start, stop = spans.prompt
            group[start:stop] = index
            position[start:stop] = torch.arange(stop - start)
            for a, b in (span for run in spans.runs for span in run):
                number += 1
                group[a:b], response[a:b] = index, number
                position[a:b] = torch.arange(stop - start, stop - start + b - a)
        return group, response, position


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """Flat tensors [1, tokens] on one device; `predictors[i]` is the token whose hidden state predicts `targets[i]`.

    Targets stand response by response; `lengths` says how many belong to each.
    """

    input_ids: Tensor
    position_ids: Tensor
    predictors: Tensor
    targets: Tensor
    lengths: tuple[int, ...]
    layout: Layout


def pack(groups: Sequence[TokenGroup], device: torch.device) -> Pack:
    """Lay groups behind one another. No prompt may be empty; a response of no tokens has no targets."""
    ids: list[int] = []
    positions: list[int] = []
    predictors: list[int] = []
    targets: list[int] = []
    spans: list[GroupSpans] = []
    for group in groups:
        assert group.prompt, "the first response token needs a token before it"
        start = len(ids)
        stop = start + len(group.prompt)
        ids += group.prompt
        positions += range(len(group.prompt))
        own: list[Span] = []
        for response in group.responses:
            first = len(ids)
            ids += response[:-1]
            positions += range(len(group.prompt), len(group.prompt) + len(response[:-1]))
            predictors += [stop - 1, *range(first, len(ids))][: len(response)]
            targets += response
            own += [(first, len(ids))] if len(ids) > first else []
        spans.append(GroupSpans(prompt=(start, stop), runs=tuple(_runs(own))))
    return Pack(
        input_ids=torch.tensor([ids], device=device),
        position_ids=torch.tensor([positions], device=device),
        predictors=torch.tensor(predictors, dtype=torch.long, device=device),
        targets=torch.tensor(targets, dtype=torch.long, device=device),
        lengths=tuple(len(response) for group in groups for response in group.responses),
        layout=Layout(groups=tuple(spans), n_tokens=len(ids)),
    )


def prompt_pack(groups: Sequence[TokenGroup], device: torch.device) -> Pack:
    """The prompts alone: each predicts the first token of all of its responses, and is remembered for the others."""
    only_first = [
        TokenGroup(prompt=group.prompt, responses=tuple(response[:1] for response in group.responses))
        for group in groups
    ]
    packed = pack(only_first, device)
    return replace(packed, layout=replace(packed.layout, memory=PromptMemory()))


def response_packs(groups: Sequence[TokenGroup], prompts: Pack, budget: int) -> Iterator[Pack]:
    """The responses alone, up to `budget` tokens at once (one response is never cut), behind `prompts`.

    The first token of a response is none of its targets here: the prompts predict it.
    """
    held: list[tuple[int, tuple[int, ...]]] = []
    tokens = 0
    for index, group in enumerate(groups):
        for response in group.responses:
            n = max(len(response) - 1, 0)
            if held and tokens + n > budget:
                yield _response_pack(held, groups, prompts)
                held, tokens = [], 0
            held.append((index, response))
            tokens += n
    if held:
        yield _response_pack(held, groups, prompts)


def _response_pack(held: Sequence[tuple[int, tuple[int, ...]]], groups: Sequence[TokenGroup], prompts: Pack) -> Pack:
    ids: list[int] = []
    positions: list[int] = []
    targets: list[int] = []
    own: dict[int, list[Span]] = {}
    for index, response in held:
        first, behind = len(ids), len(groups[index].prompt)
        ids += response[:-1]
        positions += range(behind, behind + len(response[:-1]))
        targets += response[1:]
        if len(ids) > first:
            own.setdefault(index, []).append((first, len(ids)))
    device = prompts.input_ids.device
    spans = tuple(
        GroupSpans(prompt=prompts.layout.groups[index].prompt, runs=tuple(_runs(found))) for index, found in own.items()
    )
    return Pack(
        input_ids=torch.tensor([ids], dtype=torch.long, device=device),
        position_ids=torch.tensor([positions], dtype=torch.long, device=device),
        predictors=torch.arange(len(ids), device=device),
        targets=torch.tensor(targets, dtype=torch.long, device=device),
        lengths=tuple(max(len(response) - 1, 0) for _, response in held),
        layout=Layout(groups=spans, n_tokens=len(ids), memory=prompts.layout.memory, holds_prompts=False),
    )


def prompt_portions(groups: Iterable[TokenGroup], budget: int) -> Iterator[list[TokenGroup]]:
    """Groups gathered until their prompts alone reach `budget` tokens; responses follow in packs of their own."""
    held: list[TokenGroup] = []
    tokens = 0
    for group in groups:
        if held and tokens + len(group.prompt) > budget:
            yield held
            held, tokens = [], 0
        held.append(group)
        tokens += len(group.prompt)
    if held:
        yield held


def prompt_shares(groups: Sequence[TokenGroup], n: int) -> list[list[TokenGroup]]:
    """Groups in their order, cut into at most `n` parts whose prompts hold about as many tokens."""
    total, done = sum(len(group.prompt) for group in groups), 0
    shares: list[list[TokenGroup]] = [[] for _ in range(n)]
    for group in groups:
        middle = done + len(group.prompt) / 2
        shares[min(int(middle / total * n), n - 1)].append(group)
        done += len(group.prompt)
    return [share for share in shares if share]


def portions(groups: Iterable[TokenGroup], budget: int) -> Iterator[list[TokenGroup]]:
    """Groups gathered up to `budget` tokens; a group above it is cut between responses, its prompt said again."""
    held: list[TokenGroup] = []
    tokens = 0
    for group in groups:
        for piece in _pieces(group, budget):
            if held and tokens + piece.unique_tokens > budget:
                yield held
                held, tokens = [], 0
            held.append(piece)
            tokens += piece.unique_tokens
    if held:
        yield held


def halves(groups: Sequence[TokenGroup]) -> tuple[list[TokenGroup], list[TokenGroup]] | None:
    """Two packs of about half the tokens, for when memory runs out; None where a single response is left."""
    if len(groups) > 1:
        middle = len(groups) // 2
        return list(groups[:middle]), list(groups[middle:])
    (group,) = groups
    middle = len(group.responses) // 2
    if middle == 0:
        return None
    return [_slice(group, 0, middle)], [_slice(group, middle, len(group.responses))]


def _pieces(group: TokenGroup, budget: int) -> Iterator[TokenGroup]:
    """A group in pieces of at most `budget` tokens where that can be done: one response is never cut."""
    first = 0
    tokens = len(group.prompt)
    for index, response in enumerate(group.responses):
        if index > first and tokens + len(response) - 1 > budget:
            yield _slice(group, first, index)
            first, tokens = index, len(group.prompt)
        tokens += max(len(response) - 1, 0)
    yield _slice(group, first, len(group.responses))


def _slice(group: TokenGroup, start: int, stop: int) -> TokenGroup:
    if start == 0 and stop == len(group.responses):
        return group
    return TokenGroup(prompt=group.prompt, responses=group.responses[start:stop], places=group.places[start:stop])


def _runs(responses: Sequence[Span]) -> Iterator[tuple[Span, ...]]:
    """Neighbours joined while they hold at most RUN_TOKENS together."""
    held: list[Span] = []
    for start, stop in responses:
        if held and stop - held[0][0] > RUN_TOKENS:
            yield tuple(held)
            held = []
        held.append((start, stop))
    if held:
        yield tuple(held)

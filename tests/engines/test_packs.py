"""Packs by hand: where tokens stand, which token predicts which, and how groups are portioned."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crossward.engines.packs import (
    RUN_TOKENS,
    TokenGroup,
    halves,
    pack,
    portions,
    prompt_pack,
    prompt_portions,
    prompt_shares,
    response_packs,
)

CPU = torch.device("cpu")
GROUPS = st.lists(
    st.tuples(st.integers(1, 30), st.lists(st.integers(0, 60), min_size=1, max_size=8)), min_size=1, max_size=8
)


def group(prompt: int, responses: list[int], index: int = 0) -> TokenGroup:
    """Ids that tell where they belong: prompts from 1000, response k of group g from 10000·(g+1) + 100·k."""
    return TokenGroup(
        prompt=tuple(range(1000, 1000 + prompt)),
        responses=tuple(tuple(10000 * (index + 1) + 100 * k + t for t in range(n)) for k, n in enumerate(responses)),
        places=tuple((index, k) for k in range(len(responses))),
    )


def test_a_pack_by_hand():
    """Prompt a b, responses c d e | f | (nothing) | g h: the last token of each goes in nowhere."""
    packed = pack([TokenGroup(prompt=(1, 2), responses=((3, 4, 5), (6,), (), (7, 8)))], CPU)
    assert packed.input_ids.tolist() == [[1, 2, 3, 4, 7]]
    assert packed.position_ids.tolist() == [[0, 1, 2, 3, 2]]
    assert packed.targets.tolist() == [3, 4, 5, 6, 7, 8]
    assert packed.predictors.tolist() == [1, 2, 3, 1, 1, 4]  # the prompt's last token predicts every first one
    assert packed.lengths == (3, 1, 0, 2)
    assert packed.layout.groups[0].prompt == (0, 2)
    assert packed.layout.groups[0].runs == (((2, 4), (4, 5)),)


@given(GROUPS)
def test_every_target_is_predicted_by_the_token_before_it(shapes):
    groups = [group(prompt, responses, index) for index, (prompt, responses) in enumerate(shapes)]
    packed = pack(groups, CPU)
    ids, positions = packed.input_ids[0].tolist(), packed.position_ids[0].tolist()
    expected = [
        ((*one.prompt, *response)[len(one.prompt) - 1 + t], len(one.prompt) - 1 + t, token)
        for one in groups
        for response in one.responses
        for t, token in enumerate(response)
    ]
    found = [
        (ids[p], positions[p], target)
        for p, target in zip(packed.predictors.tolist(), packed.targets.tolist(), strict=True)
    ]
    assert found == expected
    assert len(ids) == sum(one.unique_tokens for one in groups) == packed.layout.n_tokens
    for spans in packed.layout.groups:
        for run in spans.runs:
            assert len(run) == 1 or run[-1][1] - run[0][0] <= RUN_TOKENS


@given(GROUPS, st.integers(1, 200))
def test_portions_keep_every_response_once_and_hold_to_the_budget(shapes, budget):
    groups = [group(prompt, responses, index) for index, (prompt, responses) in enumerate(shapes)]
    made = list(portions(groups, budget))
    places = [place for portion in made for piece in portion for place in piece.places]
    assert places == [place for one in groups for place in one.places]
    responses = [response for portion in made for piece in portion for response in piece.responses]
    assert responses == [response for one in groups for response in one.responses]
    for portion in made:
        alone = len(portion) == 1 and sum(map(bool, portion[0].responses)) <= 1  # empty ones take no room
        assert alone or sum(piece.unique_tokens for piece in portion) <= budget


@given(GROUPS, st.integers(1, 200))
def test_prompts_and_then_responses_are_the_whole_pack_in_turn(shapes, budget):
    groups = [group(prompt, responses, index) for index, (prompt, responses) in enumerate(shapes)]
    prompts = prompt_pack(groups, CPU)
    assert prompts.input_ids[0].tolist() == [token for one in groups for token in one.prompt]
    responses = [response for one in groups for response in one.responses]
    assert prompts.targets.tolist() == [response[0] for response in responses if response]
    packs = list(response_packs(groups, prompts, budget))
    assert [length for packed in packs for length in packed.lengths] == [max(len(r) - 1, 0) for r in responses]
    assert [t for packed in packs for t in packed.targets.tolist()] == [t for r in responses for t in r[1:]]
    for packed in packs:
        ids = packed.input_ids[0].tolist()
        assert len(ids) <= budget or sum(length > 0 for length in packed.lengths) == 1
        assert packed.layout.memory is prompts.layout.memory is not None
        for spans in packed.layout.groups:
            start, stop = spans.prompt  # in the pack of prompts
            assert prompts.input_ids[0, start:stop].tolist() == list(range(1000, 1000 + stop - start))
            for a, b in (span for run in spans.runs for span in run):
                assert packed.position_ids[0, a:b].tolist() == list(range(stop - start, stop - start + b - a))


def test_prompt_portions_hold_to_the_budget():
    groups = [group(n, [500], index) for index, n in enumerate((5, 5, 30, 1))]
    assert [len(portion) for portion in prompt_portions(groups, 10)] == [2, 1, 1]


@pytest.mark.parametrize(
    ("lengths", "n", "expected"),
    [
        ([5, 5, 5, 5], 2, [[5, 5], [5, 5]]),
        ([9, 1, 1, 1], 2, [[9], [1, 1, 1]]),
        ([1, 1, 9], 2, [[1, 1], [9]]),
        ([7], 4, [[7]]),
    ],
)
def test_prompt_shares_are_even_and_in_order(lengths, n, expected):
    groups = [TokenGroup(prompt=(1,) * length, responses=((2,),)) for length in lengths]
    shares = prompt_shares(groups, n)
    assert [[len(group.prompt) for group in share] for share in shares] == expected
    assert [group for share in shares for group in share] == groups


def test_halves_end_at_one_response():
    groups = [group(3, [5, 6]), group(3, [7], 1)]
    first, second = halves(groups) or ([], [])
    assert [piece.places for piece in (*first, *second)] == [((0, 0), (0, 1)), ((1, 0),)]
    first, second = halves(first) or ([], [])
    assert [piece.places for piece in (*first, *second)] == [((0, 0),), ((0, 1),)]
    assert halves(first) is None


def test_owners_say_who_sees_whom():
    """Token by token: its group, its response (0: the prompt), its position."""
    packed = pack([group(2, [3, 2]), group(1, [2], 1)], CPU)
    owner, response, position = (tensor.tolist() for tensor in packed.layout.owners)
    assert owner == [0, 0, 0, 0, 0, 1, 1]
    assert response == [0, 0, 1, 1, 2, 0, 3]
    assert position == packed.position_ids[0].tolist() == [0, 1, 2, 3, 2, 0, 1]

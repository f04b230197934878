"""The scorer: its sums, its order, its batches, and what it refuses."""

import copy
import random
from pathlib import Path

import pytest
import torch
from tests.support.families import FAMILIES, MAX_POSITIONS, make_family

from crossward.core.records import Response
from crossward.engines import hf_scorer
from crossward.engines.hf_scorer import HfScorer
from crossward.engines.models import load_model
from crossward.engines.protocols import Judged, ModelSpec
from crossward.engines.tokens import load_tokens


@pytest.fixture(scope="module", params=FAMILIES)
def spec(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    folder = make_family(request.param, tmp_path_factory.mktemp(request.param))
    return ModelSpec(path=str(folder), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def chatml(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    return ModelSpec(path=str(make_family("chatml", tmp_path_factory.mktemp("chatml"))), dtype="float32", device="cpu")


def groups_of(n_groups: int = 4) -> list[Judged]:
    """Ragged groups of texts between 0 and about 40 words, some cut."""
    generator = random.Random(1)
    words = ["Manzana", "the", "\n\n", "Hola", "苹果", "  ", "thing."]

    def response() -> Response:
        text = " ".join(generator.choice(words) for _ in range(generator.choice([0, 1, 5, 40])))
        return Response(text=text, finish_reason=generator.choice(["stop", "length"]))

    return [
        Judged(instruction="Di " * (1 + 7 * index), responses=tuple(response() for _ in range(index % 4 + 1)))
        for index in range(n_groups)
    ]


def test_equals_a_float64_loop(spec: ModelSpec):
    tokens = load_tokens(spec)
    exact = load_model(spec).double()
    groups = groups_of()
    scores = HfScorer(spec, tokens).score(groups)
    for group, row in zip(groups, scores, strict=True):
        prompt = tokens.prompt_ids(group.instruction)
        for response, score in zip(group.responses, row, strict=True):
            ids = tokens.response_ids(response)
            logits = exact(input_ids=torch.tensor([[*prompt, *ids]])).logits[0]
            slow = sum(float(logits[len(prompt) + t - 1].log_softmax(-1)[token]) for t, token in enumerate(ids))
            assert score.logprob == pytest.approx(slow, abs=1e-4)
            assert score.n_tokens == len(ids)


def test_does_not_depend_on_batches_order_or_group_shape(spec: ModelSpec):
    tokens = load_tokens(spec)
    groups = groups_of()
    whole = HfScorer(spec, tokens).score(groups)
    flat = [score for row in whole for score in row]
    one_by_one = HfScorer(spec, tokens, batch_tokens=1)
    singles = [Judged(instruction=group.instruction, responses=(r,)) for group in groups for r in group.responses]
    alone = [score for row in one_by_one.score(singles) for score in row]
    mirrored = [Judged(instruction=group.instruction, responses=group.responses[::-1]) for group in groups[::-1]]
    backwards = [row[::-1] for row in HfScorer(spec, tokens, batch_tokens=150).score(mirrored)][::-1]
    for one, two, three in zip(flat, alone, [score for row in backwards for score in row], strict=True):
        assert one.n_tokens == two.n_tokens == three.n_tokens
        assert one.logprob == pytest.approx(two.logprob, abs=1e-4)
        assert one.logprob == pytest.approx(three.logprob, abs=1e-4)


def test_policy_equal_to_reference_gives_exactly_zero(spec: ModelSpec):
    tokens = load_tokens(spec)
    policy, reference = HfScorer(spec, tokens), HfScorer(spec, tokens)
    for one, two in zip(policy.score(groups_of()), reference.score(groups_of()), strict=True):
        assert [a.logprob - b.logprob for a, b in zip(one, two, strict=True)] == [0.0] * len(one)


def test_another_seed_gives_another_model(chatml: ModelSpec, tmp_path: Path):
    other = ModelSpec(path=str(make_family("chatml", tmp_path, seed=1)), dtype="float32", device="cpu")
    tokens = load_tokens(chatml)
    group = [Judged(instruction="Di", responses=(Response(text="Hola"),))]
    difference = (
        HfScorer(chatml, tokens).score(group)[0][0].logprob - HfScorer(other, tokens).score(group)[0][0].logprob
    )
    assert abs(difference) > 0.1


def test_no_tokens_are_zero_and_no_groups_are_none(chatml: ModelSpec):
    scorer = HfScorer(chatml, load_tokens(chatml))
    ((score,),) = scorer.score([Judged(instruction="Di", responses=(Response(text="", finish_reason="length"),))])
    assert (score.logprob, score.n_tokens) == (0.0, 0)
    assert scorer.score([]) == []
    assert scorer.score([Judged(instruction="Di", responses=())]) == [()]


def test_progress_counts_every_response_once(chatml: ModelSpec):
    seen: list[int] = []
    groups = groups_of()
    HfScorer(chatml, load_tokens(chatml), batch_tokens=200).score(groups, advance=seen.append)
    assert sum(seen) == sum(len(group.responses) for group in groups)
    assert len(seen) > 1


def test_too_long_names_the_numbers(chatml: ModelSpec):
    tokens = load_tokens(chatml)
    scorer = HfScorer(chatml, tokens)
    prompt = len(tokens.prompt_ids("Di"))
    fits = Response(text="", token_ids=(9,) * (MAX_POSITIONS - prompt))
    assert scorer.score([Judged(instruction="Di", responses=(fits,))])[0][0].n_tokens == MAX_POSITIONS - prompt
    too_long = Response(text="", token_ids=(9,) * (MAX_POSITIONS - prompt + 1))
    with pytest.raises(
        ValueError, match=rf"{prompt} prompt \+ {MAX_POSITIONS - prompt + 1} response .* {MAX_POSITIONS}"
    ):
        scorer.score([Judged(instruction="Di", responses=(too_long,))])


def test_ids_of_another_tokenizer_are_refused(chatml: ModelSpec):
    with pytest.raises(ValueError, match="token id 99999"):
        HfScorer(chatml, load_tokens(chatml)).score(
            [Judged(instruction="Di", responses=(Response(text="", token_ids=(99999,)),))]
        )


def test_out_of_memory_halves_the_batch(chatml: ModelSpec, monkeypatch: pytest.MonkeyPatch):
    scorer = HfScorer(chatml, load_tokens(chatml))
    groups = groups_of()
    expected = copy.deepcopy(scorer.score(groups))
    real, sizes = hf_scorer.response_logprobs, []

    def small_memory(model, sequences, *, pad_id):
        sizes.append(len(sequences))
        if len(sequences) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(model, sequences, pad_id=pad_id)

    monkeypatch.setattr(hf_scorer, "response_logprobs", small_memory)
    for one, two in zip(scorer.score(groups), expected, strict=True):
        assert [s.logprob for s in one] == pytest.approx([s.logprob for s in two], abs=1e-4)
    assert sizes[0] > 2
    assert min(sizes) <= 2

    def no_memory(model, sequences, *, pad_id):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(hf_scorer, "response_logprobs", no_memory)
    with pytest.raises(ValueError, match="out of memory with a single row"):
        scorer.score(groups)

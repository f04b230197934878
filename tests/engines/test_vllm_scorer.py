"""The vLLM scorer, on a real vLLM, held against HfScorer in float32: the same tokens, the same sums."""

import random
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.support.families import MAX_POSITIONS, make_family

from crossward.core.records import Response
from crossward.engines.hf_scorer import HfScorer
from crossward.engines.models import load_model
from crossward.engines.protocols import Judged, ModelSpec, VllmOptions
from crossward.engines.tokens import ChatTokens, load_tokens
from crossward.engines.vllm_scorer import VllmScorer


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    folder = make_family("chatml", tmp_path_factory.mktemp("chatml"), head_size=32)
    return ModelSpec(path=str(folder), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def tokens(spec: ModelSpec) -> ChatTokens:
    return load_tokens(spec)


@pytest.fixture(scope="module")
def scorer(spec: ModelSpec, tokens: ChatTokens) -> Iterator[VllmScorer]:
    scorer = VllmScorer(spec, tokens, options=VllmOptions(cpu_cache_gib=0.125))
    yield scorer
    scorer.close()


def groups_of(n_groups: int = 6) -> list[Judged]:
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


def test_equals_the_scorer_of_transformers(spec: ModelSpec, tokens: ChatTokens, scorer: VllmScorer):
    groups, seen = groups_of(), []
    ours = scorer.score(groups, per_token=True, advance=seen.append)
    assert sum(seen) == sum(len(group.responses) for group in groups)
    theirs = HfScorer(spec, tokens).score(groups, per_token=True)
    for one, two in zip(ours, theirs, strict=True):
        for a, b in zip(one, two, strict=True):
            assert a is not None
            assert b is not None
            assert a.n_tokens == b.n_tokens
            assert a.logprob == pytest.approx(b.logprob, abs=1e-3)
            assert a.token_logprobs == pytest.approx(b.token_logprobs, abs=1e-3)


def test_the_summed_tokens_are_the_responses_own_by_name(spec: ModelSpec, tokens: ChatTokens, scorer: VllmScorer):
    """Each term is the model's log-probability of the token of that name; the end of turn counts only where it is."""
    whole = Response(text="Hola Manzana", finish_reason="stop")
    cut = replace(whole, finish_reason="length")
    ((ended, truncated),) = scorer.score([Judged(instruction="Di", responses=(whole, cut))], per_token=True)
    names = tokens.names(tokens.response_ids(whole))
    assert names == ["Hola", "Ġ", "Man", "z", "ana", "<|im_end|>"]
    assert ended is not None
    assert truncated is not None
    assert ended.token_logprobs is not None
    prompt = tokens.prompt_ids("Di")
    own = tokens.response_ids(whole)
    logits = load_model(spec).double()(input_ids=torch.tensor([[*prompt, *own]])).logits[0]
    expected = [float(logits[len(prompt) + t - 1].log_softmax(-1)[token]) for t, token in enumerate(own)]
    assert ended.token_logprobs == pytest.approx(expected, abs=1e-4)
    assert ended.n_tokens == truncated.n_tokens + 1 == len(names)
    assert truncated.logprob == pytest.approx(sum(expected[:-1]), abs=1e-4)


def test_too_long_is_none_and_no_tokens_are_zero(tokens: ChatTokens, scorer: VllmScorer):
    prompt = len(tokens.prompt_ids("Di"))
    fits = Response(text="", token_ids=(9,) * (MAX_POSITIONS - prompt - 1))
    too_long = Response(text="", token_ids=(9,) * (MAX_POSITIONS - prompt + 1))
    empty = Response(text="", finish_reason="length")
    ((one, two, three),) = scorer.score([Judged(instruction="Di", responses=(fits, too_long, empty))])
    assert one is not None
    assert one.n_tokens == MAX_POSITIONS - prompt - 1
    assert two is None
    assert three is not None
    assert (three.logprob, three.n_tokens) == (0.0, 0)
    assert scorer.score([]) == []
    assert scorer.score([Judged(instruction="Di", responses=())]) == [()]


def test_ids_of_another_tokenizer_and_short_memory_are_refused(
    scorer: VllmScorer, tokens: ChatTokens, monkeypatch: pytest.MonkeyPatch
):
    foreign = Judged(instruction="Di", responses=(Response(text="", token_ids=(99999,)),), name="prompt 'p7' in 'es'")
    with pytest.raises(ValueError, match=r"response 0 to prompt 'p7' in 'es' holds token id 99999"):
        scorer.score([foreign])
    monkeypatch.setattr(scorer._engine, "room", 40)
    long = Judged(instruction="Di", responses=(Response(text="", token_ids=(9,) * 60),), name="prompt 'p7' in 'es'")
    with pytest.raises(ValueError, match=r"prompt 'p7' in 'es' has \d+ tokens .* vLLM's memory holds 39"):
        scorer.score([long])


def test_numbers_that_are_none_name_model_and_prompt(
    scorer: VllmScorer, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
):
    def broken(prompts: Any, params: Any, *, advance: Any) -> list[Any]:
        entry = {token: SimpleNamespace(logprob=float("nan")) for token in range(300)}
        return [SimpleNamespace(prompt_logprobs=[entry] * len(ids)) for ids in prompts]

    monkeypatch.setattr(scorer._engine, "generate", broken)
    group = Judged(instruction="Di", responses=(Response(text="Hola"),), name="prompt 'p7' in 'es'")
    with pytest.raises(ValueError, match=rf"{spec.path} gives .* no numbers for response 0 to prompt 'p7' in 'es'"):
        scorer.score([group])


def test_work_counts_the_prompts_that_went_through_again(tokens: ChatTokens, scorer: VllmScorer):
    before = replace(scorer.work)
    response = Response(text="Hola")
    scorer.score([Judged(instruction="Di", responses=(response, response, response))])
    prompt, own = len(tokens.prompt_ids("Di")), len(tokens.response_ids(response))
    assert scorer.work.processed_tokens - before.processed_tokens == 3 * (prompt + own)
    assert scorer.work.unique_tokens - before.unique_tokens == prompt + 3 * own
    assert scorer.work.seconds > before.seconds

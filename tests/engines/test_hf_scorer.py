"""The scorer: its sums, its order, its batches, and what it refuses."""

import gc
import math
import random
import shutil
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.support.families import FAMILIES, MAX_POSITIONS, make_family
from tests.support.threads import torch_threads
from transformers import Phi3Config, Phi3ForCausalLM

from crossward.core.records import Response
from crossward.engines import hf_scorer
from crossward.engines.hf_scorer import HfScorer
from crossward.engines.logprobs import token_logprobs
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


def test_what_does_not_fit_into_the_context_is_none(chatml: ModelSpec):
    tokens = load_tokens(chatml)
    room = MAX_POSITIONS - len(tokens.prompt_ids("Di"))
    fits, too_long = (Response(text="", token_ids=(9,) * n) for n in (room, room + 1))
    seen: list[int] = []
    scorer = HfScorer(chatml, tokens)
    ((none, score),) = scorer.score([Judged(instruction="Di", responses=(too_long, fits))], advance=seen.append)
    assert none is None
    assert score is not None
    assert score.n_tokens == room
    assert sum(seen) == 2
    assert scorer.score([Judged(instruction="Di", responses=(too_long,))]) == [(None,)]
    assert scorer.score([Judged(instruction="Di " * MAX_POSITIONS, responses=(fits,))]) == [(None,)]


def test_ids_of_another_tokenizer_are_refused(chatml: ModelSpec):
    with pytest.raises(ValueError, match="token id 99999"):
        HfScorer(chatml, load_tokens(chatml)).score(
            [Judged(instruction="Di", responses=(Response(text="", token_ids=(99999,)),))]
        )


def flat(rows) -> list[float]:
    return [score.logprob for row in rows for score in row]


@pytest.mark.parametrize("n_threads", [2, 3, 8])
def test_threads_share_the_work_and_change_nothing(chatml: ModelSpec, n_threads: int):
    scorer = HfScorer(chatml, load_tokens(chatml))
    groups = groups_of()
    with torch_threads(1):
        expected = flat(scorer.score(groups))
    with torch_threads(n_threads):
        assert flat(scorer.score(groups)) == pytest.approx(expected, abs=1e-4)
        n = len(groups[0].responses)
        assert flat(scorer.score(groups[:1])) == pytest.approx(expected[:n], abs=1e-4)
        assert torch.get_num_threads() == n_threads


def test_longrope_scores_depend_on_their_own_length(tmp_path: Path):
    """transformers takes other rotary factors for a whole batch as soon as one of its sequences is long."""
    folder = make_family("chatml", tmp_path)
    tokens = load_tokens(ModelSpec(path=str(folder), dtype="float32", device="cpu"))
    torch.manual_seed(0)
    factors = {"short_factor": [1.0] * 4, "long_factor": [1.0, 2.0, 4.0, 8.0]}
    config = Phi3Config(
        vocab_size=512,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        initializer_range=0.25,
        max_position_embeddings=MAX_POSITIONS,
        original_max_position_embeddings=60,
        pad_token_id=tokens.pad_id,
        rope_parameters={"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 60, **factors},
    )
    Phi3ForCausalLM(config).save_pretrained(folder)
    scorer = HfScorer(ModelSpec(path=str(folder), dtype="float32", device="cpu"), tokens)
    assert scorer.why_padded == "its rotary positions depend on the longest sequence at hand"
    texts = ("Hola", "the thing. " * 40, "Manzana.", "Hola " * 9)
    group = Judged(instruction="Di", responses=tuple(Response(text=text) for text in texts))
    together = flat(scorer.score([group]))
    alone = flat([scorer.score([Judged(instruction="Di", responses=(r,))])[0] for r in group.responses])
    assert together == pytest.approx(alone, abs=1e-4)
    mixed = token_logprobs(
        scorer._model, [(tokens.prompt_ids("Di"), tokens.response_ids(r)) for r in group.responses], pad_id=0
    )
    assert abs(float(mixed[0].sum()) - alone[0]) > 0.01  # the neighbour would have changed it


def test_out_of_memory_halves_the_pack_and_what_comes_after(chatml: ModelSpec, monkeypatch: pytest.MonkeyPatch):
    scorer = HfScorer(chatml, load_tokens(chatml))
    groups = groups_of()
    expected = flat(scorer.score(groups))
    real, sizes = hf_scorer.group_logprobs, []

    def small_memory(model, groups, *, step_tokens):
        sizes.append(sum(group.unique_tokens for group in groups))
        if sizes[-1] > 200:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(model, groups, step_tokens=step_tokens)

    monkeypatch.setattr(hf_scorer, "group_logprobs", small_memory)
    assert flat(scorer.score(groups)) == pytest.approx(expected, abs=1e-4)
    assert max(sizes) > 200
    assert scorer._budget < 200  # it takes smaller steps from now on

    def no_memory(model, groups, *, step_tokens):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(hf_scorer, "group_logprobs", no_memory)
    with pytest.raises(ValueError, match="out of memory with a single response of"):
        scorer.score(groups)


def test_another_runtime_error_is_not_taken_for_a_full_memory(chatml: ModelSpec, monkeypatch: pytest.MonkeyPatch):
    def broken(model, groups, *, step_tokens):
        raise RuntimeError("shapes do not match")

    scorer = HfScorer(chatml, load_tokens(chatml))
    monkeypatch.setattr(hf_scorer, "group_logprobs", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        scorer.score(groups_of())


def test_padded_batches_give_the_same_sums(spec: ModelSpec, monkeypatch: pytest.MonkeyPatch):
    """What a model gets that packs do not fit."""
    tokens = load_tokens(spec)
    packed = HfScorer(spec, tokens)
    assert packed.why_padded is None
    monkeypatch.setattr(hf_scorer, "share_prompts", lambda model: "a test wants it so")
    padded = HfScorer(spec, tokens, batch_tokens=150)
    assert flat(padded.score(groups_of())) == pytest.approx(flat(packed.score(groups_of())), abs=1e-4)
    assert padded.work.unique_tokens == packed.work.unique_tokens
    assert packed.work.waste == 0.0
    assert 0.0 < padded.work.waste < 0.9
    assert packed.work.seconds > 0


@pytest.mark.parametrize("budget", [1, 90, 10_000])
def test_no_prompt_goes_through_twice_whatever_the_budget(chatml: ModelSpec, budget):
    tokens = load_tokens(chatml)
    prompt = len(tokens.prompt_ids("Di"))
    group = Judged(instruction="Di", responses=tuple(Response(text="", token_ids=(9,) * n) for n in (41, 41, 1, 0)))
    scorer = HfScorer(chatml, tokens, batch_tokens=budget)
    whole = flat(HfScorer(chatml, tokens).score([group]))
    assert flat(scorer.score([group])) == pytest.approx(whole, abs=1e-4)
    assert scorer.work.unique_tokens == scorer.work.processed_tokens == prompt + 2 * 40


def test_per_token_terms_add_up(chatml: ModelSpec):
    for row in HfScorer(chatml, load_tokens(chatml)).score(groups_of(), per_token=True):
        for score in row:
            assert score is not None
            assert score.token_logprobs is not None
            assert len(score.token_logprobs) == score.n_tokens
            assert sum(score.token_logprobs) == pytest.approx(score.logprob, abs=1e-9)


@pytest.mark.parametrize(
    ("value", "said"), [(float("nan"), "that are no numbers"), (float("-inf"), "that are infinite")]
)
def test_broken_weights_are_named_with_the_prompt(chatml: ModelSpec, monkeypatch: pytest.MonkeyPatch, value, said):
    def broken(model, groups, *, step_tokens):
        return [torch.full((len(response),), value) for group in groups for response in group.responses], 1

    scorer = HfScorer(chatml, load_tokens(chatml))
    monkeypatch.setattr(hf_scorer, "group_logprobs", broken)
    group = Judged(instruction="Say it", responses=(Response(text="Hola"),), name="prompt 'p3' (es)")
    with pytest.raises(ValueError, match=rf"{said} for response 0 to prompt 'p3' \(es\) \('Say it'\)") as caught:
        scorer.score([group])
    assert chatml.path in str(caught.value)


@pytest.mark.parametrize("weight", ["embed_tokens", "q_proj", "down_proj"])
def test_a_checkpoint_with_one_broken_weight_is_named_when_it_scores(chatml: ModelSpec, tmp_path: Path, weight: str):
    folder = tmp_path / "broken"
    shutil.copytree(chatml.path, folder)
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith(f"{weight}.weight"))
    weights[name][:, 0] = math.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    scorer = HfScorer(replace(chatml, path=str(folder)), load_tokens(chatml))
    with pytest.raises(ValueError, match=rf"{folder} gives log-probabilities that are no numbers for response \d to "):
        scorer.score(groups_of())


def test_close_gives_the_model_back(chatml: ModelSpec):
    scorer = HfScorer(chatml, load_tokens(chatml))
    model = weakref.ref(scorer._model)
    scorer.close()
    gc.collect()
    assert model() is None

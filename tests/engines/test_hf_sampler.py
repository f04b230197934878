"""The sampler: draws that depend on their own row only, the right distribution, the right stops, no leaks."""

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.support.families import FAMILIES, MAX_POSITIONS, make_family
from transformers import AutoModelForCausalLM, AutoTokenizer

from crossward.core.records import FollowUp, Prompt, SampledPrompt
from crossward.engines import hf_sampler
from crossward.engines.hf_sampler import HfSampler, InverseCdf
from crossward.engines.hf_scorer import HfScorer
from crossward.engines.models import load_model
from crossward.engines.protocols import Judged, ModelSpec, Sampling
from crossward.engines.tokens import ChatTokens, load_tokens

SAMPLING = Sampling(n=3, temperature=0.9, top_p=1.0, max_new_tokens=12, seed=42)


def prompts_of(*instructions: str, language: str = "es") -> list[Prompt]:
    return [
        Prompt(id=f"p{index}", language=language, instruction=text, english_instruction="Say")
        for index, text in enumerate(instructions)
    ]


PROMPTS = prompts_of("Di Manzana.", "Hola " * 9, "the thing", "Di " * 20)


@pytest.fixture(scope="module", params=FAMILIES)
def spec(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    folder = make_family(request.param, tmp_path_factory.mktemp(request.param))
    return ModelSpec(path=str(folder), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def llama3(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    return ModelSpec(path=str(make_family("llama3", tmp_path_factory.mktemp("llama3"))), dtype="float32", device="cpu")


def ids_of(sampled: list[SampledPrompt]) -> dict[str, list[tuple[int, ...] | None]]:
    return {group.prompt.id: [response.token_ids for response in group.responses] for group in sampled}


def next_token_probabilities(spec: ModelSpec, tokens: ChatTokens, instruction: str, temperature: float) -> torch.Tensor:
    logits = load_model(spec)(input_ids=torch.tensor([tokens.prompt_ids(instruction)])).logits[0, -1]
    return (logits.double() / temperature).softmax(-1)


def test_draws_do_not_depend_on_batches_order_or_neighbours(spec: ModelSpec):
    tokens = load_tokens(spec)
    whole = HfSampler(spec, tokens).sample(PROMPTS, SAMPLING)
    assert [group.prompt for group in whole] == PROMPTS
    small = HfSampler(spec, tokens, batch_rows=5)
    assert ids_of(small.sample(PROMPTS, SAMPLING)) == ids_of(whole)
    assert ids_of(small.sample(PROMPTS[::-1], SAMPLING)) == ids_of(whole)
    assert ids_of(small.sample(PROMPTS[2:3], SAMPLING)) == {"p2": ids_of(whole)["p2"]}
    # Fewer samples, or fewer new tokens, are a beginning of more.
    assert ids_of(small.sample(PROMPTS, replace(SAMPLING, n=1))) == {k: v[:1] for k, v in ids_of(whole).items()}
    shorter = ids_of(small.sample(PROMPTS, replace(SAMPLING, max_new_tokens=4)))
    assert shorter == {key: [(ids or ())[:4] for ids in value] for key, value in ids_of(whole).items()}


def test_a_follow_up_is_answered_within_its_conversation(spec: ModelSpec):
    tokens = load_tokens(spec)
    follow_up = FollowUp(
        id="p0", language="es", instruction="Ya", english_instruction="Now", earlier=("Di", "Manzana.")
    )
    greedy = replace(SAMPLING, n=1, temperature=0.0)
    (group,) = HfSampler(spec, tokens).sample([follow_up], greedy)
    assert group.prompt == follow_up
    ids = list(tokens.conversation_ids(("Di", "Manzana.", "Ya")))
    drawn = group.responses[0].token_ids or ()
    model = load_model(spec)
    for token in drawn:
        assert int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()) == token
        ids.append(token)
    assert len(drawn) > 0
    with pytest.raises(ValueError, match=r"prompt 'p0' \(es\) is too long for .*: \d+ prompt \+ 480 new tokens"):
        HfSampler(spec, tokens).sample(
            [replace(follow_up, earlier=("Di", "Di " * 99))], replace(greedy, max_new_tokens=480)
        )


def test_seed_language_id_and_index_each_change_the_draw(llama3: ModelSpec):
    sampler = HfSampler(llama3, load_tokens(llama3))
    (base,) = sampler.sample(PROMPTS[:1], SAMPLING)
    assert len(set(base.responses)) == SAMPLING.n
    others = [
        sampler.sample(PROMPTS[:1], replace(SAMPLING, seed=43)),
        sampler.sample([replace(PROMPTS[0], language="de")], SAMPLING),
        sampler.sample([replace(PROMPTS[0], id="other")], SAMPLING),
    ]
    for ((other,),) in zip(others, strict=True):
        assert not set(other.responses) & set(base.responses)


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 1.0), (1.3, 0.6)])
def test_first_token_frequencies_match_the_softmax(llama3: ModelSpec, temperature: float, top_p: float):
    """Chi-square over 3,000 draws of one token, expectations from transformers' logits in float64."""
    tokens = load_tokens(llama3)
    sampling = Sampling(n=3000, temperature=temperature, top_p=top_p, max_new_tokens=1, seed=7)
    (group,) = HfSampler(llama3, tokens, batch_rows=1000).sample(PROMPTS[:1], sampling)
    counts = Counter(token for response in group.responses for token in response.token_ids or ())
    expected = next_token_probabilities(llama3, tokens, PROMPTS[0].instruction, temperature)
    if top_p < 1:
        order = expected.argsort(descending=True).tolist()
        kept, mass = [], 0.0
        while mass < top_p:  # the smallest set of most probable tokens that reaches top_p
            kept.append(order[len(kept)])
            mass += float(expected[kept[-1]])
        assert set(counts) <= set(kept)
        expected = torch.zeros_like(expected).scatter(0, torch.tensor(kept), expected[kept]) / mass
    frequent = [token for token, p in enumerate(expected.tolist()) if p * 3000 >= 5]
    rare = 3000 - sum(counts[token] for token in frequent)
    rare_expected = 3000 * (1 - float(expected[frequent].sum()))
    statistic = sum((counts[t] - 3000 * float(expected[t])) ** 2 / (3000 * float(expected[t])) for t in frequent)
    statistic += (rare - rare_expected) ** 2 / max(rare_expected, 5)
    freedom = len(frequent)
    assert freedom > 20
    assert statistic < freedom + 3.5 * math.sqrt(2 * freedom)


def test_inverse_cdf_by_hand():
    """p = (.5, .3, .2): u below .5 draws 0, below .8 draws 1, else 2; top-p .7 leaves (.625, .375)."""
    scores = torch.tensor([[0.5, 0.3, 0.2]]).log()
    ids = torch.zeros((1, 4), dtype=torch.long)

    def drawn(uniform: float, top_p: float = 1.0, temperature: float = 1.0) -> int:
        uniforms = torch.tensor([[0.999, uniform]], dtype=torch.float64)  # step 1: a prompt of 3, one token drawn
        process = InverseCdf(uniforms, temperature=temperature, top_p=top_p, prompt_width=3)
        result = process(ids, scores)  # pyright: ignore[reportArgumentType]
        assert torch.isfinite(result).sum() == 1
        return int(result.argmax())

    assert [drawn(u) for u in (0.0, 0.49, 0.51, 0.79, 0.81, 1 - 2**-53)] == [0, 0, 1, 1, 2, 2]
    assert [drawn(u, top_p=0.7) for u in (0.0, 0.62, 0.63, 1 - 2**-53)] == [0, 0, 1, 1]
    assert [drawn(u, top_p=0.1) for u in (0.0, 0.99)] == [0, 0]
    # Temperature 0.5 squares: (.25, .09, .04) / .38
    assert [drawn(u, temperature=0.5) for u in (0.65, 0.66, 0.89, 0.90)] == [0, 1, 1, 2]


def test_greedy_equals_transformers_greedy(spec: ModelSpec):
    tokens = load_tokens(spec)
    sampling = Sampling(n=1, temperature=0.0, top_p=1.0, max_new_tokens=16, seed=0)
    sampled = HfSampler(spec, tokens).sample(PROMPTS, sampling)
    model = load_model(spec)
    for group in sampled:
        ids = list(tokens.prompt_ids(group.prompt.instruction))
        start = len(ids)
        while len(ids) < start + 16 and (len(ids) == start or ids[-1] not in tokens.stop_ids):
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        assert list(group.responses[0].token_ids or ()) == ids[start:]


@pytest.mark.parametrize("source", ["template", "generation config", "tokenizer"])
def test_every_source_of_stop_ids_is_honoured(source: str, tmp_path: Path):
    """A head that always names one token: it must end the response at once, wherever it is declared as an end."""
    folder = make_family("llama3", tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    token = {"template": "<|eot_id|>", "generation config": "z", "tokenizer": "<|end_of_text|>"}[source]
    stop = int(tokenizer.convert_tokens_to_ids(token))
    if source == "generation config":
        path = folder / "generation_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token_id": [1, stop]}))
    elif source == "tokenizer":
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": None}))
    spec = ModelSpec(path=str(folder), dtype="float32", device="cpu")
    tokens = load_tokens(spec)
    sampler = HfSampler(spec, tokens)

    def always(module, inputs, output):
        return torch.full_like(output, -50.0).index_fill_(-1, torch.tensor([stop]), 50.0)

    head = sampler._model.get_output_embeddings()
    assert head is not None
    head.register_forward_hook(always)
    for group in sampler.sample(PROMPTS, SAMPLING):
        for response in group.responses:
            assert (response.token_ids, response.finish_reason, response.text) == ((stop,), "stop", "")


def test_responses_are_cut_behind_the_end_or_marked_as_cut(spec: ModelSpec):
    tokens = load_tokens(spec)
    seen = set()
    sampling = Sampling(n=60, temperature=2.0, top_p=1.0, max_new_tokens=60, seed=1)
    for group in HfSampler(spec, tokens, batch_rows=300).sample(PROMPTS, sampling):
        for response in group.responses:
            ids = list(response.token_ids or ())
            seen.add(response.finish_reason)
            assert not tokens.stop_ids.intersection(ids[:-1])
            assert (ids[-1] in tokens.stop_ids) == (response.finish_reason == "stop")
            assert response.finish_reason == "stop" or len(ids) == 60
            assert response.text == tokens.decode(ids)
    assert seen == {"stop", "length"}


def test_nothing_leaks_in_from_the_checkpoints_generation_settings(llama3: ModelSpec, tmp_path: Path):
    folder = make_family("llama3", tmp_path)
    path = folder / "generation_config.json"
    leaks = {"do_sample": True, "temperature": 0.1, "top_k": 1, "repetition_penalty": 9.0, "max_length": 3}
    leaks |= {"suppress_tokens": list(range(5, 200)), "no_repeat_ngram_size": 1, "num_return_sequences": 2}
    path.write_text(json.dumps({**json.loads(path.read_text()), **leaks}))
    leaky = ModelSpec(path=str(folder), dtype="float32", device="cpu")
    for sampling in (SAMPLING, replace(SAMPLING, temperature=0.0, n=1)):
        expected = HfSampler(llama3, load_tokens(llama3)).sample(PROMPTS, sampling)
        assert ids_of(HfSampler(leaky, load_tokens(leaky)).sample(PROMPTS, sampling)) == ids_of(expected)


def test_the_sampled_ids_score_as_they_were_sampled(spec: ModelSpec):
    """At temperature 1 and top-p 1 the draw is from π: the scorer must give the sampler's own log-probabilities."""
    tokens = load_tokens(spec)
    sampling = Sampling(n=2, temperature=1.0, top_p=1.0, max_new_tokens=10, seed=3)
    recorded: list[tuple[torch.Tensor, torch.Tensor]] = []
    sampler, real = HfSampler(spec, tokens), InverseCdf.__call__

    def recording(self, input_ids, scores):
        result = real(self, input_ids, scores)
        recorded.append((scores.log_softmax(-1), result.argmax(-1)))
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InverseCdf, "__call__", recording)
        (group,) = sampler.sample(PROMPTS[:1], sampling)
    judged = Judged(instruction=group.prompt.instruction, responses=group.responses)
    (scores,) = HfScorer(spec, tokens).score([judged])
    for row, (response, score) in enumerate(zip(group.responses, scores, strict=True)):
        steps = list(zip(response.token_ids or (), recorded, strict=False))
        assert all(int(drawn[row]) == token for token, (_, drawn) in steps)
        sampled = sum(float(logprobs[row, token]) for token, (logprobs, _) in steps)
        assert score.logprob == pytest.approx(sampled, abs=1e-4)
        assert score.n_tokens == len(steps)


def test_too_long_names_the_prompt_and_the_numbers(llama3: ModelSpec):
    tokens = load_tokens(llama3)
    length = len(tokens.prompt_ids(PROMPTS[0].instruction))
    sampling = Sampling(n=1, temperature=0.0, top_p=1.0, max_new_tokens=MAX_POSITIONS - length + 1, seed=0)
    message = rf"prompt 'p0' \(es\).* {length} prompt \+ {sampling.max_new_tokens} new tokens.* {MAX_POSITIONS}"
    with pytest.raises(ValueError, match=message):
        HfSampler(llama3, tokens).sample(PROMPTS[:1], sampling)


def test_progress_and_memory(llama3: ModelSpec, monkeypatch: pytest.MonkeyPatch):
    """Halving a batch changes no draw, and every response is counted once."""
    sampler = HfSampler(llama3, load_tokens(llama3), batch_rows=7)
    seen: list[int] = []
    expected = sampler.sample(PROMPTS, SAMPLING, advance=seen.append)
    assert seen == [7, 5]
    real = hf_sampler._processors

    def small_memory(rows, *rest):
        if len(rows) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(rows, *rest)

    monkeypatch.setattr(hf_sampler, "_processors", small_memory)
    assert ids_of(sampler.sample(PROMPTS, SAMPLING)) == ids_of(expected)


def test_greedy_equals_generate_of_a_plain_model(llama3: ModelSpec):
    """The library's own generate(), one unpadded prompt."""
    tokens = load_tokens(llama3)
    ids = torch.tensor([tokens.prompt_ids("Di Manzana.")])
    model = AutoModelForCausalLM.from_pretrained(llama3.path, dtype=torch.float32)
    output = model.generate(  # pyright: ignore[reportAttributeAccessIssue]
        ids, do_sample=False, max_new_tokens=16, eos_token_id=sorted(tokens.stop_ids)
    )
    sampling = Sampling(n=1, temperature=0.0, top_p=1.0, max_new_tokens=16, seed=0)
    (group,) = HfSampler(llama3, tokens).sample(PROMPTS[:1], sampling)
    assert group.responses[0].token_ids == tuple(output[0, ids.shape[1] :].tolist())


@pytest.mark.parametrize("penalty", [1.1, 5.0])
def test_a_repetition_penalty_is_the_librarys_and_does_not_see_padding(llama3: ModelSpec, penalty: float):
    """Greedy, one unpadded prompt at a time by the library; together, padded, by ours."""
    tokens = load_tokens(llama3)
    model = AutoModelForCausalLM.from_pretrained(llama3.path, dtype=torch.float32)
    sampling = Sampling(n=1, temperature=0.0, top_p=1.0, max_new_tokens=24, seed=0)
    penalised = replace(sampling, repetition_penalty=penalty)
    sampler = HfSampler(llama3, tokens)
    found = ids_of(sampler.sample(PROMPTS, penalised))
    assert found != ids_of(sampler.sample(PROMPTS, sampling))
    for prompt in PROMPTS:
        ids = torch.tensor([tokens.prompt_ids(prompt.instruction)])
        output = model.generate(  # pyright: ignore[reportAttributeAccessIssue]
            ids,
            do_sample=False,
            max_new_tokens=24,
            eos_token_id=sorted(tokens.stop_ids),
            repetition_penalty=penalty,
        )
        assert found[prompt.id] == [tuple(output[0, ids.shape[1] :].tolist())], prompt.id


def test_a_penalised_draw_does_not_depend_on_its_batch(llama3: ModelSpec):
    tokens, sampling = load_tokens(llama3), replace(SAMPLING, repetition_penalty=1.5)
    whole = ids_of(HfSampler(llama3, tokens).sample(PROMPTS, sampling))
    assert ids_of(HfSampler(llama3, tokens, batch_rows=1).sample(PROMPTS, sampling)) == whole
    assert ids_of(HfSampler(llama3, tokens).sample(PROMPTS, SAMPLING)) != whole

"""The kernel, against a float64 loop over transformers' own logits, against TRL, and by token names."""

import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from tests.support.families import FAMILIES, make_family, turn_end_of
from torch import nn
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    CohereConfig,
    CohereForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedModel,
)

from crossward.core.records import Response
from crossward.engines.logprobs import pack_logprobs, share_prompts, token_logprobs, verify_head
from crossward.engines.models import load_model
from crossward.engines.packs import TokenGroup, pack
from crossward.engines.protocols import ModelSpec
from crossward.engines.tokens import ChatTokens, load_tokens

RESPONSES = (
    Response(text="Manzana."),
    Response(text="\n\nHola, the thing " * 4, finish_reason="length"),
    Response(text=""),
    Response(text=" 苹果 é"),
)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    folder = make_family(request.param, tmp_path_factory.mktemp(request.param))
    spec = ModelSpec(path=str(folder), dtype="float32", device="cpu")
    return request.param, load_model(spec), load_tokens(spec)


def sequences_of(tokens: ChatTokens) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    prompts = ("Di Manzana.", "Name the thing on " * 5)
    return [(tokens.prompt_ids(prompt), tokens.response_ids(response)) for prompt in prompts for response in RESPONSES]


def response_logprobs(model: PreTrainedModel, sequences: Any, *, pad_id: int) -> list[tuple[float, int]]:
    """Sum and number of each sequence's terms."""
    return [(float(row.sum()), len(row)) for row in token_logprobs(model, sequences, pad_id=pad_id)]


def slow_sum(model: PreTrainedModel, prompt: tuple[int, ...], response: tuple[int, ...]) -> float:
    """A loop over tokens in float64: one softmax of the model's own full logits each, one sequence at a time."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prompt, *response]])).logits[0]
    assert logits.dtype == torch.float64
    total = 0.0
    for step, token in enumerate(response):
        total += float(torch.log(torch.softmax(logits[len(prompt) + step - 1], dim=-1)[token]))
    return total


def test_equals_a_float64_loop_over_full_logits(family):
    _, model, tokens = family
    exact = copy.deepcopy(model).double()
    sequences = sequences_of(tokens)
    ours = response_logprobs(model, sequences, pad_id=tokens.pad_id)
    for (logprob, n_tokens), (prompt, response) in zip(ours, sequences, strict=True):
        assert n_tokens == len(response)
        assert logprob == pytest.approx(slow_sum(exact, prompt, response), abs=1e-4)


def test_does_not_depend_on_neighbours_order_or_padding_ids(family):
    _, model, tokens = family
    sequences = sequences_of(tokens)
    together = response_logprobs(model, sequences, pad_id=tokens.pad_id)
    alone = [response_logprobs(model, [sequence], pad_id=tokens.pad_id)[0] for sequence in sequences]
    backwards = response_logprobs(model, sequences[::-1], pad_id=5)[::-1]
    for one, two, three in zip(together, alone, backwards, strict=True):
        assert one[0] == pytest.approx(two[0], abs=1e-4)
        assert one[0] == pytest.approx(three[0], abs=1e-4)


def test_equals_left_padding(family):
    """The same sums from a left-padded batch through the whole model, position ids and mask made here."""
    _, model, tokens = family
    sequences = [sequence for sequence in sequences_of(tokens) if sequence[1]]
    width = max(len(prompt) + len(response) for prompt, response in sequences)
    rows = [[tokens.pad_id] * (width - len(p) - len(r)) + [*p, *r] for p, r in sequences]
    mask = torch.tensor([[0] * (width - len(p) - len(r)) + [1] * (len(p) + len(r)) for p, r in sequences])
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor(rows), attention_mask=mask, position_ids=positions).logits.double()
    ours = response_logprobs(model, sequences, pad_id=tokens.pad_id)
    for row, (logprob, _), (_, response) in zip(logits, ours, sequences, strict=True):
        predicted = row[width - len(response) - 1 : width - 1].log_softmax(-1)
        theirs = predicted.gather(-1, torch.tensor(response).unsqueeze(-1)).sum()
        assert logprob == pytest.approx(float(theirs), abs=1e-4)


def test_the_names_of_the_tokens_that_are_summed(family):
    """Found from the values alone: which token of the sequence, under the full logits, has each summed value."""
    name, model, tokens = family
    end = turn_end_of(name)
    cases = {
        Response(text="Manzana."): ["Man", "z", "ana", ".", end],
        Response(text="Manzana.", finish_reason="length"): ["Man", "z", "ana", "."],
        Response(text=""): [end],
        Response(text="", finish_reason="length"): [],
    }
    longer = (tokens.prompt_ids("Di " * 9), tokens.response_ids(Response(text="Hola " * 9)))
    for response, names in cases.items():
        sequence = (tokens.prompt_ids("Di"), tokens.response_ids(response))
        values = token_logprobs(model, [longer, sequence], pad_id=tokens.pad_id)[1]  # the shorter row is padded
        ids = torch.tensor([*sequence[0], *sequence[1]])
        with torch.no_grad():
            full = model(input_ids=ids.unsqueeze(0)).logits[0, :-1].log_softmax(-1)
        every = full.gather(-1, ids[1:].unsqueeze(-1)).squeeze(-1)
        summed = [int((every - value).abs().argmin()) + 1 for value in values]
        found = tokens.names(ids[summed].tolist() if summed else [])
        print(f"{name}, {response.text!r}, {response.finish_reason}: {' '.join(found) or 'nothing'}")  # pytest -s
        assert found == names
        assert summed == list(range(len(sequence[0]), len(ids)))


@pytest.mark.parametrize("name", ["chatml", "llama3"])
def test_equals_trl_reference_log_probs(name: str, tmp_path: Path):
    """The function of TRL's own trainer, fed with the same ids and its own completion mask."""
    from datasets import Dataset
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    spec = ModelSpec(path=str(make_family(name, tmp_path / "model")), dtype="float32", device="cpu")
    tokens = load_tokens(spec)
    prompt = tokens.prompt_ids("Di Manzana.")
    chosen, rejected = (tokens.response_ids(response) for response in RESPONSES[:2])
    arguments = DPOConfig(
        output_dir=str(tmp_path / "out"), report_to=[], use_cpu=True, bf16=False, gradient_checkpointing=False
    )
    text = [{"role": "user", "content": "Di"}]
    row = {"prompt": text, "chosen": [{"role": "assistant", "content": "a"}]}
    trainer = DPOTrainer(
        model=load_model(spec).requires_grad_(True),
        ref_model=load_model(spec),
        args=arguments,
        train_dataset=Dataset.from_list([{**row, "rejected": [{"role": "assistant", "content": "b"}]}]),
        processing_class=tokens.tokenizer,
    )
    width = max(len(chosen), len(rejected)) + len(prompt)
    ids, attention, completion = [], [], []
    for response in (chosen, rejected):
        fill = width - len(prompt) - len(response)
        ids.append([*prompt, *response, *[tokens.pad_id] * fill])
        attention.append([1] * (width - fill) + [0] * fill)
        completion.append([0] * len(prompt) + [1] * len(response) + [0] * fill)
    batch = {"input_ids": ids, "attention_mask": attention, "completion_mask": completion}
    theirs = cast(Any, trainer).compute_ref_log_probs(
        trainer.ref_model, {key: torch.tensor(value) for key, value in batch.items()}
    )
    ours = response_logprobs(load_model(spec), [(prompt, chosen), (prompt, rejected)], pad_id=tokens.pad_id)
    assert ours[0][0] == pytest.approx(float(theirs[0]), abs=1e-4)
    assert ours[1][0] == pytest.approx(float(theirs[1]), abs=1e-4)


SIZES: dict[str, Any] = {"vocab_size": 60, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 4, "num_key_value_heads": 4, "initializer_range": 0.3}


def other_family(name: str) -> PreTrainedModel:
    torch.manual_seed(0)
    match name:
        case "cohere":
            return CohereForCausalLM(CohereConfig(**SIZES, logit_scale=0.0625)).eval()
        case "granite":
            return GraniteForCausalLM(GraniteConfig(**SIZES, logits_scaling=3.0)).eval()
        case _:
            return GPT2LMHeadModel(GPT2Config(vocab_size=60, n_embd=32, n_layer=2, n_head=4)).eval()


@pytest.mark.parametrize("name", ["cohere", "granite", "gpt2"])
def test_families_that_scale_their_logits(name: str):
    model = other_family(name)
    verify_head(model, pad_id=0)
    sequence = ((3, 4, 5), (6, 7, 8, 9))
    ((logprob, _),) = response_logprobs(model, [sequence], pad_id=0)
    assert logprob == pytest.approx(slow_sum(copy.deepcopy(model).double(), *sequence), abs=1e-4)


def groups_of(tokens: ChatTokens) -> list[TokenGroup]:
    """The same sequences as packs hold them: two prompts with four responses each."""
    rows = sequences_of(tokens)
    return [
        TokenGroup(prompt=part[0][0], responses=tuple(response for _, response in part))
        for part in (rows[: len(RESPONSES)], rows[len(RESPONSES) :])
    ]


def test_packs_give_the_sums_of_a_float64_loop(family):
    """Whatever the family: sliding windows, capped scores, and a response of one token or none among the others."""
    name, model, tokens = family
    exact = copy.deepcopy(model).double()
    shared = copy.deepcopy(model)
    assert share_prompts(shared) is None, name
    packed = pack(groups_of(tokens), torch.device("cpu"))
    expected = [slow_sum(exact, prompt, response) for prompt, response in sequences_of(tokens)]
    with torch.inference_mode():
        quick = pack_logprobs(shared, packed)
    kept = pack_logprobs(shared.requires_grad_(True), packed)
    for values in (quick, kept.detach()):
        sums = [float(part.double().sum()) for part in values.split(packed.lengths)]
        assert sums == pytest.approx(expected, abs=1e-4)


def test_a_response_in_a_pack_feels_no_neighbour(family):
    _, model, tokens = family
    shared = copy.deepcopy(model)
    share_prompts(shared)
    groups = groups_of(tokens)
    changed = [replace(groups[0], responses=(groups[0].responses[0], (9,) * 50, (8,), (7, 7))), groups[1]]
    with torch.inference_mode():
        first, second = (pack_logprobs(shared, pack(some, torch.device("cpu"))).double() for some in (groups, changed))
    n = len(groups[0].responses[0])
    assert torch.allclose(first[:n], second[:n], atol=1e-5)
    last = sum(len(response) for response in groups[1].responses)
    assert torch.allclose(first[-last:], second[-last:], atol=1e-5)


def test_gradients_of_packs_are_those_of_single_sequences(family):
    _, model, tokens = family
    one, two = copy.deepcopy(model).requires_grad_(True), copy.deepcopy(model).requires_grad_(True)
    share_prompts(one, training=True)
    pack_logprobs(one, pack(groups_of(tokens), torch.device("cpu"))).sum().backward()
    for prompt, response in sequences_of(tokens):
        if response:
            logits = two(input_ids=torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1]
            logits.log_softmax(-1).gather(-1, torch.tensor(response).unsqueeze(-1)).sum().backward()
    largest = max(float(p.grad.abs().max()) for p in two.parameters() if p.grad is not None)
    for ours, theirs in zip(one.parameters(), two.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert float((ours.grad - theirs.grad).abs().max()) < 1e-5 * largest


@pytest.mark.parametrize("name", ["cohere", "granite", "gpt2"])
def test_other_families_are_packed_too(name: str):
    model = other_family(name)
    expected = slow_sum(copy.deepcopy(model).double(), (3, 4, 5), (6, 7, 8, 9))
    assert share_prompts(model) is None
    group = TokenGroup(prompt=(3, 4, 5), responses=((9, 9), (6, 7, 8, 9)))
    with torch.inference_mode():
        values = pack_logprobs(model, pack([group], torch.device("cpu")))
    assert float(values[2:].sum()) == pytest.approx(expected, abs=1e-4)


def test_models_that_packs_do_not_fit_say_why_and_keep_their_attention():
    torch.manual_seed(0)
    mamba = MambaForCausalLM(
        MambaConfig(vocab_size=60, hidden_size=32, num_hidden_layers=1, state_size=4, initializer_range=0.3)
    ).eval()
    assert share_prompts(mamba) is not None
    bloom = BloomForCausalLM(
        BloomConfig(vocab_size=60, hidden_size=32, n_layer=1, n_head=4, initializer_range=0.3)
    ).eval()
    before = bloom.config._attn_implementation
    assert share_prompts(bloom) is not None  # ALiBi: positions stand in no argument
    assert bloom.config._attn_implementation == before
    ((logprob, _),) = response_logprobs(bloom, [((3, 4, 5), (6, 7, 8, 9))], pad_id=0)
    assert logprob == pytest.approx(slow_sum(copy.deepcopy(bloom).double(), (3, 4, 5), (6, 7, 8, 9)), abs=1e-4)


def test_verify_head_accepts_every_family(family):
    """As it is; and no family whose logits change behind the head."""
    _, model, tokens = family
    verify_head(model, pad_id=tokens.pad_id)

    def change(module: nn.Module, given: Any, output: Any) -> Any:
        output.logits = output.logits * 1.5
        return output

    hook = model.register_forward_hook(change)
    try:
        with pytest.raises(ValueError, match="models cannot be trusted here"):
            verify_head(model, pad_id=tokens.pad_id)
    finally:
        hook.remove()


def test_verify_head_refuses_an_unknown_change_of_logits():
    class Surprise(GPT2LMHeadModel):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            output: Any = super().forward(*args, **kwargs)
            return SimpleNamespace(logits=output.logits * 1.5)

    torch.manual_seed(0)
    model = Surprise(GPT2Config(vocab_size=60, n_embd=32, n_layer=1, n_head=4, initializer_range=0.3)).eval()
    with pytest.raises(ValueError, match="gpt2 models cannot be trusted"):
        verify_head(model, pad_id=0)


def test_bfloat16_logits_are_summed_in_higher_precision(tmp_path: Path):
    """A bfloat16 sum near −300 has steps of 2; ours is a float64 sum, and nearer to the truth than rounded logits."""
    folder = make_family("chatml", tmp_path)
    model = load_model(ModelSpec(path=str(folder), dtype="bfloat16", device="cpu"))
    verify_head(model, pad_id=0)
    sequence = (tuple(range(5, 15)), tuple(range(20, 120)))
    (values,) = token_logprobs(model, [sequence], pad_id=0)
    ((total, _),) = response_logprobs(model, [sequence], pad_id=0)
    assert values.dtype == torch.float64
    assert total == sum(values.tolist())
    assert total < -300
    exact = copy.deepcopy(model).double()
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*sequence[0], *sequence[1]]])).logits[0, 9:-1]
        hidden = model.base_model(input_ids=torch.tensor([[*sequence[0], *sequence[1]]])).last_hidden_state[0, 9:-1]
        whole = exact.get_output_embeddings()(hidden.double())
    targets = torch.tensor(sequence[1]).unsqueeze(-1)
    rounded = logits.double().log_softmax(-1).gather(-1, targets).squeeze(-1)
    true = whole.log_softmax(-1).gather(-1, targets).squeeze(-1)  # of the same hidden states, head unrounded
    ours, theirs = (values - true).square().mean().sqrt(), (rounded - true).square().mean().sqrt()
    assert float(ours) < 0.75 * float(theirs)
    assert total == pytest.approx(float(true.sum()), abs=0.2)

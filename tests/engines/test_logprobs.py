"""The kernel, against a float64 loop over transformers' own logits, against TRL, and by token names."""

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from tests.support.families import FAMILIES, make_family, turn_end_of
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    PreTrainedModel,
)

from crossward.core.records import Response
from crossward.engines.logprobs import response_logprobs, token_logprobs, verify_head
from crossward.engines.models import load_model
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
    ours = response_logprobs(model, sequences, pad_id=tokens.pad_id, chunk_rows=7)
    for (logprob, n_tokens), (prompt, response) in zip(ours, sequences, strict=True):
        assert n_tokens == len(response)
        assert logprob == pytest.approx(slow_sum(exact, prompt, response), abs=1e-4)


def test_does_not_depend_on_neighbours_order_chunks_or_padding_ids(family):
    _, model, tokens = family
    sequences = sequences_of(tokens)
    together = response_logprobs(model, sequences, pad_id=tokens.pad_id)
    alone = [response_logprobs(model, [sequence], pad_id=tokens.pad_id)[0] for sequence in sequences]
    backwards = response_logprobs(model, sequences[::-1], pad_id=5, chunk_rows=1)[::-1]
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


def test_verify_head_accepts_every_family(family):
    _, model, tokens = family
    verify_head(model, pad_id=tokens.pad_id)


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
    """A bfloat16 sum near −300 has steps of 2; ours must equal the float64 sum of its own tokens."""
    folder = make_family("chatml", tmp_path)
    model = load_model(ModelSpec(path=str(folder), dtype="bfloat16", device="cpu"))
    verify_head(model, pad_id=0)
    sequence = (tuple(range(5, 15)), tuple(range(20, 120)))
    (values,) = token_logprobs(model, [sequence], pad_id=0)
    ((total, _),) = response_logprobs(model, [sequence], pad_id=0)
    assert values.dtype == torch.float64
    assert total == sum(values.tolist())
    assert total < -300
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*sequence[0], *sequence[1]]])).logits[0].double()
    own = logits[9:-1].log_softmax(-1).gather(-1, torch.tensor(sequence[1]).unsqueeze(-1)).sum()
    assert total == pytest.approx(float(own), abs=1e-3)

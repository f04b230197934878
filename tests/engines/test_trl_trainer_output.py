"""What the trainer logs, leaves out, refuses and saves; and which tokens carry loss."""

import errno
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import SafetensorError, safe_open
from tests.support.families import FAMILIES, make_family
from tests.support.training import (
    TRAINING,
    largest_difference,
    make_pairs,
    pair_logprob,
    read_journal,
    read_tensors,
    read_weights,
    train,
    train_by_hand,
)
from transformers import GenerationConfig

from crossward.core.records import Response
from crossward.engines import trl_trainer
from crossward.engines.models import load_model
from crossward.engines.protocols import ModelSpec, TrainingPair
from crossward.engines.tokens import compare_tokens, load_tokens

NAMES = {
    "loss",
    "grad_norm",
    "learning_rate",
    "epoch",
    "dpo_loss",
    "nll_loss",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/margins",
    "rewards/accuracies",
    "logps/chosen",
    "logps/rejected",
}


@pytest.fixture(scope="module", params=FAMILIES)
def spec(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    folder = make_family(request.param, tmp_path_factory.mktemp(request.param))
    return ModelSpec(path=str(folder), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def chatml(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    return ModelSpec(path=str(make_family("chatml", tmp_path_factory.mktemp("chatml"))), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def pairs(chatml: ModelSpec) -> list[TrainingPair]:
    return make_pairs(chatml, load_tokens(chatml))


def test_first_margin_is_zero_when_the_reference_is_the_policy(spec: ModelSpec, tmp_path: Path):
    """Scorer and trainer sum the same tokens under the same prompt, or this would be off by nats."""
    training = replace(TRAINING, epochs=2, micro_batch_size=2)
    train(spec, make_pairs(spec, load_tokens(spec), shift=0.0), training, tmp_path)
    first, second = read_journal(tmp_path / "metrics.jsonl")
    for name in ("rewards/chosen", "rewards/rejected", "rewards/margins"):
        assert abs(first[name]) < 1e-5, name
        assert abs(second[name]) > 1e-3, name
    assert first["dpo_loss"] == pytest.approx(0.693147, abs=1e-5)


def test_saved_checkpoint_keeps_tokens_template_and_generation_config(spec: ModelSpec, tmp_path: Path):
    start = Path(spec.path)
    train(spec, make_pairs(spec, load_tokens(spec)), TRAINING, tmp_path)
    output = tmp_path / "output"
    before, after = load_tokens(spec), load_tokens(replace(spec, path=str(output)))
    assert compare_tokens(before, after) == []
    assert after.fingerprint() == before.fingerprint()
    assert (after.stop_ids, after.pad_id, after.end_of_turn_id) == (
        before.stop_ids,
        before.pad_id,
        before.end_of_turn_id,
    )
    for text in ("Di the Manzana", ""):
        assert after.prompt_ids(text) == before.prompt_ids(text)
    assert after.tokenizer.padding_side == before.tokenizer.padding_side
    configurations = [GenerationConfig.from_pretrained(folder).to_diff_dict() for folder in (start, output)]
    assert configurations[0] == configurations[1]
    kept = [json.loads((folder / "config.json").read_text()) for folder in (start, output)]
    assert kept[0] == {**kept[1], "use_cache": kept[0].get("use_cache")}


def test_journal_and_result(chatml: ModelSpec, tmp_path: Path):
    tokens = load_tokens(chatml)
    pairs = make_pairs(chatml, tokens, n=6, shift=3.0)
    training = replace(TRAINING, epochs=2, micro_batch_size=2, beta=0.25)
    result = train(chatml, pairs, training, tmp_path)
    journal = read_journal(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in journal] == [1, 2, 3, 4]
    for line in journal:
        assert line.keys() >= NAMES
        assert line["rewards/margins"] == pytest.approx(line["rewards/chosen"] - line["rewards/rejected"], abs=1e-5)
    assert {name: result[name] for name in NAMES} == {name: journal[-1][name] for name in NAMES}
    assert (result["pairs"], result["dropped_too_long"], result["steps"]) == (6, 0, 4)
    assert result["seconds"] > 0


def test_journal_values_by_hand(chatml: ModelSpec, tmp_path: Path):
    """Micro-batches of 2 and 1 pairs: a mean of their means would be another number."""
    tokens, model = load_tokens(chatml), load_model(chatml)
    pairs = make_pairs(chatml, tokens, n=3, shift=3.0)
    train(chatml, pairs, replace(TRAINING, micro_batch_size=2), tmp_path)
    (line,) = read_journal(tmp_path / "metrics.jsonl")
    rows = [
        (pair_logprob(model, prompt, chosen).item(), pair_logprob(model, prompt, rejected).item(), len(chosen))
        for prompt, chosen, rejected in (
            (tokens.prompt_ids(p.instruction), tokens.response_ids(p.chosen), tokens.response_ids(p.rejected))
            for p in pairs
        )
    ]
    ours = [
        0.1 * (chosen - pair.reference_chosen_logprob - rejected + pair.reference_rejected_logprob)
        for pair, (chosen, rejected, _) in zip(pairs, rows, strict=True)
    ]
    assert line["logps/chosen"] == pytest.approx(sum(row[0] for row in rows) / 3, abs=1e-4)
    assert line["logps/rejected"] == pytest.approx(sum(row[1] for row in rows) / 3, abs=1e-4)
    assert line["nll_loss"] == pytest.approx(sum(-row[0] / row[2] for row in rows) / 3, abs=1e-5)
    assert line["rewards/margins"] == pytest.approx(sum(ours) / 3, abs=1e-5)
    assert line["rewards/accuracies"] == pytest.approx(sum(margin > 0 for margin in ours) / 3, abs=1e-6)


def test_too_long_pairs_are_left_out_whole_and_counted(chatml: ModelSpec, tmp_path: Path):
    """max_length just admits the second longest: what is trained is the training without the longest."""
    tokens = load_tokens(chatml)
    pairs = make_pairs(chatml, tokens, shift=3.0)

    def length(pair: TrainingPair) -> int:
        longer = max(len(tokens.response_ids(response)) for response in (pair.chosen, pair.rejected))
        return len(tokens.prompt_ids(pair.instruction)) + longer

    ranked = sorted(pairs, key=length)
    limit = length(ranked[-2])
    assert limit < length(ranked[-1])
    training = replace(TRAINING, max_length=limit)
    result = train(chatml, pairs, training, tmp_path)
    assert (result["pairs"], result["dropped_too_long"], result["steps"]) == (3, 1, 1)
    expected = train_by_hand(chatml, tokens, [ranked[:-1]], training)
    assert largest_difference(read_weights(tmp_path / "output"), expected) < 1e-6


def test_nothing_that_fits_is_refused(chatml: ModelSpec, pairs: list[TrainingPair], tmp_path: Path):
    with pytest.raises(ValueError, match=r"^none of 4 pairs fits into max_length 5 tokens: raise train.max_length$"):
        train(chatml, pairs, replace(TRAINING, max_length=5), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_chosen_response_of_no_tokens_is_refused(chatml: ModelSpec, pairs: list[TrainingPair], tmp_path: Path):
    """Its NLL would be 0/0, and with it every weight not a number."""
    nothing = replace(pairs[0], instruction="Say nothing", chosen=Response(text="", finish_reason="length"))
    with pytest.raises(ValueError, match=r"chosen response to 'Say nothing' has no tokens"):
        train(chatml, [pairs[1], nothing], TRAINING, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_output_is_never_overwritten(chatml: ModelSpec, pairs: list[TrainingPair], tmp_path: Path):
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "precious").touch()
    with pytest.raises(ValueError, match=r"output exists already"):
        train(chatml, pairs, TRAINING, tmp_path)
    assert [path.name for path in (tmp_path / "output").iterdir()] == ["precious"]


def test_batch_must_be_whole_micro_batches(chatml: ModelSpec, pairs: list[TrainingPair], tmp_path: Path):
    with pytest.raises(ValueError, match=r"batch_size must be a multiple of micro_batch_size, got 4 and 3"):
        train(chatml, pairs, replace(TRAINING, micro_batch_size=3), tmp_path)
    assert not (tmp_path / "output").exists()


def test_save_dtype(chatml: ModelSpec, pairs: list[TrainingPair], tmp_path: Path):
    """Rounded once, at the end: training itself stays in float32 even where the checkpoint is read as bfloat16."""
    train(chatml, pairs, TRAINING, tmp_path / "float32")
    train(replace(chatml, dtype="bfloat16"), pairs, replace(TRAINING, save_dtype="bfloat16"), tmp_path / "bfloat16")
    exact = read_tensors(tmp_path / "float32" / "output")
    rounded = read_tensors(tmp_path / "bfloat16" / "output")
    assert {tensor.dtype for tensor in exact.values()} == {torch.float32}
    assert {tensor.dtype for tensor in rounded.values()} == {torch.bfloat16}
    assert all(torch.equal(exact[name].bfloat16(), rounded[name]) for name in exact)
    assert json.loads((tmp_path / "bfloat16" / "output" / "config.json").read_text())["dtype"] == "bfloat16"


def test_the_start_is_left_as_it_was(chatml: ModelSpec, pairs: list[TrainingPair], tmp_path: Path):
    files = {file: file.read_bytes() for file in Path(chatml.path).iterdir()}
    train(chatml, pairs, TRAINING, tmp_path)
    assert {file: file.read_bytes() for file in Path(chatml.path).iterdir()} == files
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "output"]
    (weights,) = (tmp_path / "output").glob("*.safetensors")
    with safe_open(weights, framework="pt") as opened:
        assert len(list(opened.keys())) > 10
    assert not list((tmp_path / "output").glob("*.bin"))
    assert not (tmp_path / "output" / "README.md").exists()


def test_end_of_turn_is_trained_only_where_a_response_ended_by_itself(spec: ModelSpec, tmp_path: Path):
    """The journal's log-probabilities are sums over exactly the response: the prompt's tokens are not in them."""
    tokens, model = load_tokens(spec), load_model(spec)
    prompt = tokens.prompt_ids("Di")
    plain = tokens.response_ids(Response(text="Hola the", finish_reason="length"))
    responses = {
        "stop": (Response(text="Hola the", finish_reason="stop"), (*plain, tokens.end_of_turn_id)),
        "length": (Response(text="Hola the", finish_reason="length"), plain),
        "ids": (Response(text="never read", token_ids=plain[:1]), plain[:1]),
    }
    rejected = Response(text="thing")
    for name, (chosen, ids) in responses.items():
        pair = TrainingPair(
            instruction="Di",
            chosen=chosen,
            rejected=rejected,
            reference_chosen_logprob=-1.0,
            reference_rejected_logprob=-1.0,
        )
        train(spec, [pair], TRAINING, tmp_path / name)
        (line,) = read_journal(tmp_path / name / "metrics.jsonl")
        logprob = pair_logprob(model, prompt, ids).item()
        assert line["logps/chosen"] == pytest.approx(logprob, abs=1e-4), name
        assert line["nll_loss"] == pytest.approx(-logprob / len(ids), abs=1e-5), name
        by_hand = pair_logprob(model, prompt, tokens.response_ids(rejected)).item()
        assert line["logps/rejected"] == pytest.approx(by_hand, abs=1e-4), name


def test_a_full_disk_is_an_oserror_whoever_tells_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    told = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    with pytest.raises(OSError, match="No space left") as caught, trl_trainer._full_disk_as_oserror(tmp_path):
        raise told
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path))
    with pytest.raises(RuntimeError, match="PytorchStreamWriter"), trl_trainer._full_disk_as_oserror(tmp_path):
        raise RuntimeError("PytorchStreamWriter failed")  # and the disk has room
    monkeypatch.setattr(trl_trainer.shutil, "disk_usage", lambda folder: SimpleNamespace(free=0))
    with pytest.raises(OSError, match="No space left"), trl_trainer._full_disk_as_oserror(tmp_path):
        raise RuntimeError("PytorchStreamWriter failed")

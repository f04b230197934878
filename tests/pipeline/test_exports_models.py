"""Exports with a model behind them: TRL's trainer on our file, checkpoints and cards, verdicts for alpaca_eval."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
import yaml
from datasets import load_dataset
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from tests.support.exported import HOSTILE, annotations, front_matter, made_run, pairs_of
from tests.support.families import make_family
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

from crossward.core.exported import exported_pair
from crossward.core.judging import parse_template
from crossward.core.records import PreferencePair, RatedResponse
from crossward.pipeline.exports import argilla
from crossward.pipeline.exports.export import Exported, Format, Wanted, export
from crossward.pipeline.exports.exported_run import ExportedRun
from crossward.pipeline.exports.method import trained_on
from crossward.pipeline.exports.pairs_source import OPTIONAL
from crossward.pipeline.judges import read_template
from crossward.store import manifest
from crossward.store.run_dir import RunDir
from crossward.store.verdict_file import write_annotations


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return made_run(tmp_path_factory.mktemp("run"), judged=True)


def to(source: Path, output: Path, format: Format, **more: Any) -> Exported:
    return export(source, output, Wanted(format=format, **more))


def test_trls_own_dpo_trainer_takes_a_step_on_the_file(run: RunDir, tmp_path: Path):
    to(run.root, tmp_path / "out", "trl")
    file = str(tmp_path / "out" / "train.jsonl")
    rows = load_dataset("json", data_files=file, split="train", cache_dir=str(tmp_path / "cache"))
    folder = make_family("chatml", tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(folder)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    arguments = DPOConfig(
        output_dir=str(tmp_path / "trained"),
        max_steps=1,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        loss_type=["sigmoid", "sft"],
        loss_weights=[1.0, 0.5],
        gradient_checkpointing=False,
        use_cpu=True,
        bf16=False,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
        logging_steps=1,
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    trainer = DPOTrainer(model=model, args=arguments, train_dataset=rows, processing_class=tokenizer)
    assert len(trainer.train_dataset) == 2 * len(HOSTILE)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 1
    assert losses[0] > 0.69  # log 2 of DPO at its start, and the NLL beside it
    assert any(not torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


# Checkpoints


@pytest.mark.parametrize("link", [False, True])
def test_a_checkpoint_loads_and_its_card_says_what_was_done(link: bool, run: RunDir, tmp_path: Path):
    out, trained = tmp_path / "out", run.iteration(1).stage("train").checkpoint
    exported = to(run.root, out, "model", link=link, license="apache-2.0", base_model="org/base-7b")
    loaded = AutoModelForCausalLM.from_pretrained(out).state_dict()
    wanted = load_file(trained / "model.safetensors")
    assert all(torch.equal(loaded[name], tensor) for name, tensor in wanted.items())
    same = (out / "model.safetensors").stat().st_ino == (trained / "model.safetensors").stat().st_ino
    assert same is link
    card = ModelCard.load(out / "README.md")
    assert (card.data.base_model, card.data.license) == ("org/base-7b", "apache-2.0")
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "text-generation")
    assert card.data.language == ["en", "es"]
    assert "Not measured: this run asked no judge." in card.content
    assert "steps 7, pairs 28, dpo_loss 0.6" in card.content
    assert exported.written.notes == ()
    assert str(run.root.parent) not in card.content


def test_a_card_has_the_win_rates_that_were_measured(tmp_path: Path):
    run = made_run(tmp_path)
    names = {"model": "π_1", "baseline": "gpt|`4`<b>", "language": "es"}
    rate = {"n_judged": 40, "n_null": 2, "win_rate": 55.5, "win_rate_se": 2.25, "lc_win_rate": 51.25}
    rate |= {"lc_interval": [45.0, 57.5], "lc_variant": "joint"}
    run.evaluation.write_text(json.dumps({"rates": [names | rate], "averages": [], "differences": []}))
    exported = to(run.root, tmp_path / "out", "model")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "| `π_1` | `es` | 40 | 2 | 55.50 ± 2.25 | 51.25 | [45.0, 57.5] |" in card
    assert "Percent against ``gpt|`4`<b>``;" in card
    assert "base_model" not in front_matter(tmp_path / "out" / "README.md")
    assert any("--base-model" in note for note in exported.written.notes)


@pytest.mark.parametrize(
    ("changes", "told", "untold"),
    [
        ({}, ["ranked by: iteration 1: log-ratio of `policy` and `reference`"], []),
        (
            {"reward": {"reference": "previous"}},
            ["iteration 2: log-ratio of the policy that iteration 1 made of `policy` and `policy`, under"],
            ["and `reference`"],
        ),
        (
            {"reward": {"policy": "initial", "view": "multilingual"}},
            ["iteration 2: log-ratio of `policy` and `reference`, under their own prompt"],
            [],
        ),
        (
            {"reward": {"kind": "reward-model", "reward_model": {"path": "/secret/rm"}}},
            ["iteration 2: the reward model `rm`"],
            ["log-ratio of", "/secret"],
        ),
        (
            {"reward": {"kind": "judge"}},
            ["ratings from 0 to 5 by the judge the policy that iteration 1 made of `policy`"],
            ["log-ratio of"],
        ),
        ({"reward": {"kind": "given"}}, ["ratings of a program", "those of a program"], ["log-ratio of"]),
        (
            {"method": "lidr", "sample": {"n": 1, "temperature": 0}},
            ["2410.08964", "No reward ranks anything", "1 response a prompt"],
            ["log-ratio of", "the best is paired", "ranked by"],
        ),
    ],
)
def test_a_card_says_what_ranked_the_answers(
    changes: dict[str, Any], told: list[str], untold: list[str], tmp_path: Path
):
    run = made_run(tmp_path, **changes)
    to(run.root, tmp_path / "out", "dataset", iterations=(2,) if "reward" in changes else (1,))
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8").partition("## Columns")
    card = text[0] + text[2].partition("## Limits")[2]
    assert [words for words in told if words not in card] == []
    assert [words for words in untold if words in card] == []


def test_a_model_card_counts_all_iterations_and_the_replayed_pairs(tmp_path: Path):
    run = made_run(tmp_path, train={"replay": {"path": "/secret/pairs.jsonl", "share": 0.25}})
    exported = ExportedRun.at(run.root)
    assert trained_on(exported, 1).startswith("on the pairs that iteration 1 made of the policies' own answers, and on")
    assert "iterations 1 to 2 made of" in trained_on(exported, 2)
    for format in ("model", "trl"):
        notes = to(run.root, tmp_path / format, format, iterations=(1,)).written.notes
        assert any("train.replay, a share of 0.25 of all pairs): they are in no export" in note for note in notes)
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "with no preference data" not in card
    assert "on the pairs of this iteration, and on offline pairs (`train.replay`)" in card
    assert "/secret" not in card
    plain = made_run(tmp_path / "plain")
    assert trained_on(ExportedRun.at(plain.root), 2) == (
        "with no preference data but the pairs that iterations 1 to 2 made of the policies' own answers"
    )


def test_a_relative_folder_is_not_taken_for_a_name_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    models = {"policy": "secret-client/policy", "reference": "secret-client/base", "dtype": "float32"}
    run = made_run(tmp_path, models=models, prompts={"path": "secret-client/prompts"})
    exported = to(run.root, tmp_path / "out", "model")
    assert "secret-client" not in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert any("--base-model" in note for note in exported.written.notes)
    # A stage that records the hub's model, and a data set that the hub's client has, make both names public.
    sample = run.iteration(1).stage("sample")
    manifest.begin(sample, {"policy": "secret-client/policy@main"}, {})
    made: dict[str, Any] = {"counts": {"languages": {}}, "files": [], "seconds": 1.0}
    manifest.finish(sample, {"policy": "secret-client/policy@main"}, {}, **made)
    (tmp_path / "cache" / "datasets--secret-client--prompts").mkdir(parents=True)
    exported = to(run.root, tmp_path / "out", "model")
    head = front_matter(tmp_path / "out" / "README.md")
    assert (head["base_model"], head["datasets"]) == ("secret-client/policy", ["secret-client/prompts"])
    assert "secret-client/base" not in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert exported.written.notes == ()


def test_an_iteration_without_a_checkpoint_is_said(run: RunDir, tmp_path: Path):
    with pytest.raises(ValueError, match="has no finished checkpoint in iteration 2: it has them in 1"):
        to(run.root, tmp_path / "out", "model", iterations=(2,))


# alpaca_eval


def test_alpaca_eval_finds_every_verdict_in_its_own_cache(run: RunDir, tmp_path: Path):
    out = tmp_path / "out"
    exported = to(run.root, out, "alpaca-eval")
    said = json.loads((out / "annotator" / "annotations_seed0_configs.json").read_text(encoding="utf-8"))
    keys = {(row["instruction"], row["output_1"], row["output_2"], row["annotator"]) for row in said}
    asked = set()
    for language in ("en", "es"):
        reference = json.loads((out / language / "reference.json").read_text(encoding="utf-8"))
        base = {row["instruction"]: row["output"] for row in reference}
        assert len(base) == len(HOSTILE)
        for model in ("π_0", "π_1"):
            outputs = json.loads((out / language / "outputs" / f"{model}.json").read_text(encoding="utf-8"))
            assert {row["generator"] for row in outputs} == {model}
            asked |= {(row["instruction"], base[row["instruction"]], row["output"], "judge") for row in outputs}
    assert asked == keys
    given = {row["output_2"]: row["preference"] for row in said if row["instruction"].endswith("(es)")}
    assert given[f"{HOSTILE[3]} π_1"] == 1 + 3 / len(HOSTILE)
    assert given[f"{HOSTILE[-1]} π_1"] == -1  # asked, no verdict: alpaca_eval's mark
    config = yaml.safe_load((out / "annotator" / "configs.yaml").read_text())
    assert list(config) == ["judge"]
    template = (out / "annotator" / "template.txt").read_text(encoding="utf-8")
    assert parse_template(template, "it").messages == read_template(None).messages
    assert exported.languages["es"] == {"n_pairs": 2 * len(HOSTILE), "n_cut": 0, "skipped": {"null": 2}}
    assert len(exported.written.commands) == 4


def test_one_languages_verdicts_from_a_folder_of_evaluate(tmp_path: Path):
    write_annotations(tmp_path / "judged" / "annotations" / "m.es.json", annotations("org/m", "es"))
    write_annotations(tmp_path / "judged" / "annotations" / "m.en.json", annotations("org/m", "en"))
    found = to(tmp_path / "judged", tmp_path / "out", "alpaca-eval", languages=("es",))
    assert list(found.languages) == ["es"]
    assert "es/outputs/org_m.json" in found.files


def test_verdicts_that_make_no_leaderboard_are_refused(run: RunDir, tmp_path: Path):
    with pytest.raises(ValueError, match=r"holds no judge's verdicts: name evaluate\.judge in the recipe"):
        to(made_run(tmp_path).root, tmp_path / "out", "alpaca-eval")
    folder = tmp_path / "judged" / "annotations"
    write_annotations(folder / "a.json", annotations("a", "es"))
    write_annotations(folder / "b.json", annotations("b", "es", judge="other"))
    with pytest.raises(ValueError, match=r"verdicts of 2 judges \(judge, other\)"):
        to(tmp_path / "judged", tmp_path / "out", "alpaca-eval")
    rows = annotations("b", "es")
    write_annotations(folder / "b.json", [row | {"generator_1": "gpt"} for row in rows])
    with pytest.raises(ValueError, match=r"against 2 baselines \(gpt, reference\)"):
        to(tmp_path / "judged", tmp_path / "out", "alpaca-eval")
    write_annotations(folder / "b.json", [row | {"id": "other"} for row in rows])
    with pytest.raises(ValueError, match=r"the instruction of ids 'p0' and 'other' \(es\) is the same text"):
        to(tmp_path / "judged", tmp_path / "out", "alpaca-eval")


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("a/b", "a_b"), r"the models 'a/b' and 'a_b' would both be written to a_b\.json: rename one"),
        (("m\x1b[31m\x9b2J",), r"'m\\x1b\[31m\\x9b2J' cannot name a file"),
        (("m\u202en",), r"'m\\u202en' cannot name a file"),
    ],
)
def test_models_that_cannot_have_a_file_of_their_own_are_refused(names: tuple[str, ...], told: str, tmp_path: Path):
    for index, name in enumerate(names):
        write_annotations(tmp_path / "judged" / "annotations" / f"{index}.json", annotations(name, "es"))
    with pytest.raises(ValueError, match=told):
        to(tmp_path / "judged", tmp_path / "out", "alpaca-eval")
    assert not (tmp_path / "out").exists()


def test_an_adapter_is_called_one_and_its_base_is_told(tmp_path: Path):
    run = made_run(tmp_path, adapter=True)
    exported = to(run.root, tmp_path / "out", "model", base_model="org/base")
    head = front_matter(tmp_path / "out" / "README.md")
    assert (head["library_name"], head["base_model_relation"]) == ("peft", "adapter")
    assert any("names the base by a path of this machine" in note for note in exported.written.notes)


def test_a_damaged_checkpoint_is_not_published(tmp_path: Path):
    run = made_run(tmp_path)
    weights = run.iteration(1).stage("train").checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"model\.safetensors is missing or damaged .*--redo iteration-1/train"):
        to(run.root, tmp_path / "out", "model")
    assert not (tmp_path / "out").exists()


def test_ratings_have_no_probability_of_their_own():
    pair = pairs_of("es")[0]
    assert isinstance(pair, PreferencePair)
    rated = RatedResponse(response=pair.chosen.response, rating=9.0, n_tokens=2)
    record = argilla.record(exported_pair(replace(pair, chosen=rated), 1), OPTIONAL, beta=0.1, agent="crossward")
    assert record["suggestions"]["preference"].keys() == {"value", "agent"}
    assert record["metadata"]["score_margin"] == 1.0

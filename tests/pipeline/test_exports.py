"""Exports of a run and of files of pairs: what tools read back is what the run holds, hostile text and all."""

import csv
import json
import os
import shlex
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from datasets import load_dataset
from huggingface_hub import DatasetCard
from tests.support.exported import HOSTILE, LANGUAGES, front_matter, made_run
from tests.support.live import counting

from crossward.core.exported import ExportedPair
from crossward.core.records import PreferencePair
from crossward.pipeline.exports import dataset
from crossward.pipeline.exports.export import Exported, Format, Wanted, export
from crossward.store.pair_rows import read_pairs, write_pairs
from crossward.store.run_dir import RunDir
from crossward.store.tables import read_outcomes

Texts = list[tuple[str, str, str, str, str]]  # id, language, instruction, chosen, rejected


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return made_run(tmp_path_factory.mktemp("run"))


def held(run: RunDir, t: int = 2) -> Texts:
    """What the run holds, language after language."""
    found = [
        outcome
        for language in LANGUAGES
        for outcome in read_outcomes(run.iteration(t).stage("pair").language_file(language))
        if isinstance(outcome, PreferencePair)
    ]
    return [
        (p.prompt.id, p.prompt.language, p.prompt.instruction, p.chosen.response.text, p.rejected.response.text)
        for p in found
    ]


def to(source: Path, output: Path, format: Format, **more: Any) -> Exported:
    return export(source, output, Wanted(format=format, **more))


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def conversational(row: dict[str, Any]) -> tuple[str, str, str, str, str]:
    (prompt,), (chosen,), (rejected,) = row["prompt"], row["chosen"], row["rejected"]
    assert [prompt["role"], chosen["role"], rejected["role"]] == ["user", "assistant", "assistant"]
    return row["id"], row["language"], prompt["content"], chosen["content"], rejected["content"]


# Every format, with every hostile text


@pytest.mark.parametrize("format", ["trl", "openrlhf"])
def test_conversational_rows_come_back_through_datasets(format: Format, run: RunDir, tmp_path: Path):
    to(run.root, tmp_path / "out", format)
    file = str(tmp_path / "out" / "train.jsonl")
    rows = load_dataset("json", data_files=file, split="train", cache_dir=str(tmp_path / "cache"))
    assert [conversational(row) for row in rows] == held(run)
    assert "margin" not in rows.column_names  # the reward trainers of TRL and OpenRLHF would take it for the loss's
    first = rows[0]
    assert (first["chosen_score"], first["rejected_score"], first["alpha"]) == (1.25, 0.25, 0.25)
    assert (first["score_margin"], first["iteration"], first["english_instruction"]) == (1.0, 2, HOSTILE[0])


def test_a_dataset_folder_loads_by_language_and_whole(run: RunDir, tmp_path: Path):
    out = tmp_path / "out"
    to(run.root, out, "dataset", license="cc-by-4.0")
    cache = str(tmp_path / "cache")
    spanish = load_dataset(str(out), "es", split="train", cache_dir=cache)
    assert [conversational(row) for row in spanish] == [texts for texts in held(run) if texts[1] == "es"]
    assert [conversational(row) for row in load_dataset(str(out), split="train", cache_dir=cache)] == held(run)
    card = DatasetCard.load(out / "README.md")
    assert card.data.language == ["en", "es"]
    assert card.data.license == "cc-by-4.0"
    assert card.data.size_categories == ["n<1K"]
    assert [item["config_name"] for item in card.data["configs"]] == ["default", "en", "es"]
    for told in ("truncated 1", "tie 1", "2503.04647", "sha256", "`iteration`", "transformers"):
        assert told in card.content
    assert str(run.root.parent) not in card.content  # a card tells no path of a machine


def test_shards_of_a_language_are_numbered_out_of_all(run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dataset, "SHARD_ROWS", 5)
    files = to(run.root, tmp_path / "out", "dataset", languages=("es",)).files
    assert [name for name in files if name.startswith("data/")] == [
        f"data/es/train-0000{index}-of-00003.parquet" for index in range(3)
    ]
    loaded = load_dataset(str(tmp_path / "out"), "es", split="train", cache_dir=str(tmp_path / "cache"))
    assert [row["id"] for row in loaded] == [f"p{index}" for index in range(len(HOSTILE))]


def test_llamafactory_has_a_data_set_a_language_and_the_runs_settings(run: RunDir, tmp_path: Path):
    out = tmp_path / "out"
    to(run.root, out, "llamafactory")
    info = json.loads((out / "dataset_info.json").read_text())
    assert list(info) == ["crossward_en", "crossward_es"]
    found: Texts = []
    for entry in info.values():
        assert entry["ranking"] is True
        assert entry["formatting"] == "sharegpt"
        for row in rows_of(out / entry["file_name"]):
            (asked,) = row[entry["columns"]["messages"]]
            chosen, rejected = (row[entry["columns"][side]] for side in ("chosen", "rejected"))
            assert (asked["from"], chosen["from"], rejected["from"]) == ("human", "gpt", "gpt")
            found.append((row["id"], row["language"], asked["value"], chosen["value"], rejected["value"]))
    assert found == held(run)
    recipe = yaml.safe_load((out / "dpo.yaml").read_text(encoding="utf-8"))
    assert recipe["model_name_or_path"] == str(run.iteration(1).stage("train").checkpoint)
    assert (recipe["stage"], recipe["pref_beta"], recipe["pref_ftx"]) == ("dpo", 0.1, 0.5)
    assert (recipe["per_device_train_batch_size"], recipe["gradient_accumulation_steps"]) == (2, 2)
    assert recipe["dataset"] == "crossward_en,crossward_es"
    assert "ref_model" not in recipe  # train.reference previous: the policy itself
    assert "template" not in recipe


def test_a_reference_and_an_adapter_of_the_recipe_reach_both_trainers(tmp_path: Path):
    train = {"reference": "initial", "scheduler": "constant", "max_steps": 9, "lora": {"rank": 4, "alpha": 8}}
    hostile = "org'; rm -rf ~ #"  # as a path: nobody's name on a hub
    models = {"policy": hostile, "reference": "$(touch x)", "dtype": "bfloat16"}
    run = made_run(tmp_path, train=train, models=models)
    to(run.root, tmp_path / "lf", "llamafactory", iterations=(1,))
    recipe = yaml.safe_load((tmp_path / "lf" / "dpo.yaml").read_text(encoding="utf-8"))
    assert (recipe["model_name_or_path"], recipe["ref_model"]) == (hostile, "$(touch x)")
    assert (recipe["finetuning_type"], recipe["lora_rank"], recipe["lora_target"]) == ("lora", 4, "all")
    assert (recipe["lr_scheduler_type"], recipe["max_steps"], recipe["bf16"]) == ("constant_with_warmup", 9, True)
    notes = to(run.root, tmp_path / "rlhf", "openrlhf", iterations=(1,)).written.notes
    assert any("max_steps" in note for note in notes)
    words = shlex.split((tmp_path / "rlhf" / "train.sh").read_text().replace("\\\n", " "), comments=True)
    options = dict(pairwise(words))
    assert options["--model.model_name_or_path"] == hostile
    assert options["--ref.model_name_or_path"] == "$(touch x)"
    assert (options["--model.nll_loss_coef"], options["--ds.lora.rank"]) == ("1.0", "4")
    assert options["--lr_scheduler"] == "constant_with_warmup"


def test_a_lora_alpha_and_a_path_reach_the_trainers_as_they_are(tmp_path: Path):
    run = made_run(tmp_path, train={"lora": {"rank": 4, "alpha": 0.5}})
    out = tmp_path / "ex p" / "$(x)\n- y"
    command = to(run.root, out, "llamafactory", iterations=(1,)).written.commands[0]
    assert shlex.split(command) == ["llamafactory-cli", "train", str(out / "dpo.yaml")]
    text = (out / "dpo.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text)["lora_alpha"] == 0.5
    assert "train '" in text.splitlines()[0]
    assert text.splitlines()[0].endswith("dpo.yaml'"), "a path ends no comment"
    exported = to(run.root, tmp_path / "rlhf", "openrlhf", iterations=(1,))
    assert "--ds.lora.alpha 0.5" in (tmp_path / "rlhf" / "train.sh").read_text()
    assert any("will refuse 0.5" in note for note in exported.written.notes)


def test_argilla_records_fit_their_settings(run: RunDir, tmp_path: Path):
    out = tmp_path / "out"
    to(run.root, out, "argilla")
    settings, records = json.loads((out / "settings.json").read_text()), rows_of(out / "records.jsonl")
    fields = {field["name"] for field in settings["fields"]}
    labels = {option["value"] for option in settings["questions"][0]["settings"]["options"]}
    found: Texts = []
    for record in records:
        assert set(record["fields"]) == fields
        assert set(record["metadata"]) == {item["name"] for item in settings["metadata"]}
        assert record["responses"] == {}
        suggestion = record["suggestions"]["preference"]
        assert suggestion["value"] in labels
        assert suggestion["value"] == record["metadata"]["chosen_is"]
        other = {"response_1": "response_2", "response_2": "response_1"}[suggestion["value"]]
        told, texts = record["metadata"], record["fields"]
        found.append(
            (told["prompt_id"], told["language"], texts["instruction"], texts[suggestion["value"]], texts[other])
        )
    assert found == held(run)
    assert len({record["id"] for record in records}) == len(records)
    assert {record["metadata"]["chosen_is"] for record in records} == {"response_1", "response_2"}
    # By hand: β 0.1 and a margin of 1 nat give 1 / (1 + e^−0.1).
    assert records[0]["suggestions"]["preference"]["score"] == pytest.approx(0.52497918747894)
    hidden = {item["name"] for item in settings["metadata"] if not item["visible_for_annotators"]}
    assert hidden == {"score_margin", "chosen_is"}
    assert not any(field["settings"]["use_markdown"] for field in settings["fields"])


@pytest.mark.parametrize("bom", [False, True])
def test_csv_comes_back_through_csv_and_pandas(bom: bool, run: RunDir, tmp_path: Path):
    exported = to(run.root, tmp_path / "out", "csv", bom=bom)
    path = tmp_path / "out" / "pairs.csv"
    assert path.read_bytes().startswith(b"\xef\xbb\xbf") is bom
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    names = ("id", "language", "instruction", "chosen", "rejected")
    assert [tuple(row[name] for name in names) for row in rows] == held(run)
    frame = pd.read_csv(path, keep_default_na=False, dtype={"id": str}, engine="python")
    assert [tuple(row) for row in frame[list(names)].itertuples(index=False)] == held(run)
    assert frame["score_margin"].tolist() == [index + 1.0 for index in range(len(HOSTILE))] * 2
    assert "=HYPERLINK" in path.read_text(encoding="utf-8")
    assert any("--guard-formulas" in note for note in exported.written.notes)


def test_formulas_are_guarded_where_asked(run: RunDir, tmp_path: Path):
    to(run.root, tmp_path / "out", "csv", guard_formulas=True)
    with (tmp_path / "out" / "pairs.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    guarded = [row["instruction"] for row in rows if row["instruction"].startswith("'")]
    assert guarded == [f"'{text}{more}" for more in ("", " (es)") for text in HOSTILE if text[0] in "=+-@"]
    assert float(rows[0]["score_margin"]) == 1.0  # numbers are no text


# What is chosen, counted and refused


def test_counts_tell_what_was_left_out_and_why(run: RunDir, tmp_path: Path):
    found = to(run.root, tmp_path / "out", "trl", min_margin=3.0, languages=("es",), iterations=(1, 2))
    kept = 2 * (len(HOSTILE) - 2)
    assert found.languages == {
        "es": {"n_pairs": kept, "n_cut": 0, "skipped": {"below-margin": 4, "tie": 2, "truncated": 2}}
    }
    rows = rows_of(tmp_path / "out" / "train.jsonl")
    assert {(row["iteration"], row["language"]) for row in rows} == {(1, "es"), (2, "es")}
    assert len(rows) == kept


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"languages": ("fr",)}, "has no pairs in 'fr': its languages are en, es"),
        ({"iterations": (3,)}, "has no finished pairs in iteration 3: it has them in 1, 2"),
        ({"min_margin": 99.0}, "has no pairs to export: lower --min-margin"),
        ({"min_margin": -1.0}, "--min-margin must be 0 or more, got -1.0"),
        ({"bom": True}, "--bom belongs to --to csv, got --to trl"),
        ({"license": "mit"}, "--license belongs to --to dataset, model, got --to trl"),
    ],
)
def test_what_cannot_be_exported_is_said(more: dict[str, Any], told: str, run: RunDir, tmp_path: Path):
    with pytest.raises(ValueError, match=told):
        to(run.root, tmp_path / "out", "trl", **more)
    assert list(tmp_path.iterdir()) == []


def test_a_licence_is_an_identifier(run: RunDir, tmp_path: Path):
    with pytest.raises(ValueError, match="is no licence identifier"):
        to(run.root, tmp_path / "out", "dataset", license="mit\n---\n<script>")


@pytest.mark.parametrize("damage", ["[]", "{", '{"packages": 1}', '{"git": "x"}'])
def test_a_damaged_provenance_is_a_sentence(damage: str, tmp_path: Path):
    run = made_run(tmp_path)
    run.provenance.write_text(damage)
    with pytest.raises(ValueError, match=r"provenance\.json is damaged: run the recipe again"):
        to(run.root, tmp_path / "out", "dataset")


def test_an_export_takes_the_place_of_an_export_and_of_nothing_else(run: RunDir, tmp_path: Path):
    out = tmp_path / "out"
    to(run.root, out, "llamafactory")
    (out / "mine.txt").write_text("kept")
    to(run.root, out, "trl")
    assert sorted(path.name for path in out.iterdir()) == ["export.json", "mine.txt", "train.jsonl"]
    facts = json.loads((out / "export.json").read_text())
    assert (facts["format"], facts["source"], facts["iterations"]) == ("trl", "run", [2])
    with pytest.raises(ValueError, match="holds files that no export made"):
        to(run.root, run.root, "trl")


# Files of pairs


def test_a_file_of_pairs_exports_like_the_run_that_made_it(run: RunDir, tmp_path: Path):
    pairs = [
        outcome
        for language in LANGUAGES
        for outcome in read_outcomes(run.iteration(2).stage("pair").language_file(language))
        if isinstance(outcome, PreferencePair)
    ]
    order = sorted(range(len(pairs)), key=lambda index: index % 5)  # languages in between each other
    write_pairs(tmp_path / "pairs.jsonl", [pairs[index] for index in order])
    to(tmp_path / "pairs.jsonl", tmp_path / "file", "trl", min_margin=2.0)
    to(run.root, tmp_path / "run", "trl", min_margin=2.0)
    ours, theirs = (rows_of(tmp_path / name / "train.jsonl") for name in ("file", "run"))
    assert all(row.pop("iteration") == 2 for row in theirs)
    assert sorted(ours, key=str) == sorted(theirs, key=str)
    assert [row.language for row in read_pairs(tmp_path / "file" / "train.jsonl")] == ["en"] * 13 + ["es"] * 13


def test_other_tools_pairs_have_no_scores_and_say_so(tmp_path: Path):
    row = {"prompt": "x", "chosen": "a", "rejected": "b"}
    source = tmp_path / "pairs.jsonl"
    source.write_text("".join(json.dumps(row | {"language": code}) + "\n" for code in ("es", "de", "es")))
    for format in ("trl", "llamafactory", "openrlhf", "argilla", "csv", "dataset"):
        found = to(source, tmp_path / format, format)
        assert {code: counts["n_pairs"] for code, counts in found.languages.items()} == {"de": 1, "es": 2}
    assert set(rows_of(tmp_path / "trl" / "train.jsonl")[0]) & {"chosen_score", "score_margin", "iteration"} == set()
    assert not (tmp_path / "llamafactory" / "dpo.yaml").exists()
    assert "score" not in rows_of(tmp_path / "argilla" / "records.jsonl")[0]["suggestions"]["preference"]
    with pytest.raises(ValueError, match=r"line 2: pair '2' has no chosen_score and rejected_score"):
        to(source, tmp_path / "out", "trl", min_margin=1.0)
    with pytest.raises(ValueError, match="is a file of pairs and holds no checkpoint"):
        to(source, tmp_path / "out", "model")
    with pytest.raises(ValueError, match="is a file of pairs and has no iterations"):
        to(source, tmp_path / "out", "trl", iterations=(1,))


def test_a_language_that_names_no_file_is_refused_where_files_are_named_by_it(tmp_path: Path):
    row = {"prompt": "x", "chosen": "a", "rejected": "b", "language": "../es"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row) + "\n")
    for format in ("llamafactory", "dataset"):
        with pytest.raises(ValueError, match="cannot name a file"):
            to(tmp_path / "pairs.jsonl", tmp_path / "out", format)
    assert to(tmp_path / "pairs.jsonl", tmp_path / "out", "csv").languages["../es"]["n_pairs"] == 1


def test_cut_responses_are_told(tmp_path: Path):
    row = {"prompt": "x", "chosen": "a", "rejected": "b", "chosen_finish_reason": "length"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row) + "\n")
    found = to(tmp_path / "pairs.jsonl", tmp_path / "out", "trl")
    assert found.languages["und"]["n_cut"] == 1
    assert "1 pairs hold a response that was cut" in found.written.notes[0]


@pytest.mark.parametrize("format", ["trl", "csv", "dataset", "argilla"])
def test_few_pairs_are_in_memory_at_a_time(format: Format, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    row = {"prompt": "x" * 100, "chosen": "a" * 1000, "rejected": "b"}
    line = json.dumps(row) + "\n"
    (tmp_path / "pairs.jsonl").write_text(line * 3000)
    most = 0
    with counting(ExportedPair) as alive:
        of = ExportedPair.score_margin.fget
        assert of is not None
        seen = 0

        def watched(pair: ExportedPair) -> float | None:
            nonlocal most, seen
            seen += 1
            if seen % 500 == 0:
                most = max(most, alive())
            return of(pair)

        monkeypatch.setattr(ExportedPair, "cut", property(lambda pair: watched(pair) is not None))
        to(tmp_path / "pairs.jsonl", tmp_path / "out", format)
    assert seen >= 3000
    assert most < 50


def test_a_line_of_a_megabyte_goes_through(tmp_path: Path):
    long = "é" * 500_000 + "\u202e"
    (tmp_path / "pairs.jsonl").write_text(json.dumps({"prompt": long, "chosen": long + "a", "rejected": "b"}) + "\n")
    to(tmp_path / "pairs.jsonl", tmp_path / "out", "csv")
    csv.field_size_limit(sys.maxsize)
    try:
        with (tmp_path / "out" / "pairs.csv").open(encoding="utf-8", newline="") as file:
            (row,) = csv.DictReader(file)
    finally:
        csv.field_size_limit(131072)
    assert (row["instruction"], row["chosen"]) == (long, long + "a")


def test_broken_utf8_is_one_sentence(tmp_path: Path):
    (tmp_path / "pairs.jsonl").write_bytes(b'{"prompt": "x", "chosen": "\xff", "rejected": "b"}\n')
    with pytest.raises(ValueError, match="line 1: byte 28 of the line is not valid UTF-8"):
        to(tmp_path / "pairs.jsonl", tmp_path / "out", "trl")


def test_a_card_survives_a_runs_hostile_name(tmp_path: Path):
    name = "r\u202eun\n---\nlicense: mit <script>alert(1) [x](javascript:y) `|`"
    run = made_run(tmp_path)
    os.rename(run.root, tmp_path / name)
    to(tmp_path / name, tmp_path / "out", "dataset")
    head = front_matter(tmp_path / "out" / "README.md")
    assert head["license"] == "unknown"
    assert head["pretty_name"].startswith("r\\u202eun --- license: mit <script>")
    body = (tmp_path / "out" / "README.md").read_text(encoding="utf-8").split("\n---\n", 1)[1]
    assert "\u202e" not in body
    title = next(line for line in body.splitlines() if line.startswith("# "))
    assert title.startswith("# `` r\\u202eun")  # a code span: nothing in it is HTML, a link or the next cell
    assert title.endswith("`|` ``: preference pairs")

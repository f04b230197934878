"""Each kind of bad input is one clear sentence on stderr, exit code 2, and nothing that was there is lost."""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from tests.support.command import call
from tests.support.families import make_family
from tests.support.recipes import make_recipe, write_recipe

from crossward.store import files

Recipe = dict[str, Any]


def lines(folder: Path, language: str) -> Path:
    return folder / "prompts" / f"{language}.jsonl"


def prepend(path: Path, text: str) -> None:
    path.write_text(text + path.read_text(encoding="utf-8"), encoding="utf-8")


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def no_prompts(folder: Path, recipe: Recipe) -> None:
    lines(folder, "es").unlink()


def empty_prompts(folder: Path, recipe: Recipe) -> None:
    lines(folder, "es").write_text("")


def broken_line(folder: Path, recipe: Recipe) -> None:
    prepend(lines(folder, "es"), '{"id": "p0"}\n{"id": "p1", "instru\n')
    prepend(lines(folder, "es"), '{"id": "q", "instruction": "x"}\n')
    text = lines(folder, "es").read_text(encoding="utf-8").split("\n")
    lines(folder, "es").write_text("\n".join(line for line in text if line != '{"id": "p0"}'), encoding="utf-8")


def duplicate_id(folder: Path, recipe: Recipe) -> None:
    prepend(lines(folder, "es"), '{"id": "p1", "instruction": "Otra vez."}\n')


def no_twin(folder: Path, recipe: Recipe) -> None:
    prepend(lines(folder, "es"), '{"id": "p99", "instruction": "Nueva."}\n')


def other_language(folder: Path, recipe: Recipe) -> None:
    prepend(lines(folder, "es"), '{"id": "p0", "language": "fr", "instruction": "Nomme un fruit."}\n')


def unknown_language(folder: Path, recipe: Recipe) -> None:
    recipe["languages"] = ["en", "xq"]


def no_model(folder: Path, recipe: Recipe) -> None:
    recipe["models"] |= {"policy": str(folder / "polizy")}


def empty_model_folder(folder: Path, recipe: Recipe) -> None:
    (folder / "void").mkdir()
    recipe["models"] |= {"policy": str(folder / "void")}


def other_vocabulary(folder: Path, recipe: Recipe) -> None:
    recipe["models"] |= {"reference": str(make_family("llama3", folder / "llama"))}


def other_template(folder: Path, recipe: Recipe) -> None:
    template = folder / "reference" / "chat_template.jinja"
    template.write_text(template.read_text(encoding="utf-8") + "{# another #}", encoding="utf-8")


def no_template(folder: Path, recipe: Recipe) -> None:
    for model in ("policy", "reference"):
        (folder / model / "chat_template.jinja").unlink()


def two_bos(folder: Path, recipe: Recipe) -> None:
    for name, seed in (("policy", 0), ("reference", 1)):
        template = make_family("llama3", folder / f"two-{name}", seed=seed) / "chat_template.jinja"
        template.write_text("{{ bos_token }}" + template.read_text(encoding="utf-8"), encoding="utf-8")
        recipe["models"] |= {name: str(folder / f"two-{name}")}


def one_response(folder: Path, recipe: Recipe) -> None:
    recipe["sample"] |= {"n": 1}


def misspelt_key(folder: Path, recipe: Recipe) -> None:
    recipe["sample"] |= {"temprature": 1.0}


def same_model_twice(folder: Path, recipe: Recipe) -> None:
    recipe["models"] |= {"reference": recipe["models"]["policy"]}


def one_file_for_two_languages(folder: Path, recipe: Recipe) -> None:
    recipe["prompts"] |= {"path": str(lines(folder, "en"))}


def too_long_when_judged(folder: Path, recipe: Recipe) -> None:
    recipe["sample"] |= {"max_new_tokens": 470}


def too_long_to_evaluate(folder: Path, recipe: Recipe) -> None:
    recipe["evaluate"] |= {"max_new_tokens": 600}


def broken_template(folder: Path, recipe: Recipe) -> None:
    for model in ("policy", "reference"):
        (folder / model / "chat_template.jinja").write_text("{% for message in messages %}", encoding="utf-8")


def run_is_a_file(folder: Path, recipe: Recipe) -> None:
    (folder / "taken").write_text("x")
    recipe["run"] = str(folder / "taken")


def boolean_language(folder: Path, recipe: Recipe) -> None:
    recipe["languages"] = ["en", False]


MISTAKES: list[tuple[Callable[[Path, Recipe], None], str]] = [
    (no_prompts, "es.jsonl does not exist"),
    (empty_prompts, "es.jsonl is empty: expected at least one row"),
    (broken_line, "es.jsonl, line 2: broken JSON at column"),
    (duplicate_id, "es.jsonl: id 'p1' stands on line 1 and on line 6: each id may occur once"),
    (no_twin, "es.jsonl: 1 of 7 ids have no English twin in"),
    (other_language, "es.jsonl, line 1: field 'language' is 'fr' but the file was named for 'es'"),
    (unknown_language, "unknown language code 'xq': expected an ISO 639-1 code"),
    (no_model, "polizy"),
    (empty_model_folder, "void"),
    (other_vocabulary, "The vocabularies differ"),
    (other_template, "The chat templates differ"),
    (no_template, "no chat template"),
    (two_bos, "begins with two BOS tokens: remove one"),
    (one_response, "a pair needs at least two responses to choose from, got n = 1"),
    (misspelt_key, "unknown key 'sample.temprature'; did you mean 'temperature'?"),
    (one_file_for_two_languages, "prompts in 'es' and in English would both be read from"),
    (too_long_when_judged, "lower sample.max_new_tokens"),
    (too_long_to_evaluate, "lower evaluate.max_new_tokens"),
    (broken_template, "cannot be rendered"),
    (run_is_a_file, "taken is a file: name a folder"),
    (boolean_language, "YAML reads no, yes, on and off so: write it in quotes"),
    (same_model_twice, "have the same weights, so every reward would be exactly 0"),
]


@pytest.mark.parametrize(("mistake", "sentence"), MISTAKES, ids=[mistake.__name__ for mistake, _ in MISTAKES])
def test_a_mistake_in_a_recipe_stops_check_and_run_before_anything_is_computed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mistake: Callable[[Path, Recipe], None], sentence: str
):
    recipe = make_recipe(tmp_path)
    mistake(tmp_path, recipe)
    path = write_recipe(tmp_path, recipe)

    checked = call(capsys, "check", path, "--json")
    assert checked.code == 2
    assert sentence in checked.out + checked.err

    ran = call(capsys, "run", path)
    assert ran.code == 2, ran.err
    assert sentence in ran.sentence
    assert ran.sentence.startswith("crossward: ")
    assert ran.err.count("\n") == 1, "one sentence and nothing else"
    assert list((tmp_path / "run").rglob("*.parquet")) == []


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The recipe of a finished run of one iteration."""
    path = write_recipe(tmp_path, make_recipe(tmp_path, iterations=1))
    assert call(capsys, "run", path).code == 0
    return path


def test_a_run_directory_of_another_config_is_left_as_it_was(finished: Path, capsys: pytest.CaptureFixture[str]):
    run = finished.parent / "run"
    before = contents(run)
    called = call(capsys, "run", finished, "sample.temperature=0.7", "train.lora.rank=4")
    assert called.code == 2
    assert "belongs to another config: sample.temperature was 1.0, now 0.7; train.lora was None, now" in called.sentence
    assert "choose another folder with run=FOLDER" in called.sentence
    assert contents(run) == before
    checked = call(capsys, "check", finished, "sample.temperature=0.7")
    assert checked.code == 2
    assert "belongs to another config" in checked.out


def test_a_corrupted_shard_is_named_and_only_that_shard_is_redone(finished: Path, capsys: pytest.CaptureFixture[str]):
    run = finished.parent / "run"
    before = contents(run)
    shard = run / "iteration-1" / "sample" / "es" / "part-00001.parquet"
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 0xFF
    shard.write_bytes(content)

    shown = call(capsys, "show", run, "--prompt", "p2", "--language", "es")
    ran = call(capsys, "run", finished)
    assert ran.code == 2
    assert f"{shard}" in ran.sentence
    assert "delete it and run again" in ran.sentence
    assert shown.code in (0, 2)
    intact = {name: data for name, data in contents(run).items() if name != str(shard.relative_to(run))}
    assert intact == {name: data for name, data in before.items() if name != str(shard.relative_to(run))}

    shard.unlink()
    ran = call(capsys, "run", finished)
    assert ran.code == 0, ran.err
    after = contents(run)
    timed = {name for name in after if name.endswith(("stage.json", "report.md", "report.html"))}
    assert {name for name in after if after[name] != before.get(name)} <= timed


def test_a_full_disk_keeps_what_was_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    path = write_recipe(tmp_path, make_recipe(tmp_path, iterations=1))
    force, calls = files.os.fsync, 0

    def full_after_ten(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 10:
            raise OSError(errno.ENOSPC, "No space left on device")
        force(descriptor)

    monkeypatch.setattr(files.os, "fsync", full_after_ten)
    called = call(capsys, "run", path)
    assert called.code == 2
    assert called.sentence.startswith(f"crossward: no space left on the disk of {tmp_path / 'run'}")
    assert called.sentence.endswith(f"free some, then run crossward run {path}")
    monkeypatch.undo()
    kept = {name: data for name, data in contents(tmp_path / "run").items() if name.endswith(".parquet")}
    assert kept
    assert call(capsys, "run", path).code == 0
    assert {name: contents(tmp_path / "run")[name] for name in kept} == kept


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_an_output_on_a_full_device(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    row = {"id": "1", "language": "es", "instruction": "Di.", "responses": ["a", "b"], "log_ratio": [0.0, 1.0]}
    (tmp_path / "scored.jsonl").write_text(json.dumps(row) + "\n")
    called = call(capsys, "pair", "--input", tmp_path / "scored.jsonl", "--output", "/dev/full")
    assert called.code == 2
    assert "no space left on the disk" in called.sentence


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("run", "none.yaml"), "recipe none.yaml does not exist: give the path of a YAML recipe"),
        (("pair", "--input", "none.jsonl", "--output", "x.jsonl"), "file none.jsonl does not exist: check the path"),
        (("show", "none", "--prompt", "p1"), "none"),
        (("report", "none"), "none"),
        (
            ("score", "--policy", "none", "--reference", "none", "--input", "none.jsonl", "--output", "x"),
            "file none.jsonl does not exist",
        ),
        (
            ("sample", "--policy", "none", "--input", "none.jsonl", "--output", "x", "--language", "es"),
            "none.jsonl does not exist",
        ),
        (
            ("train", "--policy", "none", "--reference", "none", "--input", "none.jsonl", "--output", "x"),
            "file none.jsonl does not exist",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_what_is_not_there(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    sentence: str,
):
    monkeypatch.chdir(tmp_path)
    called = call(capsys, *arguments)
    assert called.code == 2, called.err
    assert sentence in called.sentence
    assert called.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_groups_that_cannot_be_scored_are_named_or_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    policy = make_family("chatml", tmp_path / "policy")
    group = {"id": "1", "language": "xq", "instruction": "Di.", "english_instruction": "Say.", "responses": ["a", "b"]}
    path = tmp_path / "groups.jsonl"
    path.write_text(json.dumps(group) + "\n")
    models = ("--policy", policy, "--reference", policy, "--dtype", "float32")
    called = call(capsys, "score", *models, "--input", path, "--output", tmp_path / "scored.jsonl")
    assert called.code == 2
    assert f"{path}: unknown language code 'xq'" in called.sentence
    path.write_text(json.dumps(group | {"language": "es", "responses": ["a" * 4000, "b"]}) + "\n")
    assert not (tmp_path / "scored.jsonl").exists()
    called = call(capsys, "score", *models, "--input", path, "--output", tmp_path / "scored.jsonl", "--json")
    assert called.code == 0
    counts = json.loads(called.out)["languages"]["es"]
    assert (counts["responses"], counts["too_long"]) == (1, 1), "left out, counted, never cut"


def test_weights_that_are_no_numbers_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    recipe = make_recipe(tmp_path, iterations=1)
    weights = tmp_path / "policy" / "model.safetensors"
    tensors = load_file(weights)
    name = next(name for name in tensors if "norm" in name)
    save_file(tensors | {name: tensors[name] * float("nan")}, weights, metadata={"format": "pt"})
    called = call(capsys, "run", write_recipe(tmp_path, recipe))
    assert called.code == 2, called.err
    assert "are no numbers" in called.sentence


def test_weights_that_were_cut_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    recipe = make_recipe(tmp_path, iterations=1)
    weights = tmp_path / "policy" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    called = call(capsys, "run", write_recipe(tmp_path, recipe))
    assert called.code == 2, called.err
    assert f"model {tmp_path / 'policy'} cannot be loaded from safetensors" in called.sentence


def test_a_misspelt_folder_is_no_name_on_the_hub(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    recipe = make_recipe(tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    recipe["models"] |= {"policy": "models/polici"}
    called = call(capsys, "run", write_recipe(tmp_path, recipe))
    assert called.code == 2
    assert "model folder models/polici does not exist" in called.sentence


def test_published_pairing_takes_no_filters(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ("pair", "--input", "x", "--output", "y", "--compatibility", "published", "--min-margin", "1")
    called = call(capsys, *arguments)
    assert called.code == 2
    assert "leave out --min-margin" in called.sentence


def test_a_usage_error_is_no_traceback(capsys: pytest.CaptureFixture[str]):
    for arguments in (("run",), ("nope",), ("pair", "--input", "x"), ("sample", "--n", "0")):
        called = call(capsys, *arguments)
        assert called.code == 2
        assert "Error: " in called.err
        assert "Traceback" not in called.err

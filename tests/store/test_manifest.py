"""The life of a stage: inputs first, manifest last, and what each interruption or change leaves."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from crossward.core.records import Prompt, Response, SampledPrompt
from crossward.store import manifest, tables
from crossward.store.run_dir import RunDir, StageDir

INPUTS = {"policy": "aa", "prompts/es": "bb"}
SPANISH = {"prompts": 6, "responses": 6, "truncated": 0, "mean_chars": 1.0}
SETTINGS = {"temperature": 0.9, "nested": {"n": 10, "stop": (1, 2)}}


@pytest.fixture
def stage(tmp_path: Path) -> StageDir:
    return RunDir(tmp_path).iteration(1).stage("sample")


def write_missing(stage: StageDir) -> list[Path]:
    """Three deterministic shards; those already there are left alone."""
    files = [stage.shard(language, index) for language, index in (("de", 0), ("es", 0), ("es", 1))]
    for path in files:
        if not path.exists():
            prompt = Prompt(id=path.stem, language=path.parent.name, instruction="x", english_instruction="y")
            tables.write_sampled(path, [SampledPrompt(prompt=prompt, responses=(Response(text="z"),))] * 2)
    return files


def run(stage: StageDir, *, seconds: float = 1.0) -> manifest.StageManifest:
    done = manifest.completed(stage, INPUTS, SETTINGS)
    if done is not None:
        return done
    manifest.begin(stage, INPUTS, SETTINGS)
    files = write_missing(stage)
    return manifest.finish(stage, INPUTS, SETTINGS, counts={"languages": {"es": SPANISH}}, files=files, seconds=seconds)


def contents(stage: StageDir) -> dict[str, bytes]:
    return {stage.relative(path): path.read_bytes() for path in sorted(stage.path.rglob("*")) if path.is_file()}


def test_finished_stage_is_read_back(stage):
    assert manifest.completed(stage, INPUTS, SETTINGS) is None
    assert manifest.read(stage) is None
    made = run(stage)
    assert made == manifest.completed(stage, INPUTS, SETTINGS) == manifest.read(stage)
    assert made.stage == "sample"
    assert list(made.shards) == ["de/part-00000.parquet", "es/part-00000.parquet", "es/part-00001.parquet"]
    shard = made.shards["es/part-00001.parquet"]
    assert shard == {"rows": 2, "sha256": hashlib.sha256(stage.shard("es", 1).read_bytes()).hexdigest()}
    keys = list(json.loads(stage.manifest.read_text()))
    assert keys == sorted(keys)


def test_killed_at_any_write_and_run_again_gives_the_same_bytes(stage, monkeypatch):
    """Every replace() of the stage's life fails once; the run after it must end as an undisturbed run does."""
    import os

    run(stage)
    undisturbed = contents(stage)
    real, n_writes = os.replace, len(undisturbed)
    for fatal in range(n_writes):
        shutil.rmtree(stage.path)
        left = [fatal]

        def replace(source, target, left=left):
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            real(source, target)

        monkeypatch.setattr(os, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            run(stage)
        monkeypatch.setattr(os, "replace", real)
        assert not stage.manifest.exists()
        assert stage.inputs.exists() == (fatal > 0)
        (stage.path / ".stage.json.tmp").write_bytes(b"half")
        run(stage)
        assert contents(stage) == undisturbed
    assert n_writes == 5


def test_only_seconds_differ_between_two_runs(stage):
    first = run(stage, seconds=1.0)
    shutil.rmtree(stage.path)
    second = run(stage, seconds=2.0)
    assert first != second
    assert first.digest == second.digest


def test_digest_follows_the_bytes(stage):
    first = run(stage)
    manifest.redo(stage)
    manifest.begin(stage, INPUTS, SETTINGS)
    *files, last = write_missing(stage)
    last.unlink()
    other = manifest.finish(stage, INPUTS, SETTINGS, counts={"languages": {}}, files=files, seconds=0)
    assert first.digest != other.digest


def test_changes_are_named_with_old_and_new_value(stage):
    manifest.begin(stage, INPUTS, SETTINGS)
    manifest.begin(stage, dict(reversed(INPUTS.items())), SETTINGS | {"nested": {"stop": [1, 2], "n": 10}})
    with pytest.raises(ValueError, match="made from something else") as caught:
        manifest.begin(stage, {"policy": "cc", "prompts/es": "bb"}, {"temperature": 0.9, "nested": {"n": 4}, "seed": 1})
    assert str(caught.value) == (
        f'stage folder {stage.path} was made from something else: input policy was "aa", now "cc"; '
        "setting nested.n was 10, now 4; setting nested.stop was [1, 2], now absent; setting seed was absent, now 1: "
        "use another run directory or --redo iteration-1/sample"
    )


def test_finished_stage_with_other_settings_is_not_done_and_is_not_overwritten(stage):
    run(stage)
    assert manifest.completed(stage, INPUTS, SETTINGS | {"temperature": 0.7}) is None
    stage.inputs.unlink()
    with pytest.raises(ValueError, match=r"setting temperature was 0\.9, now 0\.7"):
        manifest.begin(stage, INPUTS, SETTINGS | {"temperature": 0.7})
    manifest.begin(stage, INPUTS, SETTINGS)
    assert stage.inputs.exists()


def test_missing_shard_is_redone_alone(stage):
    run(stage)
    undisturbed = contents(stage)
    stage.shard("es", 0).unlink()
    kept = stage.shard("es", 1).stat().st_mtime_ns
    assert manifest.completed(stage, INPUTS, SETTINGS) is None
    assert not stage.manifest.exists()
    run(stage)
    assert contents(stage) == undisturbed
    assert stage.shard("es", 1).stat().st_mtime_ns == kept


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: b"?" + content[1:]])
def test_changed_shard_is_refused(stage, damage):
    run(stage)
    path = stage.shard("es", 1)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"part-00001\.parquet is damaged or foreign \(its sha256.*delete it and run"):
        manifest.completed(stage, INPUTS, SETTINGS)
    path.unlink()
    run(stage)
    assert manifest.completed(stage, INPUTS, SETTINGS) is not None


@pytest.mark.parametrize("content", ["{", "[]", '{"stage": "sample"}', "\udcff"])
def test_damaged_json_is_a_sentence(stage, content):
    stage.path.mkdir(parents=True)
    for path in (stage.inputs, stage.manifest):
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
        with pytest.raises(ValueError, match=rf"{path.name} is damaged .*--redo iteration-1/sample"):
            manifest.begin(stage, INPUTS, SETTINGS)
        path.unlink()
    stage.manifest.write_text(json.dumps({"stage": "sample", "inputs": {}, "settings": {}, "more": 1}))
    with pytest.raises(ValueError, match="is damaged"):
        manifest.read(stage)


@pytest.mark.parametrize(
    ("part", "why"),
    [
        ({"counts": {}}, "it counts nothing by language"),
        ({"counts": {"languages": {"es": 3}}}, "it counts nothing by language"),
        ({"counts": []}, "its counts are no object"),
        ({"counts": {"languages": {"es": SPANISH | {"prompts": "3"}}}}, "its language 'es' counts 'prompts' as .*"),
        (
            {"counts": {"languages": {"es": SPANISH | {"mean_chars": [1]}}}},
            "its language 'es' counts 'mean_chars' as .*",
        ),
        ({"shards": {"es.parquet": {"rows": "2", "sha256": "0"}}}, "its shards are no files with rows and sha256"),
        ({"shards": {"es.parquet": {}}}, "its shards are no files with rows and sha256"),
        ({"seconds": "1"}, "its seconds are no number"),
        ({"settings": None}, "its inputs and settings are no objects"),
    ],
)
def test_a_manifest_without_what_its_readers_need_is_damaged(stage, part, why):
    run(stage)
    stage.manifest.write_text(json.dumps(unsigned(stage) | part))
    with pytest.raises(
        ValueError, match=rf"stage\.json is damaged \({why}\): run again with --redo iteration-1/sample"
    ):
        manifest.read(stage)


@pytest.mark.parametrize("old", ["2", "null", "1e999", "NaN", '"2"'])
def test_a_number_that_changed_is_damage(stage, old):
    run(stage)
    text = stage.manifest.read_text()
    assert '"rows": 2' in text
    stage.manifest.write_text(text.replace('"rows": 2', f'"rows": {"3" if old == "2" else old}', 1))
    with pytest.raises(
        ValueError, match=r"stage\.json is damaged \(not what was written there\): run again with --redo"
    ):
        manifest.read(stage)


@pytest.mark.parametrize("damage", ["missing", "flipped", "a folder"])
def test_inputs_of_a_finished_stage_are_written_anew_and_told(stage, damage):
    made = run(stage)
    whole = stage.inputs.read_bytes()
    stage.inputs.unlink()
    if damage == "flipped":
        stage.inputs.write_bytes(whole.replace(b'"stage": "sample"', b'"stage": "samplf"'))
    if damage == "a folder":
        stage.inputs.mkdir()
    heard = []
    assert manifest.completed(stage, INPUTS, SETTINGS, say=heard.append) == made
    assert stage.inputs.read_bytes() == whole
    assert heard == ["iteration-1/sample: inputs.json is missing or damaged: it is written anew from stage.json"]
    assert manifest.completed(stage, INPUTS, SETTINGS, say=heard.append) == made
    assert len(heard) == 1


def test_a_flipped_bit_in_the_inputs_of_an_unfinished_stage_is_damage_and_no_change(stage):
    manifest.begin(stage, INPUTS, SETTINGS)
    whole, sentences = stage.inputs.read_bytes(), []
    for place in range(len(whole)):
        stage.inputs.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            manifest.begin(stage, INPUTS, SETTINGS)
        except ValueError as error:
            sentences.append(str(error))
    assert len(sentences) > len(whole) / 2
    assert all("is damaged (" in said and said.endswith("--redo iteration-1/sample") for said in sentences)


def test_a_manifest_of_an_earlier_version_has_no_checksum(stage):
    made = run(stage)
    stage.manifest.write_text(json.dumps(unsigned(stage)))
    assert manifest.read(stage) == made


def unsigned(stage):
    content = json.loads(stage.manifest.read_text())
    del content["checksum"]
    return content


def test_training_counts_no_languages(tmp_path):
    stage = RunDir(tmp_path).iteration(1).stage("train")
    manifest.begin(stage, {}, {})
    manifest.finish(stage, {}, {}, counts={"training": {"steps": 1}}, files=[], seconds=1)
    assert manifest.read(stage) is not None
    stage.manifest.write_text(json.dumps(unsigned(stage) | {"counts": {"training": 1}}))
    with pytest.raises(ValueError, match="its training is no object"):
        manifest.read(stage)


def test_files_of_unknown_origin_are_refused(stage):
    write_missing(stage)
    with pytest.raises(ValueError, match=r"holds files but no inputs\.json.*--redo iteration-1/sample"):
        manifest.begin(stage, INPUTS, SETTINGS)


def test_redo_leaves_nothing_and_spares_the_neighbours(stage):
    run(stage)
    neighbour = stage.path.parent / "score" / "stage.json"
    neighbour.parent.mkdir()
    neighbour.write_text("{}")
    manifest.redo(stage)
    assert list(stage.path.iterdir()) == []
    assert neighbour.exists()
    manifest.redo(stage)
    shutil.rmtree(stage.path)
    manifest.redo(stage)
    assert manifest.completed(stage, {}, {}) is None
    manifest.begin(stage, {}, {})


def test_redo_killed_half_way_still_knows_its_inputs(stage, monkeypatch):
    run(stage)

    def killed(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        manifest.redo(stage)
    assert not stage.manifest.exists()
    with pytest.raises(ValueError, match="input policy was"):
        manifest.begin(stage, {"policy": "other"}, SETTINGS)


def test_finish_needs_the_origin_it_was_begun_with(stage):
    manifest.begin(stage, INPUTS, SETTINGS)
    with pytest.raises(AssertionError):
        manifest.finish(stage, INPUTS, {}, counts={}, files=[], seconds=0)


def test_files_that_are_no_tables_have_no_rows(stage):
    manifest.begin(stage, {}, {})
    stage.checkpoint.mkdir()
    (stage.checkpoint / "model.safetensors").write_bytes(b"abc")
    files = [stage.checkpoint / "model.safetensors"]
    made = manifest.finish(stage, {}, {}, counts={}, files=files, seconds=0)
    sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert made.shards == {"checkpoint/model.safetensors": {"rows": None, "sha256": sha256}}


def test_content_hash():
    assert manifest.content_hash({"b": 1, "a": "ñ"}) == hashlib.sha256(b'{"a":"\\u00f1","b":1}').hexdigest()
    assert manifest.content_hash(1) != manifest.content_hash("1")
    with pytest.raises(ValueError, match="JSON"):
        manifest.content_hash(float("nan"))


def test_last_metrics_skips_a_cut_line(stage):
    assert manifest.last_metrics(stage) == {}
    stage.path.mkdir(parents=True)
    stage.metrics.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert manifest.last_metrics(stage) == {"step": 2}
    stage.metrics.write_text("")
    assert manifest.last_metrics(stage) == {}

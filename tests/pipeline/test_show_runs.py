"""Looking at runs: their state from manifests alone, a stage, a pair; whatever strangers wrote is shown, not obeyed."""

import fcntl
import json
import os
import shutil
from pathlib import Path

import pytest
from tests.support.command import call
from tests.support.recipes import config_of, make_recipe

from crossward.core.records import PreferencePair, Response, SampledPrompt
from crossward.pipeline.iterate import run
from crossward.pipeline.progress import Recorded, Silent
from crossward.pipeline.run_state import run_found
from crossward.pipeline.runs import list_runs
from crossward.pipeline.show_pair import pairs_of
from crossward.pipeline.show_run import plain_run, plain_stage
from crossward.store import tables
from crossward.store.run_dir import RunDir

EVIL = "red \x1b[31m turned \u202e back \x9b2J bell \x07"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, Recorded]:
    recorded = Recorded(Silent())
    config = config_of(make_recipe(tmp_path_factory.mktemp("shown"), iterations=1))
    run(config, progress=recorded)
    return run(config, progress=recorded), recorded


@pytest.fixture
def copied(made: tuple[RunDir, Recorded], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made[0].root, tmp_path / "runs" / "mine"))


def test_every_stage_is_told_now_and_then_before(made: tuple[RunDir, Recorded]):
    titles = [stage.title for stage in run_found(made[0].root).stages]
    assert titles[0] == "reference/evaluate"
    assert titles[-1] == "iteration-1/evaluate"
    told = [(row["stage"], row["made"]) for row in made[1].stages]
    assert told == [(title, when) for when in ("now", "before") for title in titles]


def test_the_states_of_a_run(copied: Path):
    assert run_found(copied).state == "done"
    lock = RunDir(copied).lock
    with lock.open("a+") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        handle.write(str(os.getpid()))
        handle.flush()
        (copied / "iteration-1" / "train" / "stage.json").unlink()
        found = run_found(copied)
        assert (found.state, found.holder, found.at) == ("running", str(os.getpid()), "iteration-1/train")
    assert (run_found(copied).state, run_found(copied).holder) == ("stopped", None), "killed: its number is left"
    (copied / "iteration-1" / "pair" / "stage.json").write_text('{"stage": "pair"')
    found = run_found(copied)
    assert found.state == "damaged"
    assert "iteration-1/pair/stage.json is damaged" in (found.problem or "")
    (copied / "config.yaml").write_text("]")
    assert run_found(copied).state == "damaged"
    assert run_found(copied).n_done == 5, "what is there is still told"
    shutil.rmtree(copied / "iteration-1")
    with pytest.raises(ValueError, match="is not a run directory"):
        run_found(copied / "none")


@pytest.mark.parametrize("value", ["5", "[1, true]", "de", "[]", "{en: 1}"])
def test_languages_that_are_none_are_told_not_raised(
    tmp_path: Path, value: str, made: tuple[RunDir, Recorded], capsys: pytest.CaptureFixture[str]
):
    lines = made[0].config.read_text().partition("\n")[2].replace("languages:\n- en\n- es\n", f"languages: {value}\n")
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "config.yaml").write_text(lines)
    assert f"languages: {value}" in lines
    (row,) = json.loads(call(capsys, "runs", tmp_path, "--json").out)
    assert (row["state"], row["languages"]) == ("damaged", [])
    assert "languages" in row["problem"]
    for verb in (("runs", tmp_path), ("show", tmp_path / "runs" / "mine")):
        called = call(capsys, *verb)
        assert called.code == 0
        assert "damaged" in called.out
        assert "d e" not in called.out


def test_runs_are_found_whatever_lies_around(copied: Path, capsys: pytest.CaptureFixture[str]):
    root = copied.parent
    cell = shutil.copytree(copied, root / "grid" / "cells" / "a" / "seed-1")
    (Path(cell) / "iteration-1" / "train" / "stage.json").unlink()
    (root / "loop").symlink_to(root)
    (root / "again").symlink_to(copied)
    (root / "dangling").symlink_to(root / "nowhere")
    other = root / "other"
    other.mkdir()
    (other / "config.yaml").write_text("name: not ours")
    os.utime(copied / "config.yaml", (2e9, 2e9))
    listing = list_runs(root)
    found = {listed.found.root.name: listed.found.state for listed in listing.runs}
    assert found in ({"mine": "done", "seed-1": "stopped"}, {"again": "done", "seed-1": "stopped"})
    assert listing.runs[0].found.state == "done", "the latest change first"
    assert not listing.cut
    assert list_runs(root, folders=1).cut

    called = call(capsys, "runs", root, "--json")
    rows = json.loads(called.out)
    assert [row["state"] for row in rows] == ["done", "stopped"]
    assert (rows[0]["languages"], rows[0]["iterations"], rows[0]["stages"]) == (["en", "es"], 1, 7)
    assert rows[0]["bytes"] == sum(path.stat().st_size for path in copied.rglob("*") if path.is_file())
    assert rows[1]["at"] == "iteration-1/train"
    shown = call(capsys, "runs", root)
    assert "stopped at iteration-1/train" in shown.out
    assert call(capsys, "runs", root / "nowhere").code == 2


def test_a_run_and_a_stage_at_a_glance(copied: Path, capsys: pytest.CaptureFixture[str]):
    found = plain_run(copied)
    assert (found["state"], found["languages"]) == ("done", ["en", "es"])
    by_title = {stage["stage"]: stage for stage in found["stages"]}
    assert by_title["iteration-1/sample"]["counts"]["responses"] == 48
    last = json.loads((copied / "iteration-1/train/metrics.jsonl").read_text().splitlines()[-1])
    assert found["training"] == {"iteration-1/train": last}
    assert set(found["headline"]) == {"reference", "iteration-0", "iteration-1"}
    stage = plain_stage(copied, "iteration-1/pair")
    assert stage["settings"]["length_unit"] == "characters"
    assert set(stage["counts"]["languages"]) == {"en", "es"}
    for arguments in ((), ("--stage", "iteration-1/pair"), ("--stage", "iteration-1/train")):
        assert call(capsys, "show", copied, *arguments).code == 0
    (copied / "iteration-1/score/stage.json").unlink()
    assert plain_stage(copied, "iteration-1/score")["state"] == "begun"
    for wrong, sentence in (
        (("--stage", "iteration-7/pair"), "has no stage iteration-7/pair yet"),
        (("--stage", "pair"), "unknown stage 'pair'"),
        (("--stage", "iteration-1/pair", "--prompt", "p1"), "exclude each other"),
        (("--language", "es"), "belong to --prompt and --pair"),
    ):
        called = call(capsys, "show", copied, *wrong)
        assert called.code == 2
        assert sentence in called.sentence
    for damage in ("{}", "]", '{"stage": "score", "inputs": [], "settings": {}}'):
        (copied / "iteration-1/score/inputs.json").write_text(damage)
        called = call(capsys, "show", copied, "--stage", "iteration-1/score")
        assert called.code == 2
        assert "score/inputs.json is damaged" in called.sentence


def test_a_pair_stands_with_its_ranks(made: tuple[RunDir, Recorded], capsys: pytest.CaptureFixture[str]):
    folder = made[0].root
    outcomes = tables.read_outcomes(made[0].iteration(1).stage("pair").language_file("es"))
    pair = next(outcome for outcome in outcomes if isinstance(outcome, PreferencePair))
    (found,) = pairs_of(folder, pair.prompt.id, "es", 1)
    scored = next(
        group
        for _, _, path in made[0].iteration(1).stage("score").shards()
        for group in tables.read_scored(path)
        if group.prompt == pair.prompt
    )
    ranked = sorted((response.score for response in scored.responses), reverse=True)
    assert found.n == 4
    assert ranked[(found.chosen_rank or 0) - 1] == pair.chosen.score
    assert ranked[(found.rejected_rank or 0) - 1] == pair.rejected.score
    (told,) = json.loads(call(capsys, "show", folder, "--pair", pair.prompt.id, "--language", "es", "--json").out)
    assert (told["margin"], told["alpha"]) == (pair.margin, pair.alpha)
    assert told["chosen"]["text"] == pair.chosen.response.text
    shown = call(capsys, "show", folder, "--pair", pair.prompt.id, "--language", "es").out
    assert "rank by score" in shown
    assert f"{found.chosen_rank} of 4" in shown
    assert call(capsys, "show", folder, "--pair", "p77").code == 2
    lives = json.loads(call(capsys, "show", folder, "--prompt", pair.prompt.id, "--json").out)
    assert [life["language"] for life in lives] == ["en", "es"]
    assert [response["score"] for response in lives[1]["responses"]] == ranked


def test_no_text_of_a_run_controls_the_terminal(copied: Path, capsys: pytest.CaptureFixture[str]):
    """Responses, prompts and the config itself may come from strangers."""
    for stage in ("score", "pair"):
        shutil.rmtree(copied / "iteration-1" / stage)
    shard = RunDir(copied).iteration(1).stage("sample").shard("es", 0)
    groups = [
        SampledPrompt(prompt=group.prompt, responses=(Response(text=EVIL), Response(text=f"{EVIL}2")))
        for group in tables.read_sampled(shard)
    ]
    tables.write_sampled(shard, groups)
    config = (copied / "config.yaml").read_text().partition("\n")[2]  # without its checksum
    (copied / "config.yaml").write_text(config.replace("seed: 42", 'seed: "\\e[31m\\u202e"', 1))
    outputs = [
        call(capsys, *arguments)
        for arguments in (
            ("show", copied, "--prompt", groups[0].prompt.id, "--language", "es"),
            ("show", copied),
            ("runs", copied.parent),
            ("show", copied, "--prompt", EVIL),
            ("show", copied, "--prompt", groups[0].prompt.id, "--language", "es", "--json"),
        )
    ]
    assert "turned" in outputs[0].out
    assert json.loads(outputs[-1].out)[0]["responses"][0]["text"] == EVIL
    for output in outputs:
        for character in ("\x1b", "\u202e", "\x9b", "\x07"):
            assert character not in output.out + output.err

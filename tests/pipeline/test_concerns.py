"""A tiny run that worries nobody, made bad in one way for each kind of concern: that one is raised, and no other."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from safetensors.torch import load_file, save_file
from tests.support.families import make_family
from tests.support.recipes import config_of, make_child, make_recipe

from crossward.config import Config
from crossward.core.answer_measures import AnswerMeasures
from crossward.core.concerns import Kind
from crossward.core.rewards import RewardAccuracy
from crossward.engines.protocols import ModelSpec
from crossward.engines.tokens import load_tokens
from crossward.pipeline.check import check
from crossward.pipeline.concerns import concerns_of, look_at
from crossward.pipeline.iterate import run
from crossward.pipeline.progress import Silent
from crossward.store import manifest
from crossward.store.measures_file import write_measures
from crossward.store.reward_accuracy_file import write_reward_accuracy
from crossward.store.run_dir import RunDir, StageDir

FINE = AnswerMeasures(
    prompt_id="", language="", answer=0, n_chars=100, empty=False, truncated=False, repetition=0.0, looping=False,
    identified=None, code_switching=None, chrf=None,
)  # fmt: skip


def make_terse(folder: Path) -> None:
    """Weights under which answers end soon: one dimension is the same for all tokens and speaks for the end of turn."""
    end = load_tokens(ModelSpec(path=str(folder), dtype="float32", device="cpu")).end_of_turn_id
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][:, 0] = 0.25
    weights["lm_head.weight"][:, 0] = 0
    weights["lm_head.weight"][end, 0] = 3
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, RunDir]:
    """A finished run of a policy and its child."""
    folder = tmp_path_factory.mktemp("sound")
    recipe = make_recipe(folder, pair={"language_filter": "none", "length_unit": "tokens"})
    recipe["evaluate"] |= {"max_new_tokens": 96}
    recipe["runtime"] |= {"sample_rows": 64}
    make_terse(folder / "policy")
    make_child(folder / "policy", folder / "reference")
    config = config_of(recipe)
    return config, run(config, progress=Silent())


@pytest.fixture
def ours(sound: tuple[Config, RunDir], tmp_path: Path) -> tuple[Config, RunDir]:
    """A copy of the run, to be made bad."""
    config, directory = sound
    shutil.copytree(directory.root, tmp_path / "run")
    return config, RunDir(tmp_path / "run")


def change(stage: StageDir, edit: Callable[[dict[str, Any]], None]) -> None:
    """Edit a stage's counts of Spanish."""
    content = json.loads(stage.manifest.read_text(encoding="utf-8"))
    edit(content["counts"]["languages"]["es"])
    del content["checksum"]  # it would tell the change from what was written
    stage.manifest.write_text(json.dumps(content), encoding="utf-8")


def answers(directory: RunDir, t: int, language: str, bad: int, **changes: Any) -> None:
    """The measures of 40 answers, the first `bad` of them with changes."""
    told = {"identified": language, "code_switching": 0.0} if "identified" in changes else {}
    rows = [replace(FINE, prompt_id=str(i), language=language, **told) for i in range(40)]
    rows = [replace(row, **changes) if i < bad else row for i, row in enumerate(rows)]
    write_measures(directory.iteration(t).stage("evaluate").measures_file(language), rows)


def make_bad(kind: Kind, directory: RunDir, config: Config) -> Config:
    here = directory.iteration(2)
    match kind:
        case "length-exploitation":
            for t in (0, 1, 2):
                answers(directory, t, "es", 30 if t == 2 else 0, n_chars=200)
        case "language-drift":
            for t in (0, 1, 2):
                answers(directory, t, "es", 16 if t == 2 else 0, identified="en")
        case "reward-drift":
            one = RewardAccuracy(
                iteration=1, view="crosslingual", language="es", by="gold", accuracy=0.8, low=0.78, high=0.82,
                n_pairs=900,
            )  # fmt: skip
            write_reward_accuracy(
                directory.reward_accuracy, [one, replace(one, iteration=2, accuracy=0.7, low=0.68, high=0.72)]
            )
        case "collapsed-diversity":
            change(here.stage("sample"), lambda counts: counts.update(prompts=200, responses=800))
            change(here.stage("pair"), lambda counts: counts["removed_responses"].update(duplicate=500))
        case "alpha-at-odds":
            change(here.stage("pair"), lambda counts: counts.update(n_groups=200, length_gap_after=-60.0))
        case "truncation":
            change(here.stage("sample"), lambda counts: counts.update(truncated=counts["responses"]))
        case "below-noise":
            change(here.stage("score"), lambda counts: counts["noise"].update(margin=1000.0))
        case "english-regressed":
            for t in (0, 1, 2):
                answers(directory, t, "en", 16 if t == 2 else 0, looping=True)
        case "few-judged":
            counts = {"languages": {"es": {"n": 100, "n_null": 30}}}
            manifest.begin(here.stage("judge"), {}, {})
            manifest.finish(here.stage("judge"), {}, {}, counts=counts, files=[], seconds=1.0)
        case "not-the-child":
            other = make_family("chatml", directory.root.parent / "other", seed=7, head_size=8)
            models = config.models.model_copy(update={"reference": str(other)})
            return config.model_copy(update={"models": models})
    return config


def test_a_sound_run_has_no_concerns_and_says_what_could_not_be_looked_at(sound: tuple[Config, RunDir]):
    look = look_at(sound[1], sound[0])
    assert look.concerns == []
    assert look.lines() == ["no concerns: 8 of 10 kinds looked at (the run cannot tell of language-drift, few-judged)"]


@pytest.mark.parametrize("kind", get_args(Kind))
def test_one_thing_made_bad_is_one_concern(ours: tuple[Config, RunDir], kind: Kind):
    config, directory = ours
    config = make_bad(kind, directory, config)
    found = concerns_of(directory, config)
    assert {concern.kind for concern in found} == {kind}
    languages = {"english-regressed": ("en",), "not-the-child": ()}.get(kind, ("es",))
    assert {concern.languages for concern in found} == {languages}
    lines = look_at(directory, config).lines()
    assert lines[-2] == f"  more: docs/troubleshooting.md#{kind}"
    assert lines[-1].startswith("1 concern: ")


def test_a_run_that_is_not_finished_is_looked_at_as_far_as_it_goes(ours: tuple[Config, RunDir]):
    config, directory = ours
    make_bad("truncation", directory, config)
    change(directory.iteration(1).stage("sample"), lambda counts: counts.update(truncated=counts["responses"]))
    (both,) = concerns_of(directory, config)
    assert both.where == "iteration-2/sample"
    assert both.seen.endswith("(iteration-1 too)")
    for t, stage in ((2, "evaluate"), (2, "train"), (2, "pair"), (2, "score"), (2, "sample")):
        shutil.rmtree(directory.iteration(t).path / stage)
        assert {concern.kind for concern in concerns_of(directory, config)} == {"truncation"}
    (first,) = concerns_of(directory, config)
    assert first.where == "iteration-1/sample"
    assert "too)" not in first.seen
    shutil.rmtree(directory.root)
    assert concerns_of(directory, config) == []


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("iteration-1/pair/stage.json", "stage.json is damaged .* run again with --redo iteration-1/pair"),
        ("iteration-1/pair/es.parquet", "es.parquet is damaged or foreign .* delete it and run again"),
        ("iteration-1/evaluate/measures/es.jsonl", "es.jsonl, line 1"),
        ("reward-accuracy.json", "holds no reward accuracies"),
    ],
)
def test_a_damaged_file_is_told_in_its_usual_sentence(ours: tuple[Config, RunDir], name: str, sentence: str):
    config, directory = ours
    (directory.root / name).write_bytes(b"{]")
    with pytest.raises(ValueError, match=sentence):
        concerns_of(directory, config)


def evaluation(directory: RunDir, **difference: Any) -> None:
    """A judged run's win rates, and a judge that answered everything."""
    row = {
        "language": "es", "model": "π_2", "other": "π_0", "n_common": 50, "win_rate": 12.0,
        "win_rate_interval": [4.0, 20.0], "lc_win_rate": 10.0, "lc_interval": [2.0, 18.0],
        "baseline": "reference", "win_rate_p": 0.01, "lc_p": 0.01,
    } | difference  # fmt: skip
    directory.evaluation.write_text(json.dumps({"rates": [], "averages": [], "differences": [row]}), encoding="utf-8")
    stage = directory.iteration(2).stage("judge")
    manifest.begin(stage, {}, {})
    counts = {"languages": {"es": {"n": 50, "n_null": 0}}}
    manifest.finish(stage, {}, {}, counts=counts, files=[], seconds=1.0)


@pytest.mark.parametrize(
    ("difference", "kinds"),
    [
        ({}, []),
        ({"lc_win_rate": 2.0, "lc_interval": [-6.0, 10.0]}, ["length-exploitation"]),
        ({"win_rate_interval": [-4.0, 20.0]}, ["few-judged"]),
        ({"lc_win_rate": None, "lc_interval": None}, []),
        ({"other": "π_1", "win_rate_interval": [-40.0, 40.0]}, []),
    ],
)
def test_win_rates_are_looked_at(ours: tuple[Config, RunDir], difference: dict[str, Any], kinds: list[str]):
    config, directory = ours
    evaluation(directory, **difference)
    assert [concern.kind for concern in concerns_of(directory, config)] == kinds


def test_damaged_win_rates_are_told(ours: tuple[Config, RunDir]):
    config, directory = ours
    evaluation(directory)
    directory.evaluation.write_text('{"differences": [{}]}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"evaluation\.json holds no win rates \(.*: delete it and run again"):
        concerns_of(directory, config)


def test_a_reward_that_tells_nothing_apart_any_more(ours: tuple[Config, RunDir]):
    config, directory = ours
    for t, spread in ((1, 4.0), (2, 0.5)):
        change(
            directory.iteration(t).stage("score"),
            lambda counts, spread=spread: counts.update(prompts=100, mean_spread=spread),
        )
    (found,) = concerns_of(directory, config)
    assert (found.kind, found.where) == ("reward-drift", "iteration-2/score")
    other_scale = config.model_copy(update={"reward": config.reward.model_copy(update={"reference": "previous"})})
    assert concerns_of(directory, other_scale) == []


def test_check_tells_what_the_finished_stages_show(sound: tuple[Config, RunDir], ours: tuple[Config, RunDir]):
    config, directory = ours
    make_bad("below-noise", directory, config)
    here = config.model_copy(update={"run": str(directory.root)})
    (found,) = [finding for finding in check(here) if finding.subject == "below-noise"]
    assert found.level == "warning"
    for part in ("iteration-2/pair: pairs whose margin", " Why: ", " Try: ", " docs/troubleshooting.md#below-noise"):
        assert part in found.text

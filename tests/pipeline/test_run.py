"""The whole method on a tiny random model: what each iteration is made from, and what running again does."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.recipes import config_of, make_recipe, report_text

from crossward.config import Config
from crossward.core.records import PreferencePair, ScoredPrompt
from crossward.core.rewards import RewardAccuracy
from crossward.engines.hf_scorer import HfScorer
from crossward.engines.models import model_fingerprint
from crossward.engines.protocols import ModelSpec
from crossward.engines.tokens import load_tokens
from crossward.pipeline.assemble import Engines
from crossward.pipeline.iterate import run
from crossward.pipeline.progress import Silent
from crossward.pipeline.stage_files import read_pairs, read_scored
from crossward.pipeline.streams import score_groups
from crossward.store import manifest, tables
from crossward.store.manifest import StageManifest
from crossward.store.reward_accuracy_file import read_reward_accuracy, write_reward_accuracy
from crossward.store.run_dir import RunDir, Stage

LANGUAGES = ("en", "es")


def go(recipe: dict[str, Any], *, redo: tuple[str, ...] = ()) -> tuple[Config, RunDir]:
    config = config_of(recipe)
    return config, run(config, progress=Silent(), redo=redo)


def made(directory: RunDir, t: int, stage: Stage) -> StageManifest:
    found = manifest.read(directory.iteration(t).stage(stage))
    assert found is not None
    return found


def files(folder: Path, *, but: tuple[str, ...] = ("config.yaml",)) -> dict[str, int]:
    """Every file with the time when it was written."""
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in but and not path.name.startswith(".")
    }


def spec(path: Path | str) -> ModelSpec:
    return ModelSpec(path=str(path), dtype="float32", device="cpu")


def log_ratios(groups: list[ScoredPrompt]) -> list[float]:
    return [response.log_ratio for group in groups for response in group.responses]


@pytest.mark.parametrize("reference", ["initial", "previous"])
def test_the_second_iteration_rewards_its_own_policy_over_the_named_reference(tmp_path: Path, reference: str):
    recipe = make_recipe(tmp_path, reward={"reference": reference})
    recipe["train"] |= {"reference": reference}
    config, directory = go(recipe)
    first_policy = directory.iteration(1).stage("train").checkpoint
    base = config.models.reference if reference == "initial" else config.models.policy
    stage = directory.iteration(2).stage("score")
    for language in LANGUAGES:
        kept = read_scored(stage, language)
        groups = [
            group
            for code, _, path in directory.iteration(2).stage("sample").shards()
            if code == language
            for group in tables.read_sampled(path)
        ]
        models = [HfScorer(spec(path), load_tokens(spec(path)), batch_tokens=512) for path in (first_policy, base)]
        again = score_groups(groups, "crosslingual", *models)
        assert log_ratios(kept) == pytest.approx(log_ratios(again), abs=1e-4)
        assert max(map(abs, log_ratios(kept))) > 0.01
    anchor = first_policy if reference == "previous" else config.models.reference
    expected = model_fingerprint(spec(anchor)) if reference == "initial" else made(directory, 1, "train").digest
    assert made(directory, 2, "train").inputs["reference"] == expected


def test_every_policy_answers_and_training_changes_it(tmp_path: Path):
    config, directory = go(make_recipe(tmp_path))
    answers = {}
    for name in (directory.reference, *(directory.iteration(t) for t in (0, 1, 2))):
        for code, _, path in name.stage("evaluate").shards():
            groups = tables.read_sampled(path)
            assert [len(group.responses) for group in groups] == [1] * len(groups)
            answers.setdefault(code, []).append([group.responses[0].text for group in groups])
    assert sorted(answers) == list(LANGUAGES)
    assert len(answers["es"]) == 4
    weights = [
        (Path(path) / "model.safetensors").read_bytes()
        for path in (config.models.policy, *(directory.iteration(t).stage("train").checkpoint for t in (1, 2)))
    ]
    assert len(set(weights)) == 3
    report = report_text(directory)
    assert "Iteration 2" in report
    for language in LANGUAGES:
        assert f"| {language} |" in report


def test_counts_add_up_so_that_no_row_is_lost(tmp_path: Path):
    config, directory = go(make_recipe(tmp_path, iterations=1))
    for language in LANGUAGES:
        sampled = made(directory, 1, "sample").counts["languages"][language]
        paired = made(directory, 1, "pair").counts["languages"][language]
        assert sampled["responses"] == 4 * sampled["prompts"] == 24
        assert paired["n_groups"] == sampled["prompts"] == paired["n_pairs"] + sum(paired["skipped"].values())
        assert paired["removed_responses"].get("truncated", 0) == sampled["truncated"]
    trained = made(directory, 1, "train").counts["training"]
    pairs = read_pairs(directory.iteration(1).stage("pair"))
    assert trained["pairs"] + trained["dropped_too_long"] == len(pairs)
    assert {pair.prompt.language for pair in pairs} == set(LANGUAGES)
    stage = directory.iteration(1).stage("train")
    assert not stage.references.exists()
    stage.manifest.unlink()  # as where a kill came between the checkpoint and this
    run(config, progress=Silent())
    assert made(directory, 1, "train").counts["training"] == trained


def test_running_again_does_nothing_and_more_iterations_continue(tmp_path: Path):
    recipe = make_recipe(tmp_path, iterations=1)
    _, directory = go(recipe)
    before = files(directory.root)
    go(recipe)
    assert files(directory.root) == before
    go(recipe | {"iterations": 2})
    after = files(directory.root)
    assert {name: after[name] for name in before} == before
    assert any(name.startswith("iteration-2/train/checkpoint") for name in after)


def test_a_run_continues_where_keys_came_since_that_stand_at_their_defaults(tmp_path: Path):
    recipe = make_recipe(tmp_path, iterations=1)
    _, directory = go(recipe)
    saved = yaml.safe_load(directory.config.read_text(encoding="utf-8"))
    del saved["method"], saved["translator"], saved["reward"]["steering"]
    directory.config.write_text(yaml.safe_dump(saved), encoding="utf-8")
    before = files(directory.root)
    go(recipe)
    assert files(directory.root) == before
    with pytest.raises(ValueError, match=r"reward\.steering\.place was 'before', now 'after'"):
        go(recipe | {"reward": {"steering": {"place": "after"}}})


def test_a_stage_is_done_again_with_all_that_follows_and_nothing_before(tmp_path: Path):
    recipe = make_recipe(tmp_path, iterations=1)
    _, directory = go(recipe)
    before = files(directory.root)
    go(recipe | {"pair": recipe["pair"] | {"length_unit": "none"}}, redo=("iteration-1/pair",))
    after = files(directory.root)
    kept = {name for name in before if after.get(name) == before[name]}
    again = {name for name in before if name.startswith(("iteration-1/pair", "iteration-1/train", "iteration-1/eval"))}
    assert kept == set(before) - again
    outcomes = tables.read_outcomes(directory.iteration(1).stage("pair").language_file("es"))
    assert all(outcome.alpha == 0.0 for outcome in outcomes if isinstance(outcome, PreferencePair))
    with pytest.raises(ValueError, match=r"--redo iteration-1/pairs: no such stage; did you mean iteration-1/pair\?"):
        go(recipe, redo=("iteration-1/pairs",))


def test_redo_forgets_what_was_said_of_policies_that_are_made_anew(tmp_path: Path):
    recipe = make_recipe(tmp_path, iterations=2)
    _, directory = go(recipe)
    rows = [
        RewardAccuracy(
            iteration=t, view="crosslingual", language="es", by="gold", accuracy=0.7, low=0.6, high=0.8, n_pairs=9
        )
        for t in (1, 2)
    ]
    write_reward_accuracy(directory.reward_accuracy, rows)
    directory.evaluation.write_text("{}", encoding="utf-8")
    go(recipe)
    assert directory.evaluation.exists(), "a run that is continued forgets nothing"
    go(recipe, redo=("iteration-2/train",))
    assert not directory.evaluation.exists()
    assert read_reward_accuracy(directory.reward_accuracy) == rows, "both rewards are of policies before that one"
    go(recipe, redo=("iteration-1/train",))
    assert read_reward_accuracy(directory.reward_accuracy) == rows[:1]


def test_redo_removes_nothing_before_all_is_sound(tmp_path: Path):
    recipe = make_recipe(tmp_path, iterations=1)
    _, directory = go(recipe)
    before = files(directory.root, but=())
    other_model = recipe | {"models": recipe["models"] | {"policy": str(tmp_path / "none")}}
    other_sample = recipe | {"sample": recipe["sample"] | {"n": 3}}
    for changed, redo, sentence in (
        (recipe, ("iteration-1/train", "iteration-1/evaluat"), "did you mean iteration-1/evaluate"),
        (other_model, ("iteration-1/sample",), "belongs to another config: models.policy was"),
        (other_sample, ("iteration-1/pair",), "sample.n was 4, now 3.*or do iteration-1/sample again with --redo"),
    ):
        with pytest.raises(ValueError, match=sentence):
            go(changed, redo=redo)
        assert files(directory.root, but=()) == before
    shutil.rmtree(tmp_path / "policy")
    with pytest.raises(ValueError, match="does not exist"):
        go(recipe, redo=("iteration-1/train",))
    assert files(directory.root, but=()) == before


def test_answers_are_given_again_alone(tmp_path: Path):
    recipe = make_recipe(tmp_path)
    _, directory = go(recipe)
    before = files(directory.root)
    go(recipe, redo=("iteration-1/evaluate",))
    after = files(directory.root)
    assert {name for name in before if after[name] != before[name]} == {
        name for name in before if name.startswith("iteration-1/evaluate")
    }


def test_a_folder_in_which_nothing_was_computed_takes_another_config(tmp_path: Path):
    recipe = make_recipe(tmp_path, iterations=1)
    for wrong in (
        {"models": recipe["models"] | {"policy": str(tmp_path / "polici")}},
        {"sample": {"max_new_tokens": 500}},
    ):
        with pytest.raises(ValueError, match=r"does not exist|lower sample\.max_new_tokens"):
            go(recipe | wrong)
    go(recipe)


def test_a_stage_that_has_not_begun_takes_other_settings(tmp_path: Path):
    recipe = make_recipe(tmp_path, iterations=1)
    with pytest.raises(ValueError, match=r"training diverged at step \d, .* lower the learning rate \(now 1e\+30\)"):
        go(recipe | {"train": recipe["train"] | {"learning_rate": 1e30}})
    with pytest.raises(ValueError, match="or do iteration-1/train again with --redo"):
        go(recipe)
    go(recipe, redo=("iteration-1/train",))


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_damaged_checkpoint_says_what_to_do_and_doing_it_helps(tmp_path: Path, damage: str):
    recipe = make_recipe(tmp_path, iterations=1)
    _, directory = go(recipe)
    weights = directory.iteration(1).stage("train").checkpoint / "model.safetensors"
    content = weights.read_bytes()
    weights.unlink()
    if damage == "changed":
        weights.write_bytes(content[:-1] + b"\xff")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"missing or damaged .* train again with --redo iteration-1/train"):
            go(recipe)
    go(recipe, redo=("iteration-1/train",))
    assert weights.read_bytes() == content


def test_fidelity_knows_languages_that_are_only_evaluated(tmp_path: Path):
    recipe = make_recipe(tmp_path, pair={"language_filter": "lingua"})
    recipe["evaluate"] |= {"languages": ["en", "fr"]}
    identifier = Engines(config_of(recipe)).identifier(("en", "es", "fr"))
    assert identifier is not None
    (found,) = identifier.identify(["Le chat dort sur le canapé pendant que nous parlons."])
    assert found.language == "fr"


def test_lora_continues_the_adapter_of_the_iteration_before(tmp_path: Path):
    recipe = make_recipe(tmp_path)
    recipe["train"] |= {"lora": {"rank": 2, "alpha": 4.0}}
    config, directory = go(recipe)
    second = directory.iteration(2).stage("train").checkpoint
    assert (second / "adapter_model.safetensors").exists()
    assert not (second / "model.safetensors").exists()
    anchored = made(directory, 2, "train").inputs
    assert anchored["reference"] == anchored["policy"] == made(directory, 1, "train").digest
    assert Path(config.models.policy).exists()


def test_published_compatibility_changes_scores_and_pairs_by_name_only(tmp_path: Path):
    recipe = make_recipe(tmp_path, iterations=1)
    _, ours = go(recipe)
    _, theirs = go(recipe | {"run": str(tmp_path / "published"), "compatibility": "published"})
    assert made(ours, 1, "sample").shards == made(theirs, 1, "sample").shards
    scores = [log_ratios(read_scored(d.iteration(1).stage("score"), "es")) for d in (ours, theirs)]
    assert scores[0] != pytest.approx(scores[1], abs=1e-3)
    assert made(theirs, 1, "pair").counts["languages"]["es"]["skipped"] == {}
    assert made(theirs, 1, "pair").settings["alpha_search"] == "published-grid"

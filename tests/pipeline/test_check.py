"""The preflight: what a sound recipe looks like, and every finding that no run is needed for."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.families import MAX_POSITIONS
from tests.support.recipes import config_of, make_child, make_recipe

from crossward.pipeline import check as preflight
from crossward.pipeline.check import Finding


def findings(recipe: dict[str, Any]) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for finding in preflight.check(config_of(recipe)):
        found.setdefault(finding.subject, []).append(finding)
    return found


def test_a_sound_recipe_is_told_in_numbers(tmp_path: Path):
    recipe = make_recipe(tmp_path)
    make_child(tmp_path / "policy", tmp_path / "reference")
    recipe["evaluate"].pop("prompts")
    found = findings(recipe)
    assert {finding.level for group in found.values() for finding in group} == {"ok"}
    assert found["prompts"][0].text == "en 6, es 6"
    assert "end of turn <|im_end|>, stops on <|endoftext|>, <|im_end|>" in found["policy"][0].text
    assert found["lengths"][0].text.endswith(f"96 new ones, {MAX_POSITIONS} positions")
    assert found["run folder"][0].text.endswith("is new")


def test_prompts_that_are_trained_on_and_evaluated_are_a_warning(tmp_path: Path):
    warning = next(f for f in findings(make_recipe(tmp_path))["evaluation prompts"] if f.level == "warning")
    assert warning.text.startswith("4 evaluation prompts are also trained on, for instance")


def test_responses_that_cannot_fit_are_an_error(tmp_path: Path):
    recipe = make_recipe(tmp_path)
    recipe["sample"] |= {"max_new_tokens": MAX_POSITIONS}
    (found,) = findings(recipe)["lengths"]
    assert found.level == "error"
    assert f"the model has {MAX_POSITIONS} positions: lower sample.max_new_tokens" in found.text


def test_a_language_that_the_identifier_does_not_know_is_a_warning(tmp_path: Path):
    recipe = make_recipe(tmp_path, languages=["en", "es", "km"], pair={"language_filter": "lingua"})
    shutil.copy(tmp_path / "prompts" / "es.jsonl", tmp_path / "prompts" / "km.jsonl")
    (found,) = findings(recipe)["language filter"]
    assert found.level == "warning"
    assert "lingua cannot tell km from other languages" in found.text


@pytest.mark.parametrize(("n", "levels"), [(10, ["warning"]), (11, [])])
def test_a_choice_that_can_only_be_the_worst_is_a_warning(tmp_path: Path, n: int, levels: list[str]):
    recipe = make_recipe(tmp_path)
    recipe["sample"] |= {"n": n}
    recipe["pair"] |= {"choice": "mean-2sd"}
    assert [finding.level for finding in findings(recipe).get("pairs", [])] == levels


def test_answers_to_no_prompts_need_no_room(tmp_path: Path):
    recipe = make_recipe(tmp_path)
    recipe["evaluate"] = {"max_new_tokens": 10 * MAX_POSITIONS}
    assert findings(recipe)["lengths"][0].level == "ok"


def test_a_checkpoint_whose_size_is_not_known_is_not_called_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(preflight, "_bytes_needed", lambda config: 0.0)
    (found,) = findings(make_recipe(tmp_path))["disk"]
    assert found.text.startswith("an unknown size")


def test_too_little_disk_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    (found,) = findings(make_recipe(tmp_path))["disk"]
    assert found.level == "error"
    assert "0.0 GB free" in found.text


def test_every_mistake_is_told_at_once(tmp_path: Path):
    recipe = make_recipe(tmp_path)
    (tmp_path / "prompts" / "es.jsonl").unlink()
    recipe["models"] |= {"reference": str(tmp_path / "none")}
    levels = {subject: group[0].level for subject, group in findings(recipe).items()}
    assert (levels["prompts"], levels["reference"], levels["policy"]) == ("error", "error", "ok")


def test_concerns_of_a_colleague_are_warnings_in_three_parts(tmp_path: Path):
    (found,) = findings(make_recipe(tmp_path))["not-the-child"]
    assert found.level == "warning"
    assert found.text.startswith("models: the policy's weights are far from the reference's: ")
    for part in (" Why: ", " Try: ", " docs/troubleshooting.md#not-the-child"):
        assert part in found.text

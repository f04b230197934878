"""Concerns about a recipe before it runs."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.recipes import config_of, make_recipe

from crossward.pipeline.concerns_before import concerns_before
from crossward.pipeline.prompts import evaluation_prompts


def kinds(recipe: dict[str, Any]) -> list[str]:
    config = config_of(recipe)
    return [concern.kind for concern in concerns_before(config, evaluation_prompts(config))]


@pytest.fixture
def recipe(tmp_path: Path) -> dict[str, Any]:
    """A recipe without concerns: the reference is not on this disk, so nothing can be told of the weights."""
    made = make_recipe(tmp_path)
    made["models"] |= {"reference": "somebody/something"}
    return made


def test_a_sound_recipe_has_none(recipe: dict[str, Any]):
    assert kinds(recipe) == []


def test_two_unrelated_models(tmp_path: Path):
    recipe = make_recipe(tmp_path)
    assert kinds(recipe) == ["not-the-child"]
    # No log-ratio of the two is taken: another reward, and DPO over the policy itself.
    assert kinds(recipe | {"reward": {"kind": "given"}}) == []
    recipe["train"] |= {"reference": "initial"}
    assert kinds(recipe | {"reward": {"kind": "given"}}) == ["not-the-child"]


def test_few_responses(recipe: dict[str, Any]):
    recipe["sample"] |= {"n": 3}
    assert kinds(recipe) == ["collapsed-diversity"]
    assert kinds(recipe | {"compatibility": "published"}) == []  # which filters nothing


def test_english_is_not_evaluated(recipe: dict[str, Any]):
    recipe["evaluate"] |= {"languages": ["es"]}
    assert kinds(recipe) == ["english-regressed"]
    del recipe["evaluate"]["prompts"]
    assert kinds(recipe) == []


def test_few_prompts_for_a_judge(recipe: dict[str, Any]):
    recipe["evaluate"] |= {"judge": {"base_url": "http://localhost:1", "model": "m"}, "baseline": "reference"}
    assert kinds(recipe) == ["few-judged"]


@pytest.mark.parametrize(("answer", "fires"), [("thing " * 60, True), ("thing", False)])
def test_limits_that_reference_answers_pass(tmp_path: Path, recipe: dict[str, Any], answer: str, fires: bool):
    recipe["evaluate"]["prompts"].pop("limit")
    recipe["evaluate"] |= {"reference_answers": str(tmp_path / "{language}.json"), "max_new_tokens": 96}
    for language in ("en", "es"):
        rows = [{"id": f"p{i}", "output": answer} for i in range(6)]
        (tmp_path / f"{language}.json").write_text(json.dumps(rows), encoding="utf-8")
    assert kinds(recipe) == (["truncation", "truncation"] if fires else [])

"""Every recipe is valid and commented: what a newcomer copies must run and explain itself."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from crossward.config import Config, load
from crossward.reward_sections import RewardModel, Surprisal
from crossward.sections import ClusterReplicas, ClusterResources, Judge, LoraSection, OpenAi, Replay

ALL = sorted((Path(__file__).parent.parent / "recipes").glob("*.yaml"))
RECIPES = [path for path in ALL if not path.stem.startswith("experiment-")]  # those are tests/test_cli_experiment.py's


def test_the_recipes_that_the_readme_names_are_there():
    assert {path.stem for path in RECIPES} >= {"demo", "smollm2", "one-gpu-lora", "every-key"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_valid_and_every_key_is_commented(path: Path):
    config = load(path)
    assert config.iterations == 2
    assert config.reward.view == "crosslingual"
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    for before, line in pairwise(lines):
        sets_a_value = re.match(r" *\w+: *[^ #]", line)
        assert not sets_a_value or "#" in line or before.lstrip().startswith("# "), f"{path.name}: {line!r}"


def test_one_recipe_holds_every_key_with_its_default():
    (path,) = (path for path in RECIPES if path.stem == "every-key")
    said = yaml.safe_load(path.read_text(encoding="utf-8"))
    needed = {key: said[key] for key in ("run", "languages", "prompts")}
    needed["models"] = {key: said["models"][key] for key in ("policy", "reference")}
    assert load(path) == Config.model_validate(needed)
    assert set(_keys(said)) == set(_keys(load(path).model_dump()))


SECTIONS = [LoraSection, OpenAi, Judge, Surprisal, RewardModel, Replay, ClusterReplicas, ClusterResources]


@pytest.mark.parametrize("section", SECTIONS)
def test_sections_that_are_left_out_by_default_are_commented_elsewhere(section: type[BaseModel]):
    (path,) = (path for path in RECIPES if path.stem == "one-gpu-lora")
    text = path.read_text(encoding="utf-8")
    assert all(re.search(rf"^ *(# +)?{key}: \S+ +# \w", text, re.MULTILINE) for key in section.model_fields)


def _keys(tree: dict[str, object], before: str = "") -> Iterator[str]:
    for key, value in tree.items():
        yield before + key
        if isinstance(value, dict):
            yield from _keys(value, f"{before}{key}.")


def test_the_papers_recipe_holds_the_papers_settings():
    config = load(ALL[0].parent / "paper" / "table-2-dpo.yaml")
    assert (config.sample.n, config.sample.temperature, config.sample.top_p) == (10, 0.9, 1.0)
    assert config.sample.max_new_tokens == 2400
    assert config.languages == ("en", "es", "ru", "de", "fr")
    assert (config.reward.reference, config.pair.length_unit, config.pair.upper_bound) == ("initial", "characters", 100)
    assert (config.train.beta, config.train.nll_weight, config.train.batch_size) == (0.1, 1.0, 32)
    assert config.train.lora is None

"""Recipes: overrides, and one clear sentence for each mistake."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from crossward.config import Config, load, parse
from crossward.yaml_keys import load_yaml

MINIMAL: dict[str, Any] = {
    "run": "runs/r",
    "languages": ["en", "es"],
    "models": {"policy": "p", "reference": "r"},
    "prompts": {"path": "prompts/{language}.jsonl"},
}


def recipe(folder: Path, **changes: Any) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(MINIMAL | changes))
    return path


def test_defaults_are_the_papers():
    config = parse(dict(MINIMAL), where="test")
    assert (config.sample.n, config.sample.temperature, config.sample.max_new_tokens) == (10, 0.9, 2400)
    assert (config.train.beta, config.train.nll_weight, config.train.batch_size) == (0.1, 1.0, 32)
    assert (config.reward.view, config.reward.reference, config.train.reference) == (
        "crosslingual",
        "initial",
        "previous",
    )
    assert (config.evaluate.temperature, config.evaluate.top_p, config.evaluate.n) == (0.6, 0.9, 1)


def test_overrides_are_read_as_yaml(tmp_path: Path):
    config = load(recipe(tmp_path), ["sample.n=4", "models.policy=other", "languages=[sw, th]", "train.lora.rank=8"])
    assert (config.sample.n, config.models.policy, config.languages) == (4, "other", ("sw", "th"))
    assert config.train.lora is not None
    assert config.train.lora.rank == 8


def test_prompts_name_a_source_per_language():
    prompts = parse(MINIMAL | {"prompts": {"path": "x/{language}.csv", "english": "y.csv"}}, where="test").prompts
    assert (prompts.of("es"), prompts.of("en")) == ("x/es.csv", "y.csv")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sample": {"temperture": 1}}, r"unknown key 'sample.temperture'; did you mean 'temperature'\?"),
        ({"langages": ["en"]}, r"unknown key 'langages'; did you mean 'languages'\?"),
        ({"train": {"lora": {"rnk": 8}}}, r"unknown key 'train.lora.rnk'; did you mean 'rank'\?"),
        ({"sample": {"n": 1}}, r"sample.n: a pair needs at least two responses .* got n = 1"),
        ({"languages": ["en", "xx"]}, r"languages: unknown language code 'xx'"),
        ({"languages": ["en", "en"]}, r"got en twice"),
        ({"models": {"policy": "p"}}, r"missing key 'models.reference'"),
        ({"train": {"batch_size": 6, "micro_batch_size": 4}}, r"train: batch_size must be a multiple .* 6 and 4"),
        ({"reward": {"view": "mine"}}, r"reward.view: input should be 'crosslingual', .*'ensemble', got 'mine'"),
        ({"reward": {"view": "ensemble", "views": ["translated"]}}, r"two or more different views, got translated"),
        ({"reward": {"agreement": True}}, r"agreement is between the views of an ensemble.*'crosslingual'"),
        ({"reward": {"kind": "judge", "surprisal": {}}}, r"surprisal is taken off log-ratios.*'judge' has none"),
        ({"reward": {"kind": "judge", "view": "ensemble"}}, r"an ensemble is of log-ratios: .*'judge' takes one view"),
        ({"reward": {"kind": "reward-model"}}, r"'reward-model' and reward.reward_model .*: got one of them"),
        ({"reward": {"judge": {"base_url": "http://x/v1"}}}, r"reward.judge: name one judge"),
        ({"reward": {"judge": {"draws": 3}}}, r"3 draws at temperature 0 are all the same"),
        ({"reward": {"steering": {"line": "In Spanish."}}}, r"must say which language it asks for, as \{language\}"),
        (
            {"reward": {"steering": {"language": "target", "line": "In {language}."}}},
            r"yours by language code under lines",
        ),
        ({"reward": {"kind": "translation-likelihood"}, "languages": ["es"]}, r"English answers: add en to languages"),
        (
            {"reward": {"kind": "judge"}, "compatibility": "published"},
            r"'published' .* which has no reward.kind 'judge'",
        ),
        ({"reward": {"view": "ensemble"}, "pair": {"min_margin": "auto"}}, r"the ratings of 'ensemble' are not"),
        ({"method": "lidr"}, r"lidr compares greedy answers: set sample.n to 1 and sample.temperature to 0"),
        (
            {"reward": {"kind": "judge", "judge": {"base_url": "localhost:1", "model": "m"}}},
            r"reward.judge.base_url: .*must look like http://.*got 'localhost:1'",
        ),
        (
            {"translator": {"engine": "openai", "base_url": "localhost:1", "model": "m"}},
            r"translator.base_url: .*must look like http://.*got 'localhost:1'",
        ),
        ({"translator": {"engine": "openai", "model": "m"}}, r"'openai' and translator.base_url go together"),
        ({"translator": {"model": "m"}}, r"translator.engine 'policy' and translator.model do not go together"),
        ({"pair": {"min_characters": 9, "max_characters": 3}}, r"max_characters must be min_characters \(9\) or more"),
        (
            {
                "iterations": 1,
                "sample": {
                    "engine": "openai",
                    "openai": {"base_url": "http://x/v1", "model": "m"},
                    "repetition_penalty": 1.1,
                },
            },
            r"repetition_penalty is not in OpenAI's protocol",
        ),
        ({"reward": {"policy": "initial", "reference": "previous"}}, r"π_0 over π_0 in iteration 2, a reward of 0"),
        ({"compatibility": "published", "reward": {"surprisal": {}}}, r"which has no reward.surprisal"),
        ({"compatibility": "published", "pair": {"choice": "mean-2sd"}}, r"which has no pair.choice 'mean-2sd'"),
        (
            {"compatibility": "published", "pair": {"max_characters": 9}},
            r"which has no pair.min_characters or max_char",
        ),
        ({"compatibility": "published", "pair": {"min_margin": 1}}, r"which has no pair.min_margin 1"),
        ({"pair": {"min_margin": "auto"}, "reward": {"surprisal": {}}}, r"'auto' is .* of bare log-ratios.*penalty"),
        ({"sample": {"temperature": 0}}, r"temperature 0 gives the same response 10 times"),
        ({"pair": {"min_responses": 11}}, r"min_responses 11 is more than the 10 responses"),
        ({"method": "lidr", "languages": ["en"], "sample": {"n": 1, "temperature": 0}}, r"name one beside en"),
        ({"reward": {"kind": "translation-likelihood", "view": "translated"}}, r"as they are, not their translations"),
        ({"train": {"replay": {"path": "x", "share": 1}}}, r"train.replay.share: .*less than 1"),
        ({"pair": {"min_margin": -1}}, r"pair.min_margin: expected a number of nats, 0 or more, or 'auto' .*got -1"),
        ({"pair": {"min_margin": "car"}}, r"pair.min_margin: expected a number of nats.*got 'car'"),
        ({"pair": {"min_margin": "auto"}, "score": {"noise_sample": 0}}, r"'auto'.*score.noise_sample"),
    ],
)
def test_mistakes_are_one_sentence(changes: dict[str, Any], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        parse(MINIMAL | changes, where="recipe.yaml")


def test_files_that_are_no_recipe(tmp_path: Path):
    with pytest.raises(ValueError, match="does not exist"):
        load(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1")
    with pytest.raises(ValueError, match="not valid YAML"):
        load(broken)
    broken.write_text("- 1")
    with pytest.raises(ValueError, match="got list"):
        load(broken)


def test_a_key_that_comes_twice_is_refused_and_an_anchor_is_not(tmp_path: Path):
    path = recipe(tmp_path)
    path.write_text(path.read_text() + "seed: 1\nseed: 2\n")
    with pytest.raises(ValueError, match=r"line \d+: the key 'seed' comes a second time"):
        load(path)
    with pytest.raises(ValueError, match=r"override .*: line 1: the key 'n' comes a second time"):
        load(recipe(tmp_path), ["sample={n: 2, n: 3}"])
    merged = "x: {y: &a {<<: &b {k: 1}, k: 2}}\nz: {<<: *a, <<: *b, k: 3}\n"
    assert load_yaml(merged) == {"x": {"y": {"k": 2}}, "z": {"k": 3}}


@pytest.mark.parametrize("override", ["sample.n", "=3", "run.x=1"])
def test_bad_overrides(tmp_path: Path, override: str):
    with pytest.raises(ValueError, match="override"):
        load(recipe(tmp_path), [override])


def test_the_resolved_config_reads_back_as_itself():
    config = parse(dict(MINIMAL), where="test")
    assert Config.model_validate(yaml.safe_load(yaml.safe_dump(config.model_dump(mode="json")))) == config


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("evaluate.judge.api_key sk-SECRET1234", "override 'evaluate.judge.api_key' must look like"),
        (
            'evaluate.judge.api_key_env="sk-SECRET1234',
            "override 'evaluate.judge.api_key_env': its value is none of YAML",
        ),
        ("sk-SECRET1234", "an override .* must look like"),
        ("run.x=sk-SECRET1234", "override 'run.x': 'run' is a value"),
        ("cluster.address=me:SECRET1234@host:6379", r"cluster\.address: the address holds a user or a password"),
        ("cluster.address=ray://me:SECRET1234@host:6379", r"cluster\.address: the address holds a user or a password"),
    ],
)
def test_an_override_that_is_wrong_is_told_without_its_value(tmp_path: Path, override: str, told: str):
    with pytest.raises(ValueError, match=told) as caught:
        load(recipe(tmp_path), [override])
    assert "SECRET" not in str(caught.value)

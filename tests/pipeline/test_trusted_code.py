"""Code that comes with a model runs for the models that the recipe names, and for no other."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import transformers.dynamic_module_utils
from tests.engines.test_reward_model import make_reward_model
from tests.support.command import call
from tests.support.families import make_family
from tests.support.planted import plant_code
from tests.support.recipes import config_of
from tests.support.seq2seq import make_seq2seq

from crossward.config import Config
from crossward.engines.lm_eval_tasks import open_model
from crossward.engines.models import load_model, read_config
from crossward.engines.protocols import ModelSpec
from crossward.engines.reward_model import RewardModelRater
from crossward.engines.seq2seq_translator import Seq2SeqTranslator
from crossward.engines.tokens import load_tokens
from crossward.pipeline.assemble import Engines
from crossward.pipeline.requirements import say_trusted
from crossward.pipeline.unpack import judge_settings

MODELS = ("policy", "reference", "reward", "judge", "translator", "evaluate")
LOADERS: dict[str, Callable[[ModelSpec], Any]] = {
    "model": load_model,
    "tokens": load_tokens,
    "reward model": RewardModelRater,
    "lm-eval": lambda spec: open_model(spec, batch_size=1),
    "translator": lambda spec: Seq2SeqTranslator(spec, name="t", identity="t")._open(),
}


@pytest.fixture(autouse=True)
def _code_is_kept_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))


def with_code(folder: Path, mark: Path) -> Path:
    """A whole model whose configuration and tokenizer name a module of its own."""
    module = f"own_{mark.name}"  # Python would not import a second one of the same name
    plant_code(folder / f"{module}.py", mark, ("OwnConfig", "OwnModel", "OwnTokenizer"))
    own = f"{module}.Own"
    kinds = ("AutoModelForCausalLM", "AutoModelForSequenceClassification", "AutoModelForSeq2SeqLM")
    maps: dict[str, dict[str, Any]] = {
        "config.json": {"AutoConfig": f"{own}Config", **dict.fromkeys(kinds, f"{own}Model")},
        "tokenizer_config.json": {"AutoTokenizer": [f"{own}Tokenizer", f"{own}Tokenizer"]},
    }
    for name, own_classes in maps.items():
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | {"auto_map": own_classes}))
    return folder


def recipe_with(tmp_path: Path, trusted: bool | list[str]) -> Config:
    for name in MODELS:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text('{"model_type": "qwen2"}')
        (folder / "model.safetensors").write_bytes(b"")
        (folder / "tokenizer_config.json").write_text("{}")
        with_code(folder, tmp_path / f"mark_{name}")
    path = {name: str(tmp_path / name) for name in MODELS}
    named = trusted if isinstance(trusted, bool) else [path[name] for name in trusted]
    return config_of(
        {
            "run": str(tmp_path / "run"),
            "languages": ["en", "es"],
            "models": {"policy": path["policy"], "reference": path["reference"], "trust_remote_code": named},
            "prompts": {"path": "prompts/{language}.jsonl"},
            "reward": {
                "kind": "reward-model",
                "reward_model": {"path": path["reward"]},
                "judge": {"checkpoint": path["judge"]},
            },
            "translator": {"engine": "seq2seq", "model": path["translator"]},
            "evaluate": {
                "prompts": {"path": "prompts/{language}.jsonl"},
                "baseline": "reference",
                "judge": {"checkpoint": path["evaluate"]},
            },
            "runtime": {"device": "cpu"},
        }
    )


def marked(tmp_path: Path, config: Config) -> set[str]:
    """The models whose code ran when everything that the recipe names was looked at."""
    engines = Engines(config)
    judge = judge_settings(config).checkpoint
    assert judge is not None
    specs = [judge, *(engines.model_spec(str(tmp_path / name)) for name in MODELS if name != "evaluate")]
    for spec in specs:
        for look in (read_config, load_tokens):
            with suppress(Exception):  # the planted classes are no configuration and no tokenizer
                look(spec)
    return {path.name.removeprefix("mark_") for path in tmp_path.glob("mark_*")}


@pytest.mark.parametrize("trusted", [False, True, *([name] for name in MODELS), []])
def test_code_runs_for_the_named_models_alone(trusted: bool | list[str], tmp_path: Path):
    config = recipe_with(tmp_path, trusted)
    expected = {"policy", "reference"} if trusted is True else set(trusted or ())
    assert marked(tmp_path, config) == expected
    said = say_trusted(config)
    assert all(str(tmp_path / name) in said for name in expected)
    assert ("MAY RUN" in said) == bool(expected)


def test_a_checkpoint_that_the_run_trained_has_the_policys_trust(tmp_path: Path):
    engines = Engines(recipe_with(tmp_path, ["reward"]))
    assert not engines.model("run/iteration-1/train/checkpoint", None, fingerprint="f").spec.trust_remote_code
    engines = Engines(config_of(engines.config.model_dump() | {"models": {**engines.config.models.model_dump(),
                      "trust_remote_code": [engines.config.models.policy]}}))  # fmt: skip
    assert engines.model("run/iteration-1/train/checkpoint", None, fingerprint="f").spec.trust_remote_code


def test_a_trusted_name_that_no_key_has_is_refused(tmp_path: Path):
    config = recipe_with(tmp_path, False)
    tree = config.model_dump(mode="json")
    tree["models"]["trust_remote_code"] = ["someone/else"]
    with pytest.raises(ValueError, match="trust_remote_code names 'someone/else', which no other key does"):
        config_of(tree)


@pytest.mark.parametrize("loader", LOADERS)
def test_no_loader_runs_code_by_itself(loader: str, tmp_path: Path):
    folder = tmp_path / "model"
    if loader == "translator":
        make_seq2seq("m2m", folder)
    elif loader == "reward model":
        make_reward_model("chatml", folder)
    else:
        make_family("chatml", folder)
    with_code(folder, tmp_path / f"mark_{loader.replace(' ', '_').replace('-', '_')}")
    LOADERS[loader](ModelSpec(path=str(folder), dtype="float32", device="cpu"))
    assert not list(tmp_path.glob("mark_*"))


def test_the_flag_is_said_loudly(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    models = ("--policy", tmp_path / "p", "--reference", tmp_path / "r")
    called = call(capsys, "score", *models, "--input", "i", "--output", "o", "--trust-remote-code")
    assert called.code == 2
    assert "MAY RUN on this machine" in called.err

"""No path to a model's weights unpickles anything: planted pickles leave a mark where they do."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from tests.support.families import make_family
from tests.support.planted import plant_pickle
from tests.support.seq2seq import make_seq2seq
from tests.support.training import TRAINING, make_pairs

from crossward.engines import models
from crossward.engines.lm_eval_tasks import open_model
from crossward.engines.models import base_spec, load_model
from crossward.engines.protocols import ModelSpec, VllmOptions
from crossward.engines.reward_model import RewardModelRater
from crossward.engines.seq2seq_translator import Seq2SeqTranslator
from crossward.engines.state_files import Whole, names_in, sums_of, write_whole
from crossward.engines.tokens import load_tokens
from crossward.engines.trl_trainer import TrlTrainer
from crossward.engines.vllm_engine import VllmEngine, vllm_problem

NAMES = ("pytorch_model.bin", "adapter_model.bin", "model.pt", "model.pth", "optimizer.pt", "training_args.bin")


def spec_of(folder: Path) -> ModelSpec:
    return ModelSpec(path=str(folder), dtype="float32", device="cpu")


def open_vllm(spec: ModelSpec) -> Any:
    if vllm_problem("cpu"):
        pytest.skip("vLLM is not installed")
    return VllmEngine(spec, options=VllmOptions(cpu_cache_gib=0.125))


LOADERS: dict[str, Callable[[ModelSpec], Any]] = {
    "model": load_model,
    "reward model": RewardModelRater,
    "lm-eval": lambda spec: open_model(spec, batch_size=1),
    "vLLM": open_vllm,
    "translator": lambda spec: Seq2SeqTranslator(spec, name="t", identity="t").translate(
        ["a"], source="en", target="es"
    ),
}


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_family("chatml", tmp_path_factory.mktemp("chat"))


@pytest.fixture(scope="module")
def translation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_seq2seq("m2m", tmp_path_factory.mktemp("translation"))


def planted(folder: Path, tmp_path: Path, *names: str) -> Path:
    """A copy of a model with pickles of these names in it."""
    copied = Path(shutil.copytree(folder, tmp_path / "model"))
    for name in names:
        plant_pickle(copied / name, tmp_path / "mark")
    return copied


def test_the_planted_pickle_would_leave_its_mark(tmp_path: Path):
    pickle.loads(plant_pickle(tmp_path / "weights.bin", tmp_path / "mark").read_bytes())
    assert (tmp_path / "mark").is_dir()


@pytest.mark.parametrize("loader", LOADERS)
def test_weights_that_are_only_pickled_are_refused(loader: str, chat: Path, translation: Path, tmp_path: Path):
    folder = planted(translation if loader == "translator" else chat, tmp_path, "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(
        ValueError, match=r"only pytorch_model\.bin: .*crossward convert .*model --output FOLDER"
    ) as caught:
        LOADERS[loader](spec_of(folder))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("loader", ["model", "lm-eval", "translator"])
def test_pickles_beside_safetensors_are_not_touched(loader: str, chat: Path, translation: Path, tmp_path: Path):
    folder = planted(translation if loader == "translator" else chat, tmp_path, *NAMES)
    LOADERS[loader](spec_of(folder))
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("loader", ["model", "reward model", "lm-eval", "translator"])
def test_an_unfit_safetensors_file_does_not_open_the_way_to_a_pickle(
    loader: str, chat: Path, translation: Path, tmp_path: Path
):
    folder = planted(translation if loader == "translator" else chat, tmp_path, *NAMES)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"id2label": {"0": "reward"}}))
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    with pytest.raises(ValueError, match=r"cannot be loaded from safetensors"):
        LOADERS[loader](spec_of(folder))
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("own_config", [True, False])
def test_pickled_adapters_are_refused(loader: str, own_config: bool, chat: Path, tmp_path: Path):
    """An adapter's folder; or a model's with an adapter in it, which transformers would lay over it by itself."""
    adapter = tmp_path / "adapter"
    if own_config:
        shutil.copytree(chat, adapter)
    adapter.mkdir(exist_ok=True)
    config = {"peft_type": "LORA", "base_model_name_or_path": str(chat), "task_type": "CAUSAL_LM", "r": 4}
    (adapter / "adapter_config.json").write_text(str(config).replace("'", '"'))
    for name in ("adapter_model.bin", "adapter_model.pt"):
        plant_pickle(adapter / name, tmp_path / "mark")
    with pytest.raises(
        ValueError, match=r"no adapter_model\.safetensors \(but adapter_model\.bin\): .*crossward convert"
    ):
        LOADERS[loader](spec_of(adapter))
    assert not (tmp_path / "mark").exists()


def test_of_an_adapter_on_the_hub_pickles_are_not_even_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[list[str]] = []

    def snapshot(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr(models, "snapshot_download", snapshot)
    monkeypatch.setattr(models, "find_adapter_config_file", lambda *_, **__: "adapter_config.json")
    with pytest.raises(
        ValueError, match=r"adapter someone/adapter has no adapter_model\.safetensors: .*crossward convert"
    ):
        base_spec(spec_of(Path("someone/adapter")))
    files = ["adapter_config.json", "adapter_model.bin", "adapter_model.safetensors", "pytorch_model.bin", "x.py"]
    fetched = list(huggingface_hub.utils.filter_repo_objects(files, allow_patterns=asked[0]))
    assert fetched == ["adapter_config.json", "adapter_model.safetensors"]


def test_a_training_that_goes_on_unpickles_no_state_of_a_stranger(chat: Path, tmp_path: Path):
    """The folder of a training that was cut, with optimiser, scheduler and random states that someone put there."""
    spec = spec_of(chat)
    tokens = load_tokens(spec)
    pairs = make_pairs(spec, tokens, n=2, shift=2.0)
    state = tmp_path / "output.work" / "checkpoint-1"
    shutil.copytree(chat, state)
    trainer_state = '{"global_step": 1, "epoch": 0.1, "log_history": [], "train_batch_size": 1, "max_steps": 9}'
    (state / "trainer_state.json").write_text(trainer_state)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "scaler.pt", "training_args.bin"):
        plant_pickle(state / name, tmp_path / "mark")
    write_whole(state, Whole(sharding="none", processes=1, files=sums_of(state, names_in(state))))  # as a stranger can
    trainer = TrlTrainer(spec, tokens)
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        trainer.train(pairs, TRAINING, output=tmp_path / "output", metrics=tmp_path / "metrics.jsonl")
    assert not (tmp_path / "mark").exists()

"""Which engine a recipe gets, that the run remembers it, and a run whose policy is behind a server."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.chat_server import Reply, Request, chat_server, choices
from tests.support.command import call
from tests.support.recipes import config_of, make_recipe, write_prompts, write_recipe

from crossward.config import Config
from crossward.engines.vllm_engine import INSTALL
from crossward.pipeline import choose
from crossward.pipeline.assemble import Engines
from crossward.pipeline.check import Finding
from crossward.pipeline.check import check as preflight
from crossward.pipeline.iterate import run
from crossward.pipeline.progress import Silent
from crossward.store.run_dir import RunDir


@pytest.fixture(autouse=True)
def straight_to_the_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def no_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "vllm_problem", lambda device: INSTALL)


def engines_of(config: Config) -> dict[str, Finding]:
    return {f.subject: f for f in preflight(config) if f.subject.startswith("engine of ")}


def recipe_with(folder: Path, *, head_size: int = 32, **sample: Any) -> dict[str, Any]:
    recipe = make_recipe(folder, head_size=head_size)
    return recipe | {"sample": recipe["sample"] | sample}


def served(server: Any, **more: Any) -> dict[str, Any]:
    return {"engine": "openai", "openai": {"base_url": server.base_url, "model": "served", "attempts": 2, **more}}


def test_auto_is_vllm_where_it_is_installed_for_the_device(tmp_path: Path):
    config = config_of(recipe_with(tmp_path, engine="auto"))
    assert Engines(config).sample_engine("sample") == {"engine": "vllm"}
    found = engines_of(config)
    assert found["engine of sample"].text == found["engine of evaluate"].text == "vllm, chosen by auto"
    assert found["engine of score"].text == "transformers"


def test_auto_is_transformers_for_a_model_that_vllm_does_not_take(tmp_path: Path):
    """No attention of vLLM's on a CPU has heads of 8."""
    config = config_of(recipe_with(tmp_path, head_size=8, engine="auto"))
    assert Engines(config).sample_engine("sample") == {"engine": "transformers"}


@pytest.mark.usefixtures("no_vllm")
def test_auto_is_transformers_elsewhere_and_vllm_by_name_is_an_error(tmp_path: Path):
    config = config_of(recipe_with(tmp_path, engine="auto"))
    assert Engines(config).sample_engine("evaluate") == {"engine": "transformers"}
    assert engines_of(config)["engine of sample"].text == "transformers, chosen by auto"
    recipe = recipe_with(tmp_path / "named", engine="vllm") | {"score": {"engine": "vllm"}}
    for finding in engines_of(config_of(recipe)).values():
        assert (finding.level, finding.text) == ("error", INSTALL)


def test_a_resume_under_another_engine_stops_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The recipe says auto both times; vLLM came in between."""
    recipe = recipe_with(tmp_path, engine="auto") | {"iterations": 1}
    recipe["evaluate"].pop("prompts")
    monkeypatch.setattr(choose, "vllm_problem", lambda device: INSTALL)
    path = tmp_path / "run" / "iteration-1" / "sample" / "stage.json"
    run(config_of(recipe), progress=Silent())
    assert json.loads(path.read_text())["settings"]["engine"] == "transformers"
    monkeypatch.setattr(choose, "vllm_problem", lambda device: None)
    with pytest.raises(ValueError, match='setting engine was "transformers", now "vllm": use another run directory'):
        run(config_of(recipe), progress=Silent())


def answering(request: Request, before: int) -> Reply:
    """Texts of many lengths, so that there is a best and a worst."""
    return choices(*("Hola " * (1 + (request["seed"] + index) % 7) for index in range(request["n"])))


def test_one_iteration_of_a_policy_behind_a_server(tmp_path: Path):
    with chat_server(answering) as server:
        recipe = recipe_with(tmp_path, **served(server)) | {"iterations": 1}
        recipe["evaluate"].pop("prompts")
        config = config_of(recipe)
        finding = engines_of(config)["engine of sample"]
        assert finding.text == f"openai: served at {server.base_url}/chat/completions"
        directory: RunDir = run(config, progress=Silent())
        assert len(server.requests) == 12
    stage = json.loads((directory.root / "iteration-1" / "sample" / "stage.json").read_text())
    assert stage["settings"]["engine"] == "openai"
    assert stage["settings"]["model"] == "served"
    assert (directory.root / "iteration-1" / "train" / "checkpoint" / "model.safetensors").exists()


def test_a_run_whose_server_fails_asks_again_only_for_what_it_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    left = [5]

    def failing(request: Request, before: int) -> Reply:
        left[0] -= 1
        return answering(request, before) if left[0] >= 0 else Reply(status=503, body="down")

    recipe = recipe_with(tmp_path) | {"iterations": 1}  # 12 prompts, two a shard
    recipe["evaluate"].pop("prompts")
    stage = tmp_path / "run" / "iteration-1" / "sample"
    with chat_server(failing) as server:
        endpoint = served(server, attempts=1, concurrency=1)
        path = write_recipe(tmp_path, recipe | {"sample": recipe["sample"] | endpoint})
        called = call(capsys, "run", path)
        assert called.code == 2
        assert "HTTP 503: down; finished prompts are kept: run the same command" in called.err
        assert len(sorted(stage.rglob("*.parquet"))) == 2
        assert (stage / "answers.jsonl").read_text(encoding="utf-8").count("\n") == 5
        left[0], asked = 1000, len(server.requests)
        called = call(capsys, "run", path)
        assert called.code == 0, called.err
        assert len(server.requests) - asked == 7
    assert not (stage / "answers.jsonl").exists()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sample": {"engine": "openai"}}, "sample.openai .base_url, model. go together"),
        ({"sample": {"openai": {"base_url": "http://x/v1", "model": "m"}}}, "go together"),
        ({"sample": {"engine": "openai", "openai": {"base_url": "http://x/v1", "model": "m"}}}, "set iterations to 1"),
        ({"sample": {"engine": "given"}}, "'given' serves one policy.* set iterations to 1"),
        ({"score": {"engine": "vllm"}, "compatibility": "published"}, "leave score.engine at transformers"),
        ({"sample": {"engine": "vlm"}}, "'transformers', 'vllm', 'openai' or 'given'"),
        ({"runtime": {"vllm": {"memory": 1}}}, "unknown key 'runtime.vllm.memory'; did you mean 'memory_share'"),
    ],
)
def test_engines_that_do_not_fit_are_one_sentence(tmp_path: Path, changes: dict[str, Any], sentence: str):
    minimal = {"run": "r", "languages": ["en"], "models": {"policy": "p", "reference": "r"}, "prompts": {"path": "x"}}
    with pytest.raises(ValueError, match=sentence):
        config_of(minimal | changes)


def test_the_verb_asks_a_server_without_any_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    prompts, output = write_prompts(tmp_path / "prompts"), tmp_path / "groups.jsonl"
    arguments = ("sample", "--input", prompts / "en.jsonl", "--language", "en", "--output", output, "--n", 2)
    with chat_server(answering) as server:
        called = call(capsys, *arguments, "--engine", "openai", "--base-url", server.base_url, "--model", "served")
    assert called.code == 0, called.err
    rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert [len(row["responses"]) for row in rows] == [2] * 6
    with chat_server(lambda request, before: Reply(status=503, body="down")) as server:
        lost = ("--engine", "openai", "--base-url", server.base_url, "--model", "served", "--attempts", 1)
        called = call(capsys, *arguments[:6], tmp_path / "lost.jsonl", *lost)
    assert called.code == 2
    assert "in 1 requests; the last: HTTP 503" in called.err
    for wrong, sentence in (
        (("--engine", "openai"), "--engine openai needs a server"),
        (("--base-url", "http://x/v1"), "they need --engine openai"),
        (("--engine", "transformers"), "name the model to sample from with --policy"),
    ):
        called = call(capsys, *arguments[:6], tmp_path / "other.jsonl", *wrong)
        assert called.code == 2
        assert sentence in called.err

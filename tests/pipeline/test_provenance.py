"""Which keys may change in the middle of a run: a server moves three times, each time within another stage."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.chat_server import Reply, Request, chat_server, choices
from tests.support.recipes import config_of, make_recipe

from crossward.pipeline.iterate import run
from crossward.pipeline.progress import Silent
from crossward.store import manifest
from crossward.store.run_dir import RunDir

KEYS = ("CROSSWARD_TEST_KEY_A", "CROSSWARD_TEST_KEY_B")


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in KEYS:
        monkeypatch.setenv(name, "secret")


def until(refused: str, after: int, seen: Counter[str]) -> Callable[[Request, int], Reply]:
    """Answers policy, translator and judge; after so many requests to the model `refused` it knows no key any more."""

    def answer(request: Request, before: int) -> Reply:
        model, asked = request["model"], request["messages"][0]["content"]
        seen[model] += 1
        if model == refused and seen[model] > after:
            return Reply(status=401, body={"error": "who are you?"})
        match model:
            case "policy":
                return choices(*(f"{asked[:20]} {request['seed'] % 97} {index}" for index in range(request["n"])))
            case "translator":
                return choices(f"<translated>the {len(asked)} {asked[-4:].strip()}</translated>")
            case _:
                return choices(f"Score: {sum(map(ord, asked)) % 6}")

    return answer


def recipe_at(folder: Path, base_url: str, patience: int) -> dict[str, Any]:
    """Everything is asked of one server, each time with another patience."""
    server = {
        "base_url": base_url,
        "api_key_env": KEYS[patience % 2],
        "concurrency": 1 + patience,
        "timeout_s": 30.0 + patience,
    }
    judge = server | {"model": "judge", "attempts": 1 + patience}
    recipe = make_recipe(
        folder,
        iterations=1,
        reward={"kind": "judge", "view": "translated", "judge": judge},
        translator=server | {"engine": "openai", "model": "translator", "request_attempts": 1 + patience},
        evaluate={"max_new_tokens": 8},
    )
    recipe["sample"] |= {"engine": "openai", "openai": server | {"model": "policy", "attempts": 1 + patience}}
    return recipe


def test_a_server_may_move_and_be_asked_otherwise_within_every_stage(tmp_path: Path):
    for patience, (refused, after) in enumerate([("policy", 4), ("translator", 15), ("judge", 15)]):
        with chat_server(until(refused, after, Counter())) as server:
            recipe = recipe_at(tmp_path, server.base_url, patience)
            with pytest.raises(ValueError, match=r"refuses the request .* HTTP 401"):
                run(config_of(recipe), progress=Silent())
    with chat_server(until("nobody", 0, seen := Counter())) as server:
        recipe = recipe_at(tmp_path, server.base_url, 3)
        run(config_of(recipe), progress=Silent())
    here = RunDir(tmp_path / "run").iteration(1)
    assert (seen["policy"], seen["translator"]) == (0, 0)
    assert 0 < seen["judge"] < 48
    for stage in ("sample", "translate", "rate", "train"):
        assert manifest.read(here.stage(stage)) is not None

    for section, key, value in (
        ("translator", "model", "another"),
        ("translator", "attempts", 2),
        ("sample", "openai", recipe["sample"]["openai"] | {"model": "another"}),
        ("reward", "judge", recipe["reward"]["judge"] | {"model": "another"}),
    ):
        changed = recipe | {section: recipe[section] | {key: value}}
        with pytest.raises(ValueError, match=rf"another config: {section}\.{key}"):
            run(config_of(changed), progress=Silent())

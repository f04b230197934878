"""Keys are planted everywhere, a run is made, looked at and taken along; the keys are hunted in all that is left."""

import base64
import contextlib
import os
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.support.chat_server import Reply, Request, chat_server
from tests.support.command import Called, call
from tests.support.judge_server import fair
from tests.support.mt_bench import arguments, write_mt_bench
from tests.support.recipes import make_recipe, write_recipe

from crossward.engines import endpoint

KEYS = {
    "PLANTED_JUDGE_KEY": "planted+judge/key=0123456789",
    "HF_TOKEN": "hf_PlantedTokenPlantedTokenPlantedTo",
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "OPENAI_API_KEY": "sk-planted-openai-0123456789abcdef",
}
IN_AN_ADDRESS = "planted-in-an-address-98765"


@pytest.fixture(autouse=True)
def _planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name, key in KEYS.items():
        monkeypatch.setenv(name, key)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


def shapes(secret: str) -> list[bytes]:
    """The secret as it may be written: plain, for URLs, in base64 at each of its three places."""
    found = [secret.encode(), quote(secret, safe="").encode(), quote(secret).encode(), secret[:12].encode()]
    for before in range(3):
        whole = base64.b64encode(b"x" * before + secret.encode())
        found.append(whole[4 : len(whole) - 4])
    return found


def hunt(text: bytes, where: str, secrets: list[str]) -> None:
    for secret in secrets:
        for shape in shapes(secret):
            assert shape not in text, f"{where} holds a planted key"


def hunt_everywhere(folder: Path, said: list[Called]) -> int:
    secrets = [*KEYS.values(), IN_AN_ADDRESS]
    for called in said:
        hunt((called.out + called.err).encode(), "what was printed", secrets)
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in files:
        hunt(path.read_bytes(), str(path), secrets)
        hunt(str(path).encode(), "a file's name", secrets)
    return len(files)


def failing(request: Request, before: int) -> Reply:
    """Errors of many kinds that repeat the header, plain and encoded, between good answers."""
    key = KEYS["PLANTED_JUDGE_KEY"]
    header = f"Authorization: Bearer {key}"
    match before % 6:
        case 0:
            return Reply(body=f"<html>{header}</html>", status=500, headers={"retry-after": "0"})
        case 1:
            return Reply(body={"error": {"message": header}}, status=429, headers={"retry-after": "0"})
        case 2:
            return Reply(body=f"no JSON: {quote(header, safe='')}", headers={"retry-after": "0"})
        case 3:
            return Reply(body={"error": base64.b64encode(key.encode()).decode()}, status=400)
        case _:
            return fair(request, before)


def refusing(request: Request, before: int) -> Reply:
    return Reply(body={"error": {"message": f"Incorrect API key: {KEYS['PLANTED_JUDGE_KEY']}"}}, status=401)


def test_planted_keys_are_nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    recipe = make_recipe(tmp_path / "models", iterations=1)
    recipe["run"] = str(tmp_path / "cwd" / "run")
    judge = {"model": "judge", "attempts": 2, "api_key_env": "PLANTED_JUDGE_KEY"}
    recipe["evaluate"] |= {"judge": judge, "baseline": "reference", "length_control": "none"}
    said: list[Called] = []
    with chat_server(refusing) as server:
        judge["base_url"] = server.base_url
        path = write_recipe(tmp_path / "cwd", recipe)
        said.append(call(capsys, "check", path))
        said.append(call(capsys, "run", path))
    assert (said[-1].code, "HTTP 401" in said[-1].sentence) == (2, True)
    assert server.authorizations[0] == f"Bearer {KEYS['PLANTED_JUDGE_KEY']}", "the key was used"
    with chat_server(failing) as server:
        address = f"evaluate.judge.base_url={server.base_url}"
        said.append(call(capsys, "--progress", "json", "run", path, address))
        said.append(call(capsys, "run", path, address))
    assert [called.code for called in said[-2:]] == [0, 0]
    run = recipe["run"]
    policy, reference = recipe["models"]["policy"], recipe["models"]["reference"]
    said += [
        call(capsys, "report", run, "--output", tmp_path / "cwd" / "report.html"),
        call(capsys, "show", run),
        call(capsys, "show", run, "--json"),
        call(capsys, "runs", tmp_path / "cwd"),
        call(capsys, "export", run, "--to", "dataset", "--output", tmp_path / "cwd" / "dataset"),
        call(capsys, "export", run, "--to", "model", "--output", tmp_path / "cwd" / "model"),
        call(capsys, "score", "--policy", policy, "--reference", reference, "--input", "none.jsonl", "--output", "o"),
    ]
    assert hunt_everywhere(tmp_path / "cwd", said) > 20


HEADER = f"Authorization: Bearer {KEYS['PLANTED_JUDGE_KEY']}"
LEAKS = {
    "an error": Reply(body=f"<p>{HEADER}</p>", status=500),
    "a refusal": Reply(body={"error": HEADER}, status=400),
    "a refusal of all": Reply(body={"error": quote(HEADER, safe="")}, status=401),
    "no JSON": Reply(body=HEADER),
    "behind spaces": Reply(body=" " * 1985 + KEYS["PLANTED_JUDGE_KEY"]),
    "a content type": Reply(body="no JSON", headers={"content-type": HEADER}),
    "no choices": Reply(body={"choices": HEADER}),
    "an end": Reply(body={"choices": [{"message": {"content": ""}, "finish_reason": HEADER}]}),
    **{f"base64 {n}": Reply(body=base64.b64encode(b"x" * n + HEADER.encode()).decode(), status=500) for n in range(3)},
}


@pytest.mark.parametrize("verb", ["sample", "prompts", "evaluate", "mt-bench"])
def test_whoever_is_asked_a_key_that_comes_back_is_not_kept(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Samplers, translators and judges that give up: what they say why, and what they write down of it."""
    monkeypatch.setattr(endpoint, "TELL_EVERY_S", 0.0)
    monkeypatch.setattr(endpoint.ChatEndpoint, "_pause", lambda *_: 0.0)
    cwd = tmp_path / "cwd"
    for name in "ab":
        (cwd / f"{name}.jsonl").write_text(f'{{"id": "1", "instruction": "Say it.", "output": "{name}"}}\n')
    files, leak = write_mt_bench(cwd), [Reply()]
    with chat_server(lambda request, before: leak[0]) as server:
        asked = ["--base-url", server.base_url, "--model", "m", "--api-key-env", "PLANTED_JUDGE_KEY"]
        judged = [word.replace("--", "--judge-") for word in asked]
        words = {
            "sample": ["--input", "a.jsonl", "--language", "en", "--engine", "openai", *asked],
            "prompts": ["--input", "a.jsonl", "--languages", "es", "--engine", "openai", "--requests", 2, *asked],
            "evaluate": ["--answers", "a.jsonl", "--name", "a", "--baseline", "b.jsonl", "--baseline-name", "b",
                         "--language", "en", *judged],
            "mt-bench": [*arguments(files, server.base_url, cwd, "--answers", files / "a" / "{language}.jsonl")[1:],
                         *judged],
        }[verb]  # fmt: skip
        for number, (name, leak[0]) in enumerate(LEAKS.items()):
            before = len(server.authorizations)
            output = cwd / f"{number}/{{language}}" if verb == "prompts" else cwd / str(number)
            called = call(capsys, verb, *words, "--output", output)
            assert f"Bearer {KEYS['PLANTED_JUDGE_KEY']}" in server.authorizations[before:], f"{name}: {called.err}"
            assert called.code in (0, 2), called.err
            hunt_everywhere(cwd, [called])


@pytest.mark.parametrize("key", ["base_url", "api_key_env"])
def test_a_key_in_the_wrong_place_is_refused_and_not_repeated(key: str, tmp_path: Path, capsys):
    recipe = make_recipe(tmp_path / "models", iterations=1)
    recipe["run"] = str(tmp_path / "cwd" / "run")
    server = {"base_url": "http://127.0.0.1:9/v1", "model": "judge"}
    recipe["evaluate"] |= {"judge": server, "baseline": "reference"}
    wrong = {
        "base_url": [f"https://me:{IN_AN_ADDRESS}@host/v1", f"https://host/v1?key={IN_AN_ADDRESS}",
                     f"ftp://me:{IN_AN_ADDRESS}@host:x", f"https://host/v1#{IN_AN_ADDRESS}"],
        "api_key_env": [KEYS["OPENAI_API_KEY"], KEYS["HF_TOKEN"], KEYS["WANDB_API_KEY"], f"Bearer {IN_AN_ADDRESS}"],
    }[key]  # fmt: skip
    said: list[Called] = []
    for value in wrong:
        server[key] = value
        path = write_recipe(tmp_path / "models", recipe)
        said += [call(capsys, verb, path) for verb in ("check", "run")]
        address = value if key == "base_url" else "http://127.0.0.1:9/v1"
        judged = ["--judge-base-url", address, "--judge-model", "m"]
        judged += ["--judge-api-key-env", value] if key == "api_key_env" else []
        files = ("--answers", "a", "--baseline", "b", "--language", "en", "--output", "out")
        said.append(call(capsys, "evaluate", *files, *judged))
    assert {called.code for called in said} == {2}
    hunt_everywhere(tmp_path / "cwd", said)


def test_the_hunt_finds_what_is_there(tmp_path: Path):
    key = KEYS["PLANTED_JUDGE_KEY"]
    for text in (key, quote(key, safe=""), base64.b64encode(f"ab {key} cd".encode()).decode()):
        (tmp_path / "cwd" / "leak").write_text(f"before {text} behind")
        with pytest.raises(AssertionError, match="holds a planted key"):
            hunt_everywhere(tmp_path / "cwd", [])
    with contextlib.suppress(FileNotFoundError):
        os.remove(tmp_path / "cwd" / "leak")
    with pytest.raises(AssertionError):
        hunt_everywhere(tmp_path / "cwd", [Called(code=0, out="", err=f"key {key}")])

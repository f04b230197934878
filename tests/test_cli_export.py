"""`crossward export` and `crossward push` as a shell calls them; the hub is one on the loopback."""

import json
import socket
from pathlib import Path

import huggingface_hub.constants
import pytest
from tests.support.command import call
from tests.support.exported import HOSTILE, made_run
from tests.support.hub_server import Hub, hub_server

from crossward.store.run_dir import RunDir

TOKEN = "hf_notForYourEyes"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return made_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(autouse=True)
def a_token_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def use(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)


def test_export_prints_counts_files_and_how_to_read_them(
    run: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "out"
    called = call(capsys, "export", run.root, "--to", "csv", "--output", out, "--language", "es")
    assert called.code == 0
    for told in ("es", str(len(HOSTILE)), "tie 1, truncated 1", "pairs.csv", "read it with: pandas.read_csv("):
        assert told in called.out
    assert "--guard-formulas" in called.err
    again = call(capsys, "export", run.root, "--to", "csv", "--output", out, "--language", "es", "--json")
    summary = json.loads(again.out)
    assert summary["languages"]["es"]["n_pairs"] == len(HOSTILE)
    assert summary["files"] == {"pairs.csv": (out / "pairs.csv").stat().st_size}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nowhere",), "nowhere does not exist: name a folder of crossward run, or a .jsonl file of pairs"),
        (("empty",), "is not a run directory: it has no config.yaml"),
        (("text.txt",), "is neither a run's folder nor a .jsonl file of pairs"),
    ],
)
def test_mistakes_are_one_sentence(
    words: tuple[str],
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("x")
    called = call(capsys, "export", *words, "--to", "trl", "--output", "out")
    assert called.code == 2
    assert told in called.sentence
    assert not (tmp_path / "out").exists()


def test_a_folder_of_someone_else_is_written_into_only_when_asked(
    run: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "mine.txt").write_text("mine")
    refused = call(capsys, "export", run.root, "--to", "trl", "--output", tmp_path)
    assert refused.code == 2
    assert "holds files that no export made (such as 'mine.txt')" in refused.sentence
    assert call(capsys, "export", run.root, "--to", "trl", "--output", tmp_path, "--overwrite").code == 0
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert (tmp_path / "train.jsonl").exists()


# push


def test_a_dry_run_contacts_nobody(run: RunDir, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    def nobody(*where: object) -> None:
        raise AssertionError(f"a dry run spoke to {where}")

    monkeypatch.setattr(socket.socket, "connect", nobody)
    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    called = call(capsys, "push", run.root, "--to-repo", "me/pairs", "--what", "dataset", "--dry-run")
    assert called.code == 0
    for told in ("README.md", "data/es/train-00000-of-00001.parquet", "license: unknown", "config_name: es"):
        assert told in called.out
    assert (
        "would go to me/pairs, a dataset repository, private where it is made new; nobody was contacted" in called.out
    )
    summary = json.loads(
        call(
            capsys, "push", run.root, "--to-repo", "me/model", "--what", "model", "--dry-run", "--public", "--json"
        ).out
    )
    assert (summary["dry_run"], summary["private"], summary["repo_type"]) == (True, False, "model")
    assert "pipeline_tag: text-generation" in summary["front_matter"]
    assert summary["files"]["model.safetensors"] > 1000
    assert TOKEN not in called.out + called.err


@pytest.mark.parametrize("what", ["dataset", "model"])
def test_a_push_brings_every_file_to_the_hub(
    what: str, run: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    with hub_server() as hub:
        use(hub, monkeypatch)
        called = call(capsys, "push", run.root, "--to-repo", "me/it", "--what", what)
    assert called.code == 0
    assert hub.created[0]["name"] == "it"
    assert hub.created[0].get("visibility", "private") == "private"
    call(capsys, "export", run.root, "--to", what, "--output", tmp_path / "out")
    wanted = {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file() and path.name != "export.json"
    }
    assert hub.files.keys() == wanted.keys()
    assert {name: hub.files[name] for name in wanted if name != "README.md"} == {
        name: content for name, content in wanted.items() if name != "README.md"
    }
    assert hub.files["README.md"].startswith(b"---\nlanguage:\n- en\n- es\n")
    assert hub.message == {"dataset": "Preference pairs of run", "model": "Checkpoint of run"}[what]
    kind = "datasets/" if what == "dataset" else ""
    assert f"pushed to {hub.url}/{kind}me/it (commit {'a' * 40})" in called.out
    assert hub.tokens == {f"Bearer {TOKEN}"}
    assert TOKEN not in called.out + called.err


@pytest.mark.parametrize(
    ("status", "told"),
    [(401, "log in with `hf auth login`, or set HF_TOKEN"), (403, "the hub refused to push to me/it")],
)
def test_a_hub_that_refuses_is_one_sentence(
    status: int, told: str, run: RunDir, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    with hub_server() as hub:
        use(hub, monkeypatch)
        hub.refuse = status
        called = call(capsys, "push", run.root, "--to-repo", "me/it", "--what", "dataset")
    assert called.code == 2
    assert told in called.sentence
    assert TOKEN not in called.out + called.err


def test_a_name_that_no_repository_has_is_refused_before_anything(run: RunDir, capsys: pytest.CaptureFixture[str]):
    called = call(capsys, "push", run.root, "--to-repo", "me/../it", "--what", "dataset", "--dry-run")
    assert called.code == 2
    assert "--to-repo 'me/../it' is no name of a repository" in called.sentence


def test_a_hub_out_of_reach_is_one_sentence(
    run: RunDir, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    called = call(capsys, "push", run.root, "--to-repo", "me/it", "--what", "dataset")
    assert called.code == 2
    assert "the hub could not be reached to push to me/it" in called.sentence


def test_a_terminal_shows_a_hostile_path_as_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("pairs.jsonl").write_text(json.dumps({"prompt": "x", "chosen": "a", "rejected": "b", "language": "es"}) + "\n")
    called = call(capsys, "export", "pairs.jsonl", "--to", "openrlhf", "--output", "out\x1b[31m\x9b2J")
    assert called.code == 0
    assert "␛[31m\\x9b2J/train.jsonl" in called.out
    assert not {"\x1b", "\x9b"} & set(called.out + called.err)


def test_a_terminal_shows_a_hostile_language_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    row = {"prompt": "x", "chosen": "a", "rejected": "b", "language": "\x1b[31mred\u202e"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row) + "\n")
    called = call(capsys, "export", tmp_path / "pairs.jsonl", "--to", "trl", "--output", tmp_path / "out")
    assert called.code == 0
    assert "\\u001b[31mred\\u202e" in called.out
    assert not {"\x1b", "\u202e"} & set(called.out + called.err)

"""`crossward prompts` as a person meets it: a table, one JSON, one sentence for what is wrong; a real model in it."""

import json
from pathlib import Path

import pytest
from tests.support.chat_server import chat_server
from tests.support.command import call
from tests.support.families import make_family
from tests.support.seq2seq import make_seq2seq
from tests.support.translation_server import ENGLISH, TranslationServer, english_file

from crossward.pipeline import parallel_prompts

FAULTS = {("es", "code"): "no-code", ("es", "sea"): "wrong-language"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(parallel_prompts, "CONTRAST", ("de", "es"))


@pytest.fixture
def english(tmp_path: Path) -> Path:
    path = tmp_path / "english.jsonl"
    path.write_text(english_file())
    return path


def test_a_table_and_a_json(english: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    handler = TranslationServer(faults=FAULTS, always=frozenset([("es", "code")]))  # pyright: ignore[reportArgumentType]
    with chat_server(handler) as server:
        arguments = ["prompts", "--input", english, "--languages", "es, de", "--output", tmp_path / "{language}.jsonl"]
        arguments += ["--engine", "openai", "--base-url", server.base_url, "--model", "tutor", "--attempts", 2]
        shown = call(capsys, *arguments)
        printed = call(capsys, *arguments, "--json")
    assert shown.code == printed.code == 0
    spanish = next(line for line in shown.out.splitlines() if line.startswith("│ es"))
    assert [cell.strip() for cell in spanish.strip("│").split("│")] == [
        "es", "5", "4", "1", "1", "code-block-lost 1", "4",
    ]  # fmt: skip
    assert "4 of 5 are in every language" in shown.out
    assert "prompts.allow_missing: true" in shown.out
    summary = json.loads(printed.out)
    assert summary["translator"] == "tutor"
    assert summary["languages"]["de"]["n_translated"] == 5
    assert len(handler.asked) == 10 + 2


def test_models_in_this_process(english: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    chat, nllb = make_family("chatml", tmp_path / "chat"), make_seq2seq("flores", tmp_path / "nllb", seed=1)
    common = ["prompts", "--input", english, "--languages", "es", "--dtype", "float32", "--device", "cpu"]
    for model, more in ((chat, ["--engine", "transformers", "--max-new-tokens", 8]), (nllb, [])):
        called = call(
            capsys, *common, "--output", tmp_path / model.name / "p-{language}.jsonl", "--translator", model, *more
        )
        # Random weights translate nothing, but by chance a text has no problem that can be seen.
        written = (tmp_path / model.name).glob("p-es*.jsonl")
        ids = [json.loads(line)["id"] for path in written for line in path.read_text(encoding="utf-8").splitlines()]
        assert sorted(ids) == sorted(ENGLISH)
        assert called.code == 0 or "no prompt could be translated into es (" in called.sentence


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ([], "name who translates: --translator"),
        (["--engine", "openai"], "--engine openai needs a server"),
        (["--base-url", "http://localhost:1/v1"], "they need --engine openai"),
        (["--translator", "no/such/folder"], "does not exist"),
        (
            ["--translator", "x", "--engine", "openai", "--base-url", "http://localhost:1/v1", "--model", "m"],
            "leave out",
        ),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(
    more: list[str], sentence: str, english: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    output = tmp_path / "{language}.jsonl"
    called = call(capsys, "prompts", "--input", english, "--languages", "es", "--output", output, *more)
    assert called.code == 2
    assert sentence in called.sentence
    assert "Traceback" not in called.err

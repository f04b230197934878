"""`crossward mt-bench` as a person meets it: a table, one JSON, and one sentence for each kind of bad input."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.chat_server import Reply, Request, chat_server, choices
from tests.support.command import call
from tests.support.mt_bench import arguments, judge, shown_turn, write_mt_bench, write_rows

NOWHERE = "http://127.0.0.1:9/v1"  # never reached: what is wrong is told before


@pytest.fixture(autouse=True)
def straight_to_the_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def test_a_table_for_people_and_one_json_for_scripts(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = write_mt_bench(tmp_path)
    answers = ("--answers", folder / "a" / "{language}.jsonl")

    def strange(request: Request, before: int) -> Reply:
        return choices("[[15]]") if shown_turn(request) == ("es", 81, 2) else judge(request, before)

    with chat_server(strange) as server:
        table = call(capsys, *arguments(folder, server.base_url, tmp_path / "out", *answers))
        asked = len(server.requests)
        as_json = call(capsys, *arguments(folder, server.base_url, tmp_path / "out", *answers, "--json"))
    assert (table.code, as_json.code) == (0, 0), table.err
    assert (asked, len(server.requests)) == (15 + 4, 15 + 8), "a null is asked again, a rating is not"
    for word in ("writing", "coding", "turn 1", "mean", "95 %", "null", "tokens", "judged by J"):
        assert word in table.out, word
    assert "null: 1 × asked 4 times: its rating '15' is outside 1 to 10" in table.out
    assert "1 of 16 answers have no rating" in table.err
    summary = json.loads(as_json.out)
    assert {name: found["n_null"] for name, found in summary["languages"].items()} == {"en": 0, "es": 1}
    for name, found in summary["languages"].items():
        row = next(line for line in table.out.splitlines() if line.startswith(f"│ {name} "))
        assert f" {found['mean']:.2f} " in row


def no_references(folder: Path) -> list[object]:
    (folder / "r" / "es.jsonl").write_text((folder / "r" / "es.jsonl").read_text().splitlines()[0] + "\n")
    return []


def one_turn(folder: Path) -> list[object]:
    write_rows(folder / "q" / "es.jsonl", [{"question_id": 81, "category": "writing", "turns": ["Q"]}])
    return []


def missing_file(folder: Path) -> list[object]:
    (folder / "q" / "es.jsonl").unlink()
    return []


def bad_template(folder: Path) -> list[object]:
    (folder / "t").mkdir()
    (folder / "t" / "turn-1.txt").write_text("{question_1} {answer}")
    return ["--templates", folder / "t"]


def file_as_output(folder: Path) -> list[object]:
    (folder / "out").write_text("x")
    return []


BAD: dict[str, tuple[Callable[[Path], list[object]], str]] = {
    "no reference": (
        no_references,
        "es: 1 questions of math, reasoning or coding have no reference answer (121): name",
    ),
    "one turn": (one_turn, "es.jsonl, line 1: field 'turns' must hold two texts, one for each turn, got 1"),
    "no questions": (missing_file, "es.jsonl does not exist: check the path"),
    "bad template": (bad_template, "turn-1.txt lacks the placeholder {answer_1}"),
    "file as output": (file_as_output, "out is a file: --output expects a folder"),
    "a language twice": (lambda folder: ["--language", "es"], "each --language may be given once, got en, es, es"),
    "unknown language": (lambda folder: ["--language", "xq"], "unknown language code 'xq'"),
    "one file for all": (lambda folder: ["--questions", folder / "q" / "es.jsonl"], "--questions must hold {language}"),
    "policy and answers": (lambda folder: ["--policy", "P"], "name what to grade: a policy"),
    "a server without its engine": (lambda folder: ["--base-url", NOWHERE], "they need --engine openai"),
    "a judge's address": (lambda folder: ["--judge-base-url", "localhost"], "address must look like http://"),
    "no key": (lambda folder: ["--judge-api-key-env", "NO_SUCH_KEY"], "NO_SUCH_KEY holds no key"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str):
    folder = write_mt_bench(tmp_path)
    spoil, sentence = BAD[kind]
    more = ["--answers", folder / "a" / "{language}.jsonl", *spoil(folder)]
    called = call(capsys, *arguments(folder, NOWHERE, tmp_path / "out", *more))
    assert called.code == 2
    assert sentence in called.sentence
    assert called.err.count("\n") == 1
    assert called.out == ""


@pytest.mark.parametrize("kind", ["no key", "a judge's address", "one turn", "bad template"])
def test_bad_input_is_told_before_a_policy_is_opened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: str
):
    def opened(*arguments: object, **settings: object) -> None:
        raise AssertionError("the policy is asked")

    monkeypatch.setattr("crossward.pipeline.mt_bench.ask_policy", opened)
    folder = write_mt_bench(tmp_path)
    spoil, sentence = BAD[kind]
    called = call(capsys, *arguments(folder, NOWHERE, tmp_path / "out", "--policy", "P", *spoil(folder)))
    assert called.code == 2
    assert sentence in called.sentence


def test_nothing_to_grade_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    called = call(capsys, *arguments(write_mt_bench(tmp_path), NOWHERE, tmp_path / "out"))
    assert (called.code, called.sentence) == (
        2, "crossward: name what to grade: a policy (--policy, or --engine openai), or its answers (--answers)"
    )  # fmt: skip


def test_a_judges_key_is_shown_and_kept_nowhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("JUDGE_KEY", "sk-secret-123")
    folder = write_mt_bench(tmp_path)
    more = ("--answers", folder / "a" / "{language}.jsonl", "--judge-api-key-env", "JUDGE_KEY")
    with chat_server(judge) as server:
        called = call(capsys, *arguments(folder, server.base_url, tmp_path / "out", *more))
    assert called.code == 0, called.err
    assert set(server.authorizations) == {"Bearer sk-secret-123"}
    written = [path.read_text(encoding="utf-8") for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(written) >= 3
    assert not any("sk-secret-123" in text for text in (*written, called.out, called.err))
    with chat_server(lambda request, before: Reply(status=401, body="bad key sk-secret-123")) as server:
        called = call(capsys, *arguments(folder, server.base_url, tmp_path / "two", *more))
    assert called.code == 2
    assert "HTTP 401: bad key [key]" in called.sentence
    assert os.environ["JUDGE_KEY"] not in called.err

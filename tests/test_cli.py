"""The command line as a person meets it: verbs that read each other's files, JSON for scripts, a run end to end."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from tests.support.chat_server import chat_server, obliging
from tests.support.command import call
from tests.support.families import make_family
from tests.support.recipes import make_recipe, write_prompts, write_recipe

from crossward import __version__

SHOWN = ("crossward run", "crossward check", "crossward sample", "crossward score", "crossward pair", "crossward train")


def command(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "crossward", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1"},
        # A shell ignores Ctrl-C for what it runs in the background, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_the_verbs_work_one_after_the_other_file_in_file_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    policy = make_family("chatml", tmp_path / "policy", seed=0)
    reference = make_family("chatml", tmp_path / "reference", seed=1)
    prompts = write_prompts(tmp_path / "prompts")
    groups, scored, pairs = (tmp_path / f"{name}.jsonl" for name in ("groups", "scored", "pairs"))
    models = ("--policy", policy, "--reference", reference, "--dtype", "float32", "--device", "cpu")

    called = call(
        capsys, "sample", "--policy", policy, "--dtype", "float32", "--device", "cpu", "--language", "es",
        "--input", prompts / "es.jsonl", "--english", prompts / "en.jsonl", "--output", groups,
        "--n", 4, "--temperature", 1.0, "--max-new-tokens", 96, "--engine", "transformers", "--json",
    )  # fmt: skip
    assert called.code == 0, called.err
    counts = json.loads(called.out)["languages"]["es"]
    assert (counts["prompts"], counts["responses"]) == (6, 24)

    called = call(capsys, "score", *models, "--input", groups, "--output", scored, "--json")
    assert called.code == 0, called.err
    assert json.loads(called.out)["languages"]["es"]["responses"] == 24
    rows = [json.loads(line) for line in scored.read_text(encoding="utf-8").splitlines()]
    assert all(row["judged_under"].endswith(row["english_instruction"]) for row in rows)
    assert all("using only Spanish" in row["judged_under"] for row in rows)

    called = call(capsys, "pair", "--input", scored, "--output", pairs, "--length-unit", "tokens", "--json")
    assert called.code == 0, called.err
    summary = json.loads(called.out)["es"]
    assert summary["n_groups"] == summary["n_pairs"] + sum(summary["skipped"].values()) == 6
    assert len(pairs.read_text(encoding="utf-8").splitlines()) == summary["n_pairs"] > 0
    assert {"alpha", "length_gap_before", "length_gap_after"} <= summary.keys()

    called = call(
        capsys, "train", *models, "--input", pairs, "--output", tmp_path / "aligned", "--batch-size", 2, "--json"
    )  # fmt: skip
    assert called.code == 0, called.err
    assert json.loads(called.out)["pairs"] == summary["n_pairs"]
    assert (tmp_path / "aligned" / "model.safetensors").exists()

    table = call(capsys, "pair", "--input", scored, "--output", pairs, "--length-unit", "tokens")
    assert "n pairs" in table.out
    assert table.err == ""


def test_equal_weights_score_exactly_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    policy = make_family("chatml", tmp_path / "policy")
    group = {
        "id": "1",
        "language": "sw",
        "instruction": "Habari?",
        "english_instruction": "Hi?",
        "responses": ["Salama."],
    }
    (tmp_path / "groups.jsonl").write_text(json.dumps(group) + "\n")
    called = call(
        capsys, "score", "--policy", policy, "--reference", policy, "--dtype", "float32",
        "--input", tmp_path / "groups.jsonl", "--output", tmp_path / "scored.jsonl", "--view", "multilingual",
    )  # fmt: skip
    assert called.code == 0, called.err
    assert "policy and reference have the same weights: every log-ratio will be 0" in called.err
    row = json.loads((tmp_path / "scored.jsonl").read_text())
    assert row["log_ratio"] == [0.0]
    assert row["judged_under"] == "Habari?"


def test_a_run_its_check_its_show_and_its_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    recipe = write_recipe(tmp_path, make_recipe(tmp_path, iterations=1))
    called = call(capsys, "check", recipe, "--json")
    assert called.code == 0, called.out
    checked = json.loads(called.out)
    assert {finding["level"] for finding in checked["findings"]} <= {"ok", "warning"}
    assert [stage["name"] for stage in checked["plan"]["hardware"][0]["stages"]][:2] == ["sample", "score"]
    assert not (tmp_path / "run").exists(), "checking leaves nothing behind"

    called = call(capsys, "run", recipe)
    assert called.code == 0, called.err
    assert called.out.strip() == f"report: {tmp_path / 'run' / 'report.html'}"
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.parquet")}

    called = call(capsys, "run", recipe, "runtime.sample_rows=3")
    assert called.code == 0, called.err
    report = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    assert {path: path.stat().st_mtime_ns for path in before} == before, "a finished run computes nothing again"

    life = call(capsys, "show", tmp_path / "run", "--prompt", "p2", "--language", "es")
    assert life.code == 0, life.err
    assert "¿Qué es el mar?" in life.out
    assert "English twin: What is the sea?" in life.out
    assert "pair: margin" in life.out or "no pair:" in life.out
    assert life.out.count(" nats  ") == 4

    (tmp_path / "run" / "report.md").unlink()
    assert call(capsys, "report", tmp_path / "run").code == 0
    assert (tmp_path / "run" / "report.md").read_text(encoding="utf-8") == report


def test_help_names_every_verb_and_each_has_an_example(capsys: pytest.CaptureFixture[str]):
    called = call(capsys, "--help")
    assert called.code == 0
    for shown in SHOWN:
        verb = shown.removeprefix("crossward ")
        assert f"  {verb}" in called.out
        assert f"Example: {shown}" in " ".join(call(capsys, verb, "--help").out.split())
    assert call(capsys, "--version").out.strip() == __version__


def test_control_c_says_how_to_resume_and_resuming_works(tmp_path: Path):
    recipe = make_recipe(tmp_path, iterations=1)
    recipe["sample"] |= {"n": 12}
    path = write_recipe(tmp_path, recipe)
    running = command("run", path)
    first_shard = tmp_path / "run" / "iteration-1" / "sample" / "en" / "part-00000.parquet"
    deadline = time.monotonic() + 120
    while not first_shard.exists() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    _, talk = running.communicate(timeout=120)
    assert running.returncode == 2, talk
    assert talk.rstrip().endswith(
        f"crossward: stopped: what was finished is kept; run the same command again to continue: crossward run {path}"
    )
    kept = first_shard.read_bytes()
    again = command("run", path)
    _, talk = again.communicate(timeout=240)
    assert again.returncode == 0, talk
    assert first_shard.read_bytes() == kept
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["sample"]["n"] == 12


def test_a_terminated_command_ends_as_by_control_c_and_leaves_nothing_empty(tmp_path: Path):
    prompts, output = tmp_path / "en.jsonl", tmp_path / "groups.jsonl"
    prompts.write_text('{"id": "1", "instruction": "Name a fruit."}\n', encoding="utf-8")
    with chat_server(lambda request, before: replace(obliging(request, before), delay_s=5)) as server:
        where = ("--engine", "openai", "--base-url", server.base_url, "--model", "m")
        running = command("sample", "--input", prompts, "--language", "en", "--output", output, *where)
        deadline = time.monotonic() + 120
        while not server.requests and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        running.terminate()
        _, talk = running.communicate(timeout=120)
    assert running.returncode == 2, talk
    assert "crossward: stopped: what was finished is kept; run the same command again" in talk
    assert "Traceback" not in talk
    assert "never retrieved" not in talk
    assert list(tmp_path.iterdir()) == [prompts]


@pytest.mark.parametrize(
    ("verb", "place", "sentence"),
    [
        ("score", "crossward.pipeline.resumable.score_file", "what was finished is kept; run the same command again"),
        ("pair", "crossward.pipeline.standalone.pair_file", "stopped before the output was written"),
    ],
)
def test_ctrl_c_says_which_verbs_continue(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, verb: str, place: str, sentence: str
):
    def stopped(*arguments: object, **settings: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(place, stopped)
    models = ("--policy", "p", "--reference", "r") if verb == "score" else ()
    called = call(capsys, verb, *models, "--input", "x.jsonl", "--output", "y.jsonl")
    assert called.code == 2
    assert sentence in called.sentence

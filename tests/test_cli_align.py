"""The verb as a person meets it: align, then score what came out; options of another method; talk and JSON apart."""

import json
from pathlib import Path

import pytest
from tests.support.command import call
from tests.support.families import make_family

from crossward.cli_align import AlignMethod, _usual

WORDS = ("Hola", "the", "thing", "Manzana", "roja", "an", "a", "ring")
CPU = ("--dtype", "float32", "--device", "cpu")
FEW_STEPS = ("--learning-rate", 1e-3, "--epochs", 3, "--batch-size", 4, "--warmup-ratio", 0)


@pytest.fixture(scope="module")
def sft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_family("llama3", tmp_path_factory.mktemp("sft"))


def write_pairs(path: Path, n: int = 8) -> Path:
    rows = [
        {"prompt": f"Say {WORDS[i]} {i}", "chosen": f"{WORDS[i]} {WORDS[i]}.", "rejected": f"no {WORDS[-i]}"}
        for i in range(n)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]), encoding="utf-8")
    return path


@pytest.mark.parametrize("method", ["dpo", "kto", "simpo", "orpo"])
def test_align_then_score(sft: Path, method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pairs, output = write_pairs(tmp_path / "pairs.jsonl"), tmp_path / "aligned"
    called = call(
        capsys, "align", "--model", sft, "--preferences", pairs, "--output", output, "--method", method,
        *CPU, *FEW_STEPS, "--json",
    )  # fmt: skip
    assert called.code == 0, called.err
    summary = json.loads(called.out)
    assert summary["left_out"] == {"duplicate": 1}
    assert (summary["rows"], summary["format"], summary["method"]) == (9, "plain text", method)
    assert {"steps", "seconds", "loss"} <= summary.keys()
    assert "9 rows read as plain text" in called.err

    groups = [
        {"id": str(i), "language": "en", "instruction": row["prompt"], "responses": [row["chosen"], row["rejected"]]}
        for i, row in enumerate(map(json.loads, pairs.read_text(encoding="utf-8").splitlines()[:8]))
    ]
    (tmp_path / "groups.jsonl").write_text("".join(json.dumps(group) + "\n" for group in groups), encoding="utf-8")
    called = call(
        capsys, "score", "--policy", output, "--reference", sft, "--input", tmp_path / "groups.jsonl",
        "--output", tmp_path / "scored.jsonl", *CPU,
    )  # fmt: skip
    assert called.code == 0, called.err
    scored = [json.loads(line) for line in (tmp_path / "scored.jsonl").read_text(encoding="utf-8").splitlines()]
    assert sum(row["log_ratio"][0] > row["log_ratio"][1] for row in scored) > len(scored) / 2


def test_again_and_otherwise(sft: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pairs, output = write_pairs(tmp_path / "pairs.jsonl"), tmp_path / "aligned"
    command = (
        "align",
        "--model",
        sft,
        "--preferences",
        pairs,
        "--output",
        output,
        "--method",
        "orpo",
        *CPU,
        *FEW_STEPS,
    )
    first = call(capsys, *command)
    assert first.code == 0, first.err
    assert "orpo of" in first.out
    again = call(capsys, *command, "--json")
    assert (again.code, json.loads(again.out)["steps"]) == (0, 6)
    assert "is done already" in again.err
    other = call(capsys, *command, "--beta", 0.3)
    assert (other.code, other.out) == (2, "")
    assert "was made from something else: beta was 0.1, now 0.3: choose another --output" in other.sentence


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--method", "dpo", "--gamma", 1), "--gamma belongs to simpo, not to dpo: leave it out"),
        (("--method", "orpo", "--nll-weight", 1), "--nll-weight belongs to dpo and simpo, not to orpo"),
        (("--method", "simpo", "--desirable-weight", 2), "--desirable-weight belongs to kto, not to simpo"),
        (("--method", "dpo", "--undesirable-weight", 2), "--undesirable-weight belongs to kto, not to dpo"),
        (("--method", "kto", "--micro-batch-size", 1), "it needs a micro_batch_size of 2 or more, got 1"),
        (("--batch-size", 6, "--micro-batch-size", 4), "batch_size must be a multiple of micro_batch_size"),
    ],
)
def test_options_that_make_no_sense(
    sft: Path, options: tuple[object, ...], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    pairs = write_pairs(tmp_path / "pairs.jsonl")
    called = call(capsys, "align", "--model", sft, "--preferences", pairs, "--output", tmp_path / "a", *CPU, *options)
    assert called.code == 2
    assert sentence in called.sentence
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("method", ["dpo", "kto", "simpo", "orpo"])
def test_help_says_what_is_taken_where_nothing_is_given(method: AlignMethod, capsys: pytest.CaptureFixture[str]):
    help = " ".join(call(capsys, "align", "--help").out.split())
    beta, rate = _usual(method)
    assert f"{method} {beta:g}" in help
    assert f"{method} {f'{rate:g}'.replace('e-0', 'e-')}" in help

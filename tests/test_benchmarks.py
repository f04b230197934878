"""Benchmarks and experiments run and print their numbers: so small that these mean nothing, in seconds."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def printed(folder: Path, script: str, *arguments: object, under: str = "benchmarks") -> str:
    """What a script prints, run in a folder of its own."""
    done = subprocess.run(
        [sys.executable, str(ROOT / under / script), *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_scoring_against_the_other_sides_on_the_model_of_the_gpu_script(tmp_path: Path):
    table = printed(tmp_path, "gpu_scoring.py", "--tiny", "--groups", 4, "--compared", 3)
    assert re.search(r"ratio \d+\.\d+x, largest difference \S+ nats", table)
    model = tmp_path / "runs" / "gpu-bench-tiny"
    table = printed(tmp_path, "scoring.py", "--model", model, "--groups", 1, "--dtype", "float32")
    assert "1 groups, 10 responses" in table
    assert "padding and repeats 0.0%" in table
    differences = re.findall(r"ratio +\d+\.\d+x +largest difference (\S+) nats", table)
    assert len(differences) == 2
    assert all(float(difference) < 0.01 for difference in differences)


def test_growth_counts_every_group(tmp_path: Path):
    table = printed(tmp_path, "growth.py", "--largest", 1000)
    pair, score = table.split("score,")
    assert re.search(r"1,000 .* 1,000 *\n", pair)
    assert re.search(r"256 .* 256 *\n", score)


def test_win_rates_of_many_models(tmp_path: Path):
    table = printed(tmp_path, "winrates.py", "--languages", 2, "--models", 2, "--instructions", 60, "--resamples", 20)
    assert "240 verdicts, 20 resamples" in table
    assert re.search(r"seed 1: \d+\.\d s of wall", table)


def test_the_simulation_of_win_rates(tmp_path: Path):
    small = ("--worlds", 2, "--instructions", 80, "--models", 2, "--resamples", 20, "--figure", "figure.svg")
    table = printed(tmp_path, "winrate_simulation.py", *small, under="experiments")
    assert len(re.findall(r"^\| joint \| (en|es|sw|all) \|", table, re.MULTILINE)) == 4
    assert (tmp_path / "figure.svg").read_text().startswith("<svg")


def test_the_judge_that_fails_in_every_way(tmp_path: Path):
    small = ("--verdicts", 200, "--kills", 1, "--latency", 0.02, "--patience", 0.5, "--port", 18_631)
    table = printed(tmp_path, "judge_faults.py", *small, under="experiments")
    assert "undisturbed: 200 judged, 0 null, 0 of 200 good answers paid twice" in table
    assert "200 judged, 0 null, 0 paid again that the journal had" in table
    assert "verdicts.jsonl the same bytes: True; rates the same: True" in table

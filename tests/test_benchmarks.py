"""The benchmarks run and print their ratios: on models so small that the numbers mean nothing, in seconds."""

import os
import re
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def printed(folder: Path, script: str, *arguments: object) -> str:
    """What a benchmark prints, run in a folder of its own."""
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
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

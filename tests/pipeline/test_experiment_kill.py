"""SIGKILL at random moments of an experiment, one job and two: what follows ends in the same tables, byte for byte."""

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.support.experiments import checked, make_experiment, results, write_experiment

KILLS = 3


def start(path: Path, *more: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "crossward", "experiment", str(path), *more],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def ends_well(path: Path, *more: str) -> float:
    """Run to the end; the seconds that it took."""
    started = time.monotonic()
    process = start(path, *more)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 0, told.decode()
    return time.monotonic() - started


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], dict[str, bytes], float]:
    """An experiment of two cells and two seeds with a figure, its results, and how long it took."""
    folder = tmp_path_factory.mktemp("kill")
    cells = {"reward": {}, "random": {"pair.choice": "random"}}
    tree = make_experiment(folder, seeds=[1, 2], cells=cells, baseline="reward", figures=["languages"])
    path = write_experiment(folder, tree)
    seconds = ends_well(path)
    return path, tree, results(checked(tree)[2]), seconds


@pytest.mark.parametrize("jobs", [1, 2])
def test_kills_change_no_byte(undisturbed: tuple[Path, dict[str, Any], dict[str, bytes], float], jobs: int):
    path, tree, expected, seconds = undisturbed
    directory = checked(tree)[2]
    shutil.rmtree(directory.root)
    lot = random.Random(jobs)
    for _ in range(KILLS):
        process = start(path, "--jobs", str(jobs))
        try:
            process.wait(timeout=lot.uniform(0.4, 1.0) * seconds)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
    ends_well(path, "--jobs", str(jobs))
    assert results(directory) == expected
    assert not list(directory.root.rglob("*.tmp"))

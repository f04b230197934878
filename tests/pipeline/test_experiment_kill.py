"""SIGKILL at random moments of an experiment: what follows ends in the same tables and figures, byte for byte.

The work is done in forked children, so that a kill costs no import of torch.
"""

import multiprocessing
import os
import random
import shutil
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from tests.support.experiments import checked, make_experiment, results, run_all

KILLS = 4


def start(tree: dict[str, Any]) -> BaseProcess:
    child = multiprocessing.get_context("fork").Process(target=run_all, args=(tree,))
    child.start()
    return child


def files_of(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))  # folders that go meanwhile are passed over


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_kills_change_no_byte(tmp_path: Path):
    tree = make_experiment(tmp_path, seeds=[1, 2], cells={"reward": {}, "random": {"pair.choice": "random"}})
    tree |= {"set": {"prompts.limit": 4}, "baseline": "reward", "figures": ["languages"]}
    directory = checked(tree)[2]
    undisturbed = start(tree)
    undisturbed.join()
    assert undisturbed.exitcode == 0
    expected = results(directory)
    assert {"results.json", "values.csv", "differences.md", "figure-languages.svg"} <= expected.keys()

    n_files = files_of(directory.root)
    shutil.rmtree(directory.root)
    lot = random.Random(1)
    killed = 0
    for turn in range(KILLS):
        # By what is there, not by the clock: every kill comes in time, however fast the machine is.
        enough = (turn + lot.uniform(0.2, 0.8)) / (KILLS + 1) * n_files
        child = start(tree)
        while child.exitcode is None and files_of(directory.root) < enough:
            time.sleep(0.002)
        if child.exitcode is None:
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)
            child.join()
            killed += 1
    assert killed >= KILLS // 2
    last = start(tree)
    last.join()
    assert last.exitcode == 0
    assert results(directory) == expected
    assert not list(directory.root.rglob("*.tmp"))

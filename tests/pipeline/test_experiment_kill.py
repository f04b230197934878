"""SIGKILL at random moments of an experiment: what follows, in two processes, ends in the same tables byte for byte.

The killed ones are forked children, so that a kill costs no import of torch.
"""

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from tests.support.experiments import checked, make_experiment, results, run_all, write_experiment

KILLS = 3


def start(tree: dict[str, Any]) -> BaseProcess:
    child = multiprocessing.get_context("fork").Process(target=run_all, args=(tree,))
    child.start()
    return child


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_kills_change_no_byte(tmp_path: Path):
    # One thread, as two jobs would have it: another number of them rounds otherwise.
    tree = make_experiment(tmp_path, seeds=[1, 2], cells={"reward": {}, "random": {"pair.choice": "random"}})
    tree |= {"set": {"runtime.threads": 1, "prompts.limit": 4}, "baseline": "reward", "figures": ["languages"]}
    directory = checked(tree)[2]
    started = time.monotonic()
    undisturbed = start(tree)
    undisturbed.join()
    seconds = time.monotonic() - started
    assert undisturbed.exitcode == 0
    expected = results(directory)
    assert {"results.json", "values.csv", "differences.md", "figure-languages.svg"} <= expected.keys()

    shutil.rmtree(directory.root)
    lot = random.Random(1)
    killed = 0
    for _ in range(KILLS):
        child = start(tree)
        child.join(timeout=lot.uniform(0.1, 0.5) * seconds)
        if child.exitcode is None:
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)
            child.join()
            killed += 1
    assert killed >= KILLS // 2
    command = [sys.executable, "-m", "crossward", "experiment", str(write_experiment(tmp_path, tree)), "--jobs", "2"]
    last = subprocess.run(command, capture_output=True, text=True)
    assert last.returncode == 0, last.stderr
    assert results(directory) == expected
    assert not list(directory.root.rglob("*.tmp"))

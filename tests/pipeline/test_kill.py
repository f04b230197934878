"""SIGKILL at random moments of sample, score and pair: the run that follows gives the bytes of an undisturbed one.

The work is done in forked children, so that twenty kills cost one import of torch.
"""

import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from tests.support.recipes import config_of, make_recipe

from crossward.config import Config
from crossward.pipeline.assemble import Engines
from crossward.pipeline.iterate import make_pairs
from crossward.pipeline.progress import Silent
from crossward.pipeline.prompts import training_prompts
from crossward.store.run_dir import RunDir

KILLS = 20


def first_three_stages(config: Config) -> None:
    """Sample, score and pair of iteration 1, as `run` does them."""
    engines = Engines(config)
    here = RunDir(Path(config.run)).iteration(1)
    make_pairs(here, 1, [engines.policy()], engines.reference(), training_prompts(config), engines, Silent())


def contents(run: Path) -> dict[str, bytes | dict]:
    """Every file of a run: the bytes, and for manifests everything but the seconds."""
    found: dict[str, bytes | dict] = {}
    for path in sorted(run.rglob("*")):
        if path.is_file() and not path.name.endswith(".tmp"):
            name = str(path.relative_to(run))
            found[name] = path.read_bytes()
            if path.name == "stage.json":
                found[name] = json.loads(path.read_text()) | {"seconds": 0}
    return found


def start(config: Config) -> multiprocessing.process.BaseProcess:
    child = multiprocessing.get_context("fork").Process(target=first_three_stages, args=(config,))
    child.start()
    return child


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_twenty_kills_change_no_byte(tmp_path: Path):
    config = config_of(make_recipe(tmp_path))
    started = time.monotonic()
    undisturbed = start(config)
    undisturbed.join()
    seconds = time.monotonic() - started
    assert undisturbed.exitcode == 0
    expected = contents(Path(config.run))
    assert sum(name.endswith(".parquet") for name in expected) == 14

    shutil.rmtree(config.run)
    lot = random.Random(1)
    killed = 0
    for _ in range(KILLS):
        child = start(config)
        child.join(timeout=lot.uniform(0.0, 0.5 * seconds))
        if child.exitcode is None:
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)
            child.join()
            killed += 1
        else:
            shutil.rmtree(config.run)  # it got through: begin again
    assert killed >= KILLS // 2
    last = start(config)
    last.join()
    assert last.exitcode == 0
    assert contents(Path(config.run)) == expected

"""The door of a stage where runs share: made once, taken by the others, offered where a kill came before."""

import multiprocessing
import time
from pathlib import Path

import pytest

from crossward.pipeline.run_stage import run_stage
from crossward.store.run_dir import RunDir, StageDir
from crossward.store.shared_stages import SharedStages


def stage_of(root: Path, run: str) -> StageDir:
    return RunDir(root / run, SharedStages(root=root / "stages")).iteration(1).stage("pair")


def worked(stage: StageDir, log: Path, *, text: str = "pairs", anew: bool = False):
    def work():
        time.sleep(0.2)
        (stage.path / "es.txt").write_text(text)
        with log.open("a") as handle:
            handle.write(f"{stage.path.parent.parent.name} ")
        return [stage.path / "es.txt"], {"languages": {}}

    return run_stage(stage, {"score": "abc"}, {"n": 1}, work, anew=anew)


def test_the_second_run_takes_what_the_first_made(tmp_path: Path):
    log = tmp_path / "log"
    first = worked(stage_of(tmp_path, "a"), log)
    second = worked(stage_of(tmp_path, "b"), log)
    again = worked(stage_of(tmp_path, "b"), log)
    assert first == second == again
    assert log.read_text() == "a "


def test_without_a_pool_every_run_works(tmp_path: Path):
    log = tmp_path / "log"
    for run in ("a", "b"):
        worked(RunDir(tmp_path / run).iteration(1).stage("pair"), log)
    assert log.read_text() == "a b "
    assert not (tmp_path / "stages").exists()


def test_a_stage_that_was_finished_but_not_yet_shared_is_shared_next_time(tmp_path: Path):
    log = tmp_path / "log"
    worked(RunDir(tmp_path / "a").iteration(1).stage("pair"), log)  # as a kill between the two leaves it
    worked(stage_of(tmp_path, "a"), log)
    worked(stage_of(tmp_path, "b"), log)
    assert log.read_text() == "a "


def test_a_shared_manifest_that_is_damaged_is_made_anew(tmp_path: Path):
    log = tmp_path / "log"
    worked(stage_of(tmp_path, "a"), log)
    (pooled,) = (tmp_path / "stages").glob("pair-*/stage.json")
    pooled.write_bytes(pooled.read_bytes()[:-20])
    worked(stage_of(tmp_path, "b"), log)
    worked(stage_of(tmp_path, "c"), log)
    assert log.read_text() == "a b "


def test_anew_replaces_what_is_shared_and_leaves_who_took_it(tmp_path: Path):
    log = tmp_path / "log"
    worked(stage_of(tmp_path, "a"), log)
    worked(stage_of(tmp_path, "b"), log, text="better", anew=True)
    worked(stage_of(tmp_path, "c"), log)
    texts = [(stage_of(tmp_path, run).path / "es.txt").read_text() for run in "abc"]
    assert texts == ["pairs", "better", "better"]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_two_processes_do_not_make_the_same_stage_twice(tmp_path: Path):
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=worked, args=(stage_of(tmp_path, run), tmp_path / "log")) for run in "abcd"]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 4
    assert len((tmp_path / "log").read_text().split()) == 1
    assert all((stage_of(tmp_path, run).path / "es.txt").read_text() == "pairs" for run in "abcd")

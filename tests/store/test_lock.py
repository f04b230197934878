"""One driver per run directory, held by the kernel."""

import os
import re

import pytest

from crossward.store.lock import run_lock
from crossward.store.run_dir import RunDir


def try_in_child(run: RunDir) -> str:
    """What another process sees when it asks for the lock: "" or the sentence."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with run_lock(run):
                pass
        except ValueError as error:
            os.write(writing, str(error).encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as stream:
        return stream.read()


def test_second_driver_is_told_who_holds_it(tmp_path):
    run = RunDir(tmp_path / "new" / "run")
    with run_lock(run):
        assert f"run directory {run.root} is in use by process {os.getpid()}" in try_in_child(run)
        with pytest.raises(ValueError, match=re.escape(f"process {os.getpid()}")), run_lock(run):
            pass
    assert try_in_child(run) == ""


def test_lock_is_free_after_an_error(tmp_path):
    run = RunDir(tmp_path)
    with pytest.raises(RuntimeError), run_lock(run):
        raise RuntimeError
    with run_lock(run):
        assert run.lock.read_text() == str(os.getpid())


def test_lock_of_a_killed_driver_is_free(tmp_path):
    run = RunDir(tmp_path)
    child = os.fork()
    if child == 0:
        with run_lock(run):
            os._exit(9)
    os.waitpid(child, 0)
    assert run.lock.read_text() == str(child)
    with run_lock(run):
        assert run.lock.read_text() == str(os.getpid())

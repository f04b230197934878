"""Pieces of work in other processes: all are done, a failure or a death is one piece's, and no child outlives us."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from crossward.pipeline.workers import Failure, do_all


def piece_of_work(piece: tuple[str, str]) -> None:
    folder, what = piece
    if what == "user":
        raise ValueError("two\nlines")
    if what == "ours":
        raise KeyError("a bug")
    if what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    (Path(folder) / what).write_text(str(os.getpid()))


@pytest.mark.parametrize("jobs", [1, 2])
def test_one_failure_does_not_stop_the_others(tmp_path: Path, jobs: int):
    pieces = [(str(tmp_path), what) for what in ("a", "user", "b", "ours", "c")]
    found: dict[str, Failure | None] = {}
    do_all(pieces, piece_of_work, jobs=jobs, ended=lambda piece, failure: found.update({piece[1]: failure}))
    assert [name for name in "abc" if (tmp_path / name).exists()] == ["a", "b", "c"]
    assert {name: failure and failure.kind for name, failure in found.items()} == {
        **dict.fromkeys("abc"),
        "user": 2,
        "ours": 1,
    }
    assert found["user"] is not None
    assert found["user"].sentence == "two lines"
    assert found["ours"] is not None
    assert "KeyError" in found["ours"].traceback
    own = (tmp_path / "a").read_text() == str(os.getpid())
    assert own == (jobs == 1)


def test_a_process_that_dies_fails_its_piece_alone(tmp_path: Path):
    pieces = [(str(tmp_path), what) for what in ("killed", "killed", "a", "b")]  # so that both must be replaced
    found: dict[str, Failure | None] = {}
    do_all(pieces, piece_of_work, jobs=2, ended=lambda piece, failure: found.update({piece[1]: failure}))
    assert found["a"] is found["b"] is None
    assert found["killed"] is not None
    assert "SIGKILL" in found["killed"].sentence


def test_when_the_parent_is_killed_its_processes_end(tmp_path: Path):
    code = (
        "import time, pathlib\n"
        "from crossward.pipeline.workers import do_all\n"
        "def sleep(piece):\n"
        f"    pathlib.Path({str(tmp_path)!r}, piece).touch()\n"
        "    time.sleep(600)\n"
        "if __name__ == '__main__':\n"
        "    do_all(['a', 'b'], sleep, jobs=2, ended=print)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    parent = subprocess.Popen([sys.executable, str(script)])
    deadline = time.monotonic() + 60
    while not all((tmp_path / name).exists() for name in "ab"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    children = psutil.Process(parent.pid).children(recursive=True)
    assert len(children) >= 2
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive

"""A head that answers no more ends a block with a sentence, and is told of before; one that answers changes nothing."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from crossward.engines.ray_watch import head_watched


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_head_that_answers_no_more_ends_the_block_with_a_sentence():
    told: list[str] = []
    with socket.create_server(("127.0.0.1", 0), backlog=64) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        with head_watched(address, told.append, look_s=0.02, patience_s=0.1):
            time.sleep(0.4)
        assert not told
    ended = pytest.raises(ValueError, match=f"head of the Ray cluster at {address} has not answered for 0 s")
    with ended, head_watched(address, told.append, look_s=0.02, patience_s=0.1):
        time.sleep(60)
    assert told == [f"the head of the Ray cluster at {address} does not answer: the run ends soon if it stays so"]


STUCK = """
import sys, time
from crossward.engines.ray_watch import head_watched
with head_watched("127.0.0.1:9", lambda line: print(line, flush=True), look_s=0.02, patience_s=0.1, grace_s=0.1):
    while True:
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            pass
"""


def test_a_block_that_does_not_end_then_ends_with_the_process():
    done = subprocess.run([sys.executable, "-c", STUCK], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout.splitlines()[1].endswith("run the same command; what was finished is kept")


def test_an_interrupt_of_the_users_stays_one():
    with pytest.raises(KeyboardInterrupt), head_watched("127.0.0.1:9", print):
        signal.raise_signal(signal.SIGINT)

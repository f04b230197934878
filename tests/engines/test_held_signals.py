"""A signal that comes while others are held is done afterwards, once, wherever it would have been lost."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pytest

from crossward.engines import ray_workers
from crossward.engines.held_signals import signals_held


@contextmanager
def noted(number: int) -> Iterator[list[int]]:
    """What a handler of this signal was called with."""
    seen: list[int] = []
    before = signal.signal(number, lambda got, frame: seen.append(got))
    try:
        yield seen
    finally:
        signal.signal(number, before)


class Stream:
    """Two blocks of rows, whose clean-up is interrupted where exceptions are dropped."""

    def iter_batches(self, **how: Any) -> Iterator[pa.Table]:
        yield pa.table({"place": [0]})
        yield pa.table({"place": [1]})

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.fixture
def interruptible() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_what_came_is_done_once_when_the_block_is_over():
    with noted(signal.SIGTERM) as seen:
        with signals_held():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
            assert not seen
        assert seen == [signal.SIGTERM]
        signal.raise_signal(signal.SIGTERM)
        assert len(seen) == 2, "the handler is back"


def test_another_thread_holds_nothing():
    done: list[bool] = []

    def work() -> None:
        with signals_held():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_at_the_end_of_a_stream_is_not_lost():
    pytest.importorskip("ray")
    came: list[Any] = []
    with pytest.raises(KeyboardInterrupt):
        came.extend(ray_workers._rows(Stream(), 2))
    rows = ray_workers._rows(Stream(), 2)
    assert next(rows) == {"place": 0}
    with pytest.raises(KeyboardInterrupt):
        rows.close()

"""Work over cores: order, dependence, threads given back, errors."""

import threading
import time
from collections.abc import Iterator

import pytest
import torch
from tests.support.threads import torch_threads

from crossward.engines.cores import on_every_core

CHAINS = [(1, [10, 11]), (2, []), (3, [30, 31, 32])]


@pytest.fixture(params=[1, 2, 3, 8])
def n_threads(request: pytest.FixtureRequest) -> Iterator[int]:
    with torch_threads(request.param):
        yield request.param


def test_results_stand_in_the_order_given(n_threads):
    found = on_every_core(lambda item: item * 2, CHAINS, size=lambda item: item)
    assert found == [[2, 20, 22], [4], [6, 60, 62, 64]]
    assert torch.get_num_threads() == n_threads


def test_nothing_of_the_rest_begins_before_its_first_is_done(n_threads):
    done: list[int] = []

    def work(item: int) -> bool:
        first = {10: 1, 11: 1, 30: 3, 31: 3, 32: 3}.get(item)
        ready = first is None or first in done
        time.sleep(0.002)
        done.append(item)
        return ready

    assert all(all(row) for row in on_every_core(work, CHAINS, size=lambda item: item))


def test_the_greatest_begin_first():
    """Two threads: 5 and 3 wait for each other, which they could not do if 1 had begun before one of them."""
    both = threading.Barrier(2, timeout=10)
    met = threading.Event()

    def work(item: int) -> bool:
        if item in (5, 3):
            both.wait()
            met.set()
        return item == 0 or met.is_set()

    with torch_threads(2):
        assert on_every_core(work, [(0, [1, 5, 3])], size=lambda item: item) == [[True, True, True, True]]


def test_no_gradients_and_threads_shared_out_equally():
    """8 threads and 2 pieces that can run at once: 4 threads each."""
    with torch_threads(8):
        seen = on_every_core(
            lambda item: (torch.is_inference_mode_enabled(), torch.get_num_threads()), [("first", ["a", "b"])], size=len
        )
    assert seen == [[(True, 8), (True, 4), (True, 4)]]
    assert not torch.is_inference_mode_enabled()


def test_an_error_is_raised_and_what_has_not_begun_never_does(n_threads):
    begun: list[int] = []

    def work(item: int) -> None:
        begun.append(item)
        if item == 99:
            raise RuntimeError("a pack too large")
        time.sleep(0.001)

    with pytest.raises(RuntimeError, match="a pack too large"):
        on_every_core(work, [(0, [99, *range(1, 50)])] * 2, size=lambda item: item)
    assert len(begun) < 2 * 51
    assert torch.get_num_threads() == n_threads
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("crossward-core")]


def test_where_a_first_fails_nothing_of_its_rest_begins(n_threads):
    begun: list[int] = []

    def work(item: int) -> None:
        begun.append(item)
        if item == 9:
            raise RuntimeError("a prompt too large")

    with pytest.raises(RuntimeError, match="a prompt too large"):
        on_every_core(work, [(9, [91, 92])] * 3, size=lambda item: item)
    assert set(begun) == {9}

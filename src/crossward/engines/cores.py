"""Independent pieces of work on a CPU, shared out over its cores: each core computes whole pieces by itself.

Threads that share every matrix product wait for one another thousands of times a second, and lose most where another
job wants the cores too. Whole pieces a thread are 9 % quicker on two idle cores (docs/results.md). Knows no models.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def on_every_core(
    work: Callable[[Item], Result], chains: Sequence[tuple[Item, Sequence[Item]]], *, size: Callable[[Item], int]
) -> list[list[Result]]:
    """Of each (first, rest) work(first) and then, in any order, work(item) of the rest; results in the order given.

    Computed without gradients, over as many threads as torch has. The greatest `size` begins first, so that no core
    waits long at the end. Where there are fewer items than threads, several threads share an item. What `work` raises
    is raised here, after the items that had begun.
    """

    def quietly(item: Item) -> Result:
        with torch.inference_mode():  # of this thread alone
            return work(item)

    def in_order(items: Sequence[Item]) -> list[int]:
        return sorted(range(len(items)), key=lambda index: -size(items[index]))

    n_threads = torch.get_num_threads()
    n_rest = sum(len(rest) for _, rest in chains)
    few = len(chains) < n_threads  # then all threads on one first after the other: else some had nothing to do
    if n_threads == 1 or (few and n_rest <= 1):
        return [[quietly(item) for item in (first, *rest)] for first, rest in chains]
    firsts = {_done(quietly(first)): index for index, (first, _) in enumerate(chains)} if few else {}
    with _workers(min(n_threads, n_rest) if few else n_threads) as pool:
        if not few:
            firsts = {pool.submit(quietly, chains[k][0]): k for k in in_order([first for first, _ in chains])}
        rests: dict[int, dict[int, Future[Result]]] = {}
        for future in as_completed(firsts):
            future.result()  # what it raised is raised before anything else begins
            rest = chains[firsts[future]][1]
            rests[firsts[future]] = {k: pool.submit(quietly, rest[k]) for k in in_order(rest)}
        results: list[list[Result]] = [[] for _ in chains]
        for future, index in firsts.items():
            following = rests[index]
            results[index] = [future.result(), *(following[k].result() for k in range(len(following)))]
        return results


def _done(result: Result) -> Future[Result]:
    future: Future[Result] = Future()
    future.set_result(result)
    return future


@contextmanager
def _workers(n: int) -> Iterator[ThreadPoolExecutor]:
    """`n` threads that share torch's among them, equally; those that have not begun at the end never do."""
    n_threads = torch.get_num_threads()
    each = n_threads // n
    torch.set_num_threads(each)  # for the libraries that ask the process, not the thread
    pool = ThreadPoolExecutor(n, "crossward-core", initializer=torch.set_num_threads, initargs=(each,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(n_threads)

"""Counting the records that are in memory, quickly: what was there before is set aside and not looked through again."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def counting(kind: type) -> Iterator[Callable[[], int]]:
    """A function that says how many objects of a type have come into being since, and are still there."""
    gc.collect()
    gc.freeze()
    try:
        yield lambda: sum(type(value) is kind for value in gc.get_objects())
    finally:
        gc.unfreeze()

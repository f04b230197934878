"""How the pipeline talks: tasks that advance and plain lines. The console shows them; nothing here prints."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from crossward.engines.protocols import Advance, no_progress


class Progress(Protocol):
    def task(self, title: str, total: int) -> AbstractContextManager[Advance]:
        """A piece of work of `total` units; the context gives the function that counts them."""
        ...

    def say(self, line: str) -> None:
        """One line for the person who watches."""
        ...


class Silent:
    """Shows nothing: for tests and for callers that have their own display."""

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        yield no_progress

    def say(self, line: str) -> None:
        return None

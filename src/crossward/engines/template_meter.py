"""What one rendering of a chat template may still do: the largest value, the work, the clock."""

import threading
from collections.abc import ItemsView, KeysView, Mapping, ValuesView
from time import monotonic
from typing import Any

from jinja2.runtime import LoopContext, Macro
from jinja2.utils import Cycler, Joiner, Namespace

LARGEST_VALUE = 2**22  # characters (an element counts as 16), and 20 times the conversation's
MOST_WORK = 2**25  # characters made in one rendering, and 200 times the conversation's; steps count as characters, too
LONGEST_S = 10.0
_STEP, _ELEMENT = 64, 16  # what these weigh against a character: about as they do in time
MOST_BITS = 2**14  # of a whole number


class TooMuch(Exception):
    """A limit was reached; the message says which."""


class _Meter(threading.local):
    """What the rendering that goes on in this thread may still do."""

    largest = LARGEST_VALUE
    work = MOST_WORK
    until = 0.0

    def start(self, n_chars: int) -> None:
        self.largest = LARGEST_VALUE + 20 * n_chars
        self.work = MOST_WORK + 200 * n_chars
        self.until = monotonic() + LONGEST_S

    def expect(self, size: int) -> None:
        """Before a value of that size is made."""
        if size > self.largest:
            raise TooMuch(f"it makes a value of {size} characters (at most {self.largest})")

    def charge(self, size: int) -> None:
        if size > self.largest:
            self.expect(size)
        self.work -= size + _STEP
        if self.work < 0:
            raise TooMuch("it takes too many steps or makes too much text")
        if monotonic() > self.until:
            raise TooMuch(f"it takes longer than {LONGEST_S:g} s")

    def made(self, value: Any) -> Any:
        """The value itself, counted."""
        self.charge(len(value) if type(value) is str else self.size(value))
        return value

    def size(self, value: Any) -> int:
        """Characters and elements of a value with all that it holds."""
        total, waiting = 0, [value]
        while waiting:
            item = waiting.pop()
            total += _ELEMENT
            if isinstance(item, str):
                total += len(item)
            elif isinstance(item, int):
                if item.bit_length() > MOST_BITS:
                    raise TooMuch(f"it makes a number of more than {MOST_BITS} bits")
            elif isinstance(item, Mapping):
                waiting.extend(item.keys())
                waiting.extend(item.values())
            elif isinstance(item, list | tuple | set | frozenset | KeysView | ItemsView | ValuesView):
                waiting.extend(item)
            elif isinstance(item, Namespace):
                waiting.append(item._Namespace__attrs)  # pyright: ignore[reportAttributeAccessIssue]
            elif isinstance(item, Macro):
                total += len(item.name)
            elif isinstance(item, LoopContext | Cycler | Joiner) and item is not value:
                raise TooMuch("it puts a loop into a value")  # what a loop gives out has no size that could be known
            if total + _ELEMENT * len(waiting) > self.largest:
                self.expect(total + _ELEMENT * len(waiting))
        return total


METER = _Meter()

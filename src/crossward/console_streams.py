"""Where words go: results to stdout, talk to stderr; and how the talk is shown, chosen once for a command.

Every line goes through `line` or `note`, which show what strangers wrote and do not obey it. Knows neither tables nor
bars.
"""

import sys
from typing import Literal

from rich.console import Console

from crossward.core.plain_text import visible

Mode = Literal["auto", "bar", "plain", "json", "none"]

# A file or a pipe has no width: tables there must not be squeezed into 80 columns.
out = Console(soft_wrap=True, highlight=False, emoji=False, width=None if sys.stdout.isatty() else 160)
err = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)

_chosen: Mode = "auto"


def line(text: str) -> None:
    """A result on stdout, as it is: square brackets are no markup, :cat: is no cat, and nothing steers the terminal."""
    out.print(visible(text), markup=False)


def note(text: str) -> None:
    """Talk on stderr, likewise."""
    err.print(visible(text), markup=False)


def choose(mode: Mode) -> None:
    """How progress is shown from now on."""
    global _chosen
    _chosen = mode


def chosen() -> Mode:
    """What `choose` was told; "auto" before."""
    return _chosen


def resolved() -> Mode:
    """bar on a terminal and plain elsewhere, in the place of auto."""
    if _chosen != "auto":
        return _chosen
    return "bar" if err.is_terminal else "plain"

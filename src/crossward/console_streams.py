"""Where words go: results to stdout, talk to stderr; and how the talk is shown, chosen once for a command.

Knows neither tables nor bars.
"""

import sys
from typing import Literal

from rich.console import Console

Mode = Literal["auto", "bar", "plain", "json", "none"]

# A file or a pipe has no width: tables there must not be squeezed into 80 columns.
out = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else 160)
err = Console(stderr=True, soft_wrap=True, highlight=False)

_chosen: Mode = "auto"


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

"""The terminal: results to stdout, exceptions to one sentence and an exit code; progress is in console_progress.py.

Exit codes: 0 done, 2 the user can mend it (one sentence), 1 our fault (traceback).
"""

import errno
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from rich.table import Table
from rich.text import Text

from crossward.console_progress import Progress, Terminal, labelled
from crossward.console_streams import Mode, choose, chosen, err, line, note, out
from crossward.core.plain_text import visible, visible_json

__all__ = [
    "Mode",
    "Progress",
    "Terminal",
    "choose",
    "chosen",
    "guarded",
    "interrupt_when_terminated",
    "labelled",
    "line",
    "note",
    "show_columns",
    "show_json",
    "show_languages",
    "show_table",
    "tell",
]


_NAMED_BY_A_PATH = (
    *(errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EROFS, errno.EEXIST),
    *(errno.ENAMETOOLONG, errno.ELOOP),
)


def show_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on stdout: the first column and columns of words begin at the left, numbers end at the right."""
    table = Table(title=Text(visible(title)), title_justify="left")
    for i, name in enumerate(header):
        words = i == 0 or any(isinstance(value := row[i], str) and value[:1].isalpha() for row in rows)
        table.add_column(Text(visible(name)), justify="left" if words else "right")
    for row in rows:
        table.add_row(*(Text(_shown(value)) for value in row))  # as it is: square brackets are no markup
    out.print(table)


def show_columns(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Texts side by side on stdout: each column wraps its own, which begin at the left."""
    width = out.width if out.is_terminal else 160
    table = Table(title=Text(visible(title)), title_justify="left", width=width, show_lines=True)
    table.add_column(Text(header[0]))
    for name in header[1:]:
        table.add_column(Text(name), ratio=1, overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(value)) for value in row))
    out.print(table)


def show_languages(summary: dict[str, Any], *, json: bool, title: str, bare: bool = False) -> None:
    """A summary per language, as JSON (`bare`: the languages alone) or as a table."""
    languages = summary["languages"]
    if json:
        show_json(languages if bare else summary)
        return
    hidden = {"curve", "noise", "spread_quantiles", "length_correlation"}
    keys = [key for key in next(iter(languages.values()), {}) if key not in hidden]
    rows = [[language, *(counts[key] for key in keys)] for language, counts in languages.items()]
    show_table(title, ["language", *(key.replace("_", " ") for key in keys)], rows)


def show_json(value: Any) -> None:
    """One JSON document on stdout; what could steer a terminal is escaped in it, and means the same."""
    sys.stdout.write(visible_json(json.dumps(value, ensure_ascii=False)) + "\n")


def _shown(value: object) -> str:
    match value:
        case None:
            return "–"
        case float():
            return f"{value:.4g}"
        case dict():
            return visible(", ".join(f"{key} {count}" for key, count in value.items())) or "none"
        case _:
            return visible(str(value))


def guarded(command: Callable[[], object], *, again: str, resumes: bool) -> int:
    """Run a command; returns its exit code.

    `again` is the command line to type after a stop, `resumes` whether it then continues where it stopped or begins
    anew. CROSSWARD_TRACEBACK=1 shows the traceback behind a sentence.
    """
    try:
        command()
    except KeyboardInterrupt:
        with _calm():
            if resumes:
                return _tell(f"stopped: what was finished is kept; run the same command again to continue: {again}")
            return _tell(f"stopped before the output was written: run the same command again: {again}")
    except ValueError as error:
        return _tell(" ".join(str(error).split()), error)
    except ModuleNotFoundError as error:
        return _tell(f"the package {error.name!r} is not installed: pip install {error.name}", error)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _tell(f"no space left on the disk of {error.filename or 'the output'}: free some, then run {again}")
        if error.errno in (errno.EIO, errno.EFBIG, errno.ESTALE):
            where = error.filename or "the output"
            return _tell(f"{where}: {error.strerror}: look at the disk, then run {again}", error)
        if error.errno in _NAMED_BY_A_PATH:
            return _tell(f"{error.filename}: {error.strerror}", error)
        raise
    return 0


def interrupt_when_terminated() -> None:
    """A cluster that takes its machine back sends SIGTERM: let it end a command as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        handler = signal.getsignal(signal.SIGINT)  # an event loop has its own; a shell's background job ignores it
        (handler if callable(handler) else signal.default_int_handler)(signal.SIGINT, frame)

    signal.signal(signal.SIGTERM, interrupt)


@contextmanager
def _calm() -> Iterator[None]:
    """Who presses Ctrl-C twice still reads the sentence; a later one ends the process at once, with its exit code."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, frame: os._exit(2))


def _tell(sentence: str, error: BaseException | None = None) -> int:
    if error is not None and os.environ.get("CROSSWARD_TRACEBACK"):
        err.print_exception()
    tell(sentence)
    return 2


def tell(sentence: str) -> None:
    """An error in a sentence, on stderr; a JSON object where progress is."""
    if chosen() == "json":
        err.file.write(visible_json(json.dumps({"event": "error", "text": sentence}, ensure_ascii=False)) + "\n")
        return
    note(f"crossward: {sentence}")

"""Which display a command talks through: bars, plain lines, JSON lines or none, as was chosen for the process."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from crossward.console_lines import JsonLines, LanguageMeters, Lines, Nothing
from crossward.console_live import Bars, on_stderr
from crossward.console_streams import resolved
from crossward.engines.protocols import Advance

if TYPE_CHECKING:
    from crossward.pipeline.progress import Portion
    from crossward.store.manifest import StageManifest


class Terminal:
    """Progress for people and programs; with `bars` off, plain lines where there would be bars."""

    def __init__(self, *, bars: bool = True) -> None:
        self._display = _display(bars=bars)

    def say(self, line: str) -> None:
        self._display.say(line)

    def task(self, title: str, total: int | None) -> AbstractContextManager[Advance]:
        return self._display.task(title, total)

    def sampling(self, title: str, portions: "Mapping[str, Portion]", n: int) -> AbstractContextManager[LanguageMeters]:
        return self._display.sampling(title, portions, n)

    def trained(self, title: str, metrics: Path) -> None:
        self._display.trained(title, metrics)

    def plan(self, titles: Sequence[str]) -> None:
        self._display.plan(titles)

    def stage_begun(self, title: str) -> None:
        self._display.stage_begun(title)

    def stage_ended(self, title: str, done: "StageManifest", *, made: bool) -> None:
        self._display.stage_ended(title, done, made=made)


Progress = Terminal | Lines | JsonLines | Nothing


def labelled(title: str) -> Progress:
    """Progress of one of several runs at a time: no bars, and its name before every line."""
    match resolved():
        case "json":
            return JsonLines(run=title)
        case "none":
            return Nothing()
        case _:
            return Lines(label=f"[{title}] ")


def _display(*, bars: bool) -> Bars | Lines | JsonLines | Nothing:
    match resolved():
        case "bar" if bars:
            return on_stderr()
        case "json":
            return JsonLines()
        case "none":
            return Nothing()
        case _:
            return Lines()

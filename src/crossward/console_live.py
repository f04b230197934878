"""Progress on a terminal: bars that are redrawn in place, the stage of the run above them, languages below.

One display a process, whoever talks: two that redraw at once would overwrite each other. What has ended scrolls away
above it as lines.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from crossward.console_lines import SHORT_S, LanguageMeters, Stages
from crossward.console_meter import Meter, clock_time
from crossward.console_streams import err
from crossward.core.plain_text import visible, visible_line
from crossward.engines.protocols import Advance

if TYPE_CHECKING:
    from crossward.pipeline.progress import Portion
    from crossward.store.manifest import StageManifest

COLUMNS = ("language", "prompts", "responses", "mean chars", "truncated", "tokens/s")


@dataclass(slots=True, kw_only=True, eq=False)
class _Bar:
    """A task that is going on."""

    title: str
    meter: Meter
    languages: LanguageMeters | None = field(default=None)


class Bars:
    """A pipeline.progress.Progress on one terminal."""

    def __init__(self, console: Console) -> None:
        self._console, self._live = console, None
        self._stages, self._run = Stages(), Meter(None)
        self._active: list[_Bar] = []

    def say(self, line: str) -> None:
        self._console.print(visible(line), markup=False)

    @contextmanager
    def task(self, title: str, total: int | None) -> Iterator[Advance]:
        with self._shown(_Bar(title=title, meter=Meter(total))) as bar:
            yield bar.meter.advance

    @contextmanager
    def sampling(self, title: str, portions: "Mapping[str, Portion]", n: int) -> Iterator[LanguageMeters]:
        left = n * sum(portion.prompts - portion.before for portion in portions.values())
        with self._shown(_Bar(title=f"{title}: responses", meter=Meter(left))) as bar:
            bar.languages = LanguageMeters(portions, n, bar.meter.advance)
            yield bar.languages
        if bar.meter.seconds >= SHORT_S:
            self._console.print(_by_language(bar.languages))

    def trained(self, title: str, metrics: Path) -> None:
        return None

    def plan(self, titles: Sequence[str]) -> None:
        self._stages.plan(titles)
        self._run = Meter(len(titles))

    def stage_begun(self, title: str) -> None:
        if line := self._stages.told_before():
            self.say(line)
        self._stages.current = title

    def stage_ended(self, title: str, done: "StageManifest", *, made: bool) -> None:
        self._stages.current = None
        self._stages.before += not made
        if made:
            self.say(self._stages.told_end(title, done.seconds))

    @contextmanager
    def _shown(self, bar: _Bar) -> Iterator[_Bar]:
        """The bar within the display, which is there as long as any bar is."""
        self._active.append(bar)
        if self._live is None:
            self._live = Live(get_renderable=self._drawn, console=self._console, transient=True, refresh_per_second=5)
            self._live.start()
        try:
            yield bar
        finally:
            self._active.remove(bar)
            if not self._active:
                self._live.stop()
                self._live = None
        if bar.meter.seconds >= SHORT_S:
            self.say(f"{bar.title}: {bar.meter.done} in {bar.meter.seconds:.1f} s")

    def _drawn(self) -> RenderableType:
        """What is seen at this moment; called by the thread that redraws."""
        active = list(self._active)
        parts: list[RenderableType] = []
        stage = self._stages.current
        if stage is not None and (place := self._stages.place(stage)):
            # A bar that belongs to the stage mostly names it.
            name = "" if any(bar.title.startswith(stage) for bar in active) else f" · {visible_line(stage)}"
            parts.append(Text(f"{place}{name} · {clock_time(self._run.seconds)} since the start", style="dim"))
        if active:
            parts.append(_grid(active))
        parts += [_by_language(bar.languages) for bar in active if bar.languages is not None]
        return Group(*parts)


@cache
def on_stderr() -> Bars:
    """The display of this process."""
    return Bars(err)


def _grid(active: Sequence[_Bar]) -> Table:
    """Title, bar, counts, rate, elapsed, remaining."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True, overflow="ellipsis")
    for _ in range(5):
        grid.add_column(no_wrap=True)
    for bar in active:
        meter = bar.meter
        counts = f"{meter.done}" if meter.total is None else f"{meter.done}/{meter.total}"
        grid.add_row(
            Text(visible_line(bar.title)),
            ProgressBar(total=meter.total, completed=meter.done, width=24, pulse=meter.done == 0),
            Text(counts),
            Text("starting" if meter.rate is None else f"{meter.rate:.1f}/s"),
            Text(clock_time(meter.seconds)),
            Text("" if meter.total is None else f"{clock_time(meter.seconds_left)} left"),
        )
    return grid


def _by_language(meters: LanguageMeters) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for i, name in enumerate(COLUMNS):
        table.add_column(Text(name), justify="left" if i == 0 else "right", no_wrap=True)
    for language, meter in meters.meters.items():
        table.add_row(Text(visible_line(language)), *map(Text, meter.cells()))
    return table

"""Progress without a terminal: plain lines now and then, JSON lines for a program, or nothing.

Each class is a pipeline.progress.Progress. The stages of a run are counted here too, for every display.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossward.console_meter import LanguageMeter, Meter
from crossward.console_streams import err, note
from crossward.core.plain_text import visible, visible_json
from crossward.engines.protocols import Advance

if TYPE_CHECKING:
    from crossward.pipeline.progress import Portion
    from crossward.store.manifest import StageManifest

EVERY_S = 10.0  # between two lines of one task
SHORT_S = 2.0  # what is done sooner is not told


class Stages:
    """Where in its run the work is: which stage of how many, and how many were there before."""

    def __init__(self) -> None:
        self.titles: Sequence[str] = ()
        self.current: str | None = None
        self.before = 0

    def plan(self, titles: Sequence[str]) -> None:
        self.titles, self.current, self.before = titles, None, 0

    def place(self, title: str) -> str:
        """stage 3 of 11; nothing for a stage outside the plan."""
        if title not in self.titles:
            return ""
        return f"stage {self.titles.index(title) + 1} of {len(self.titles)}"

    def told_before(self) -> str | None:
        """A line about the stages that were there, told once, before the first that is made."""
        n, self.before = self.before, 0
        return f"{n} of {len(self.titles) or n} stages were there already" if n else None

    def told_end(self, title: str, seconds: float) -> str:
        place = self.place(title)
        return f"{title}: done in {seconds:.1f} s" + (f" ({place})" if place else "")


class LanguageMeters:
    """The meters of all languages of one piece of sampling; a pipeline.progress.Sampled."""

    def __init__(self, portions: "Mapping[str, Portion]", n: int, advance: Advance) -> None:
        self.meters = {
            language: LanguageMeter(prompts=portion.prompts, before=portion.before, n=n)
            for language, portion in portions.items()
        }
        self._advance = advance

    def of(self, language: str) -> Advance:
        meter = self.meters[language]
        meter.begin()

        def advance(n: int) -> None:
            meter.advance(n)
            self._advance(n)

        return advance

    def note(self, language: str, counts: Mapping[str, Any]) -> None:
        self.meters[language].note(counts)


class Nothing:
    """--quiet: results and errors alone."""

    @contextmanager
    def task(self, title: str, total: int | None) -> Iterator[Advance]:
        yield lambda n: None

    @contextmanager
    def sampling(self, title: str, portions: "Mapping[str, Portion]", n: int) -> Iterator[LanguageMeters]:
        yield LanguageMeters(portions, n, lambda n: None)

    def plan(self, titles: Sequence[str]) -> None:
        return None

    def stage_begun(self, title: str) -> None:
        return None

    def stage_ended(self, title: str, done: "StageManifest", *, made: bool) -> None:
        return None

    def trained(self, title: str, metrics: Path) -> None:
        return None

    def say(self, line: str) -> None:
        return None


class Lines:
    """A plain line every ten seconds, and one when a stage or a longer task ends; `label` stands before each."""

    def __init__(self, *, label: str = "", write: Callable[[str], None] | None = None) -> None:
        self._label, self._write = label, write or note
        self._stages = Stages()

    def say(self, line: str) -> None:
        self._write(self._label + visible(line))

    @contextmanager
    def task(self, title: str, total: int | None) -> Iterator[Advance]:
        meter, told = Meter(total), 0.0

        def advance(n: int) -> None:
            nonlocal told
            meter.advance(n)
            if meter.seconds - told >= EVERY_S and meter.done and meter.done != total:
                told = meter.seconds
                self.say(f"{title}: {meter.told()}")

        yield advance
        if meter.seconds >= SHORT_S:
            self.say(f"{title}: {meter.done} in {meter.seconds:.1f} s")

    @contextmanager
    def sampling(self, title: str, portions: "Mapping[str, Portion]", n: int) -> Iterator[LanguageMeters]:
        left = n * sum(portion.prompts - portion.before for portion in portions.values())
        with self.task(f"{title}: responses", left) as advance:
            timed = Meter(left)
            meters = LanguageMeters(portions, n, advance)
            yield meters
        if timed.seconds >= EVERY_S:
            for language, meter in meters.meters.items():
                prompts, responses, mean, truncated, rate = meter.cells()
                self.say(
                    f"{title}: {language}: {prompts} prompts, {responses} responses, mean {mean} characters, "
                    f"{truncated} truncated, {rate} tokens/s"
                )

    def trained(self, title: str, metrics: Path) -> None:
        return None

    def plan(self, titles: Sequence[str]) -> None:
        self._stages.plan(titles)

    def stage_begun(self, title: str) -> None:
        if line := self._stages.told_before():
            self.say(line)

    def stage_ended(self, title: str, done: "StageManifest", *, made: bool) -> None:
        self._stages.before += not made
        if made:
            self.say(self._stages.told_end(title, done.seconds))


class JsonLines:
    """One JSON object a line: `event`, `stage`, `task`, `done`, `total`, `rate`, `seconds_left`; for programs."""

    def __init__(
        self, *, run: str | None = None, write: Callable[[str], None] | None = None, every_s: float = 1.0
    ) -> None:
        self._write, self._every_s = write or _raw_to_stderr, every_s
        self._run = {} if run is None else {"run": run}
        self._stages = Stages()

    def _tell(self, event: str, **more: Any) -> None:
        place = {} if self._stages.current is None else {"stage": self._stages.current}
        told = json.dumps({"event": event} | self._run | place | more, ensure_ascii=False)
        self._write(visible_json(told) + "\n")

    def say(self, line: str) -> None:
        self._tell("say", text=line)

    @contextmanager
    def task(self, title: str, total: int | None) -> Iterator[Advance]:
        meter, told = Meter(total), 0.0
        name = title.removeprefix(f"{self._stages.current}: ")
        self._tell("begin", task=name, done=0, total=total)

        def advance(n: int) -> None:
            nonlocal told
            meter.advance(n)
            if meter.seconds - told >= self._every_s:
                told = meter.seconds
                self._tell(
                    "progress",
                    task=name,
                    done=meter.done,
                    total=total,
                    rate=_rounded(meter.rate),
                    seconds_left=_rounded(meter.seconds_left),
                )

        yield advance
        self._tell("end", task=name, done=meter.done, total=total, seconds=round(meter.seconds, 3))

    @contextmanager
    def sampling(self, title: str, portions: "Mapping[str, Portion]", n: int) -> Iterator[LanguageMeters]:
        left = n * sum(portion.prompts - portion.before for portion in portions.values())
        with self.task(f"{title}: responses", left) as advance:
            meters = LanguageMeters(portions, n, advance)
            yield meters
        for language, meter in meters.meters.items():
            self._tell(
                "language",
                language=language,
                prompts_done=meter.prompts_done,
                prompts=meter.prompts,
                responses=meter.responses,
                mean_chars=_rounded(meter.mean_chars),
                truncated_share=_rounded(meter.truncated_share),
                tokens_per_second=_rounded(meter.tokens_per_second),
            )

    def trained(self, title: str, metrics: Path) -> None:
        return None

    def plan(self, titles: Sequence[str]) -> None:
        self._stages.plan(titles)
        self._tell("plan", stages=list(titles))

    def stage_begun(self, title: str) -> None:
        self._stages.current = title
        self._tell("stage_begin")

    def stage_ended(self, title: str, done: "StageManifest", *, made: bool) -> None:
        self._stages.current = title
        self._tell("stage_end", seconds=done.seconds, made="now" if made else "before")
        self._stages.current = None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _raw_to_stderr(text: str) -> None:
    err.file.write(text)
    err.file.flush()

"""Progress as it is seen: on a terminal, in a log, by a program; and not at all."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from rich.console import Console

from crossward import console, console_lines, console_streams
from crossward.console_lines import JsonLines, Lines
from crossward.console_live import Bars
from crossward.console_meter import LanguageMeter, Meter
from crossward.pipeline.progress import Portion
from crossward.store.manifest import StageManifest

TITLES = ("reference/evaluate", "iteration-1/sample", "iteration-1/score")
DONE = StageManifest(stage="score", inputs={}, settings={}, counts={}, seconds=12.34, shards={})
NOTED = {"prompts": 2, "responses": 8, "truncated": 2, "tokens": 80, "mean_chars": 21.0}


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Written:
    """Lines as a display wrote them."""

    lines: list[str] = field(default_factory=list)

    def __call__(self, line: str) -> None:
        self.lines.append(line)

    @property
    def events(self) -> list[dict]:
        return [json.loads(line) for line in self.lines]


@pytest.fixture(autouse=True)
def _mode() -> Iterator[None]:
    before = console.chosen()
    yield
    console.choose(before)


def test_a_rate_leaves_out_what_came_before_the_first_units():
    clock = Clock()
    meter = Meter(100, clock=clock)
    assert (meter.rate, meter.seconds_left, meter.told()) == (None, None, "0/100")
    clock.now = 30.0
    meter.advance(40)  # steps of a training that is continued, after the model was loaded
    clock.now = 40.0
    meter.advance(20)
    assert (meter.rate, meter.seconds_left) == (2.0, 20.0)
    assert Meter(None, clock=clock).told() == "0"


def test_of_a_language_what_is_not_known_is_not_told():
    clock = Clock()
    meter = LanguageMeter(prompts=10, before=3, n=4, clock=clock)
    assert meter.cells() == ["3/10", "0", "–", "–", "–"]
    meter.begin()
    meter.advance(9)
    assert meter.cells()[:2] == ["5/10", "9"]
    clock.now = 4.0
    meter.note(NOTED)
    assert meter.cells() == ["5/10", "9", "21", "25.0%", "20"]
    meter.note(NOTED | {"tokens": 0})
    assert meter.prompts_done == 7


def test_plain_lines_tell_stages_and_languages(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(console_lines, "EVERY_S", 0.0)
    monkeypatch.setattr(console_lines, "SHORT_S", 0.0)
    written = Written()
    lines = Lines(label="[cell] ", write=written)
    lines.plan(TITLES)
    lines.stage_ended(TITLES[0], DONE, made=False)
    lines.stage_begun(TITLES[1])
    with lines.sampling(TITLES[1], {"es": Portion(prompts=3, before=1)}, 4) as shown:
        advance = shown.of("es")
        advance(4)
        advance(4)
        shown.note("es", NOTED)
    lines.stage_ended(TITLES[1], DONE, made=True)
    lines.say("a \x1b[31mb")
    with pytest.raises(KeyError), lines.task("broken", 3):
        raise KeyError("a task that fails is not told as done")
    told = [line.removeprefix("[cell] ") for line in written.lines]
    assert all(line.startswith("[cell] ") for line in written.lines)
    assert told[0] == "1 of 3 stages were there already"
    assert told[1].startswith("iteration-1/sample: responses: 4/8, ")
    assert "s left" in told[1]
    assert told[2].startswith("iteration-1/sample: responses: 8 in ")
    assert told[3].startswith("iteration-1/sample: es: 3/3 prompts, 8 responses, mean 21 characters, 25.0% truncated, ")
    assert told[4:] == ["iteration-1/sample: done in 12.3 s (stage 2 of 3)", "a ␛[31mb"]


def test_what_is_short_is_not_told():
    written = Written()
    lines = Lines(write=written)
    with lines.task("reading", None) as advance:
        advance(5)
    with lines.sampling("sample", {"es": Portion(prompts=1)}, 1) as shown:
        shown.of("es")(1)
    assert written.lines == []


def test_json_lines_hold_what_a_program_wants():
    written = Written()
    lines = JsonLines(run="cell, seed 1", write=written, every_s=0.0)
    lines.plan(TITLES)
    lines.stage_begun(TITLES[1])
    with lines.sampling(TITLES[1], {"es": Portion(prompts=2)}, 4) as shown:
        shown.of("es")(8)
        shown.note("es", NOTED)
    lines.stage_ended(TITLES[1], DONE, made=True)
    lines.say("ünï\ncode")
    assert all(line.count("\n") == 1 and line.endswith("\n") for line in written.lines)
    assert [event["event"] for event in written.events] == [
        *("plan", "stage_begin", "begin", "progress", "end", "language", "stage_end", "say")
    ]
    assert all(event["run"] == "cell, seed 1" for event in written.events)
    assert all(event["stage"] == TITLES[1] for event in written.events[1:7])
    progress = written.events[3]
    assert (progress["task"], progress["done"], progress["total"]) == ("responses", 8, 8)
    assert progress["rate"] > 0
    assert progress["seconds_left"] == 0
    assert (written.events[5]["truncated_share"], written.events[5]["mean_chars"]) == (0.25, 21.0)
    assert written.events[6]["seconds"] == 12.34
    assert "stage" not in written.events[7]


def shown_by(bars: Bars, terminal: Console) -> str:
    """What stands on the screen at this moment."""
    with terminal.capture() as captured:
        terminal.print(bars._drawn())
    return captured.get()


def test_bars_show_the_stage_and_every_language_and_are_gone_after():
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=120, color_system=None)
    bars = Bars(terminal)
    bars.plan(TITLES)
    bars.stage_ended(TITLES[0], DONE, made=False)
    bars.stage_begun(TITLES[1])
    with bars.task("outer", None), bars.sampling(TITLES[1], {"es": Portion(prompts=3, before=1)}, 4) as shown:
        assert "starting" in shown_by(bars, terminal)
        shown.of("es")(8)
        shown.note("es", NOTED)
        drawn = shown_by(bars, terminal)
        bars.say("a line\x07 above")
    assert "stage 2 of 3" in drawn
    assert "iteration-1/sample: responses" in drawn
    assert "8/8" in drawn
    for text in ("language", "3/3", "25.0%", "0:00:00 left"):
        assert text in drawn
    assert shown_by(bars, terminal).strip() == "stage 2 of 3 · iteration-1/sample · 0:00:00 since the start"
    with pytest.raises(KeyError), bars.task("broken", 3):
        raise KeyError
    bars.stage_ended(TITLES[1], DONE, made=True)
    assert shown_by(bars, terminal).strip() == ""
    assert "iteration-1/sample: done in 12.3 s (stage 2 of 3)" in screen.getvalue()
    assert "a line␇ above" in screen.getvalue()
    assert "1 of 3 stages were there already" in screen.getvalue()


def test_the_mode_decides_and_auto_asks_the_terminal(monkeypatch: pytest.MonkeyPatch):
    kinds = {}
    for mode in ("auto", "bar", "plain", "json", "none"):
        console.choose(mode)
        kinds[mode] = type(console.Terminal()._display).__name__
    assert kinds == {"auto": "Lines", "bar": "Bars", "plain": "Lines", "json": "JsonLines", "none": "Nothing"}
    console.choose("bar")
    assert type(console.Terminal(bars=False)._display).__name__ == "Lines"
    console.choose("auto")
    monkeypatch.setattr(console_streams.err, "_force_terminal", True)
    assert type(console.Terminal()._display).__name__ == "Bars"


def test_an_error_is_an_object_where_progress_is(capsys: pytest.CaptureFixture[str]):
    console.choose("json")
    console.tell("wrong \x1b[0m")
    assert json.loads(capsys.readouterr().err) == {"event": "error", "text": "wrong \x1b[0m"}
    console.choose("none")
    console.tell("wrong \x1b[0m")
    assert capsys.readouterr().err == "crossward: wrong ␛[0m\n"

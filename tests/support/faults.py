"""A whole recipe that faults are thrown at: run in forked children, and compared with an undisturbed run of it.

`Bench` makes the recipe (two iterations, two languages, translations and verdicts from a server on the loopback) and
runs `crossward` on it in children of a process that has imported everything and started no thread, so that a run costs
seconds. What goes wrong is given as a function that the child calls before it begins (tests/support/sabotage.py).
`contents` is what two runs are compared by.
"""

import json
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tests.support.chat_server import Reply, Request, chat_server, choices
from tests.support.judge_server import named, question_of

ROOT = Path(__file__).parent.parent.parent
Fault = Callable[[], None]
PATIENCE_S = 600.0
UNTOLD = ("report.html", "report.md", "report.json")  # hold times of day and seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a run ended: its exit code, or minus the signal that ended it, and what it said on stderr."""

    code: int
    said: str
    seconds: float

    @property
    def sentence(self) -> str:
        """The last line: the one sentence of a run that failed."""
        return self.said.rstrip("\n").rsplit("\n", 1)[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A recipe on the disk, the server that it asks, and the undisturbed run, made with it."""

    folder: Path
    run: Path
    recipe: Path
    mood: Path  # what the server reads before it answers: see `moody`

    def go(self, fault: Fault | None = None, *, redo: Sequence[str] = (), overrides: Sequence[str] = ()) -> Ended:
        """Run the recipe from what is in its folder; `fault` is called first, in the child."""
        return _ended(self.start(fault, redo=redo, overrides=overrides))

    def start(self, fault: Fault | None = None, *, redo: Sequence[str] = (), overrides: Sequence[str] = ()) -> "Child":
        """As `go`, without waiting."""
        return Child.started(_run, (str(self.recipe), tuple(redo), tuple(overrides)), fault)

    def forget(self) -> None:
        """Begin anew: no run folder."""
        shutil.rmtree(self.run, ignore_errors=True)

    @property
    def undisturbed(self) -> Path:
        """The run that nothing happened to."""
        return self.folder / "undisturbed"

    def restore(self) -> None:
        """The finished, undisturbed run again, in the place of what is there."""
        self.forget()
        shutil.copytree(self.undisturbed, self.run, symlinks=True)


class Child:
    """A run that goes on."""

    def __init__(self, process: BaseProcess, said: Path) -> None:
        self.process = process
        self._said = said
        self._begun = time.monotonic()

    @classmethod
    def started(cls, work: Callable[..., int], arguments: tuple[Any, ...], fault: Fault | None) -> "Child":
        handle, name = tempfile.mkstemp(prefix="crossward-said-")
        os.close(handle)
        process = _children().Process(target=_in_child, args=(work, arguments, fault, name))
        process.start()
        return cls(process, Path(name))

    def signal(self, number: int) -> None:
        """Send a signal, if the child is still there."""
        assert self.process.pid is not None
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, number)

    def burn(self, seconds: float) -> bool:
        """Wait until the child has used so much of the processor, whatever else runs; False where it ended before."""
        tick = 1 / os.sysconf("SC_CLK_TCK")
        while self.process.exitcode is None:
            try:
                used = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
            except OSError:
                break
            if sum(map(int, used)) * tick >= seconds:
                return True
            time.sleep(tick / 2)
        return False

    def wait(self, seconds: float | None = None) -> Ended | None:
        """How it ended; None where it goes on after so many seconds."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            return None
        said = self._said.read_text(encoding="utf-8", errors="replace")
        self._said.unlink(missing_ok=True)
        return Ended(code=self.process.exitcode, said=said, seconds=time.monotonic() - self._begun)


def call(*arguments: object, fault: Fault | None = None) -> Ended:
    """`crossward` with these arguments in a child."""
    return _ended(Child.started(_command, (list(map(str, arguments)),), fault))


def _ended(child: Child) -> Ended:
    ended = child.wait(PATIENCE_S)
    if ended is None:
        child.signal(signal.SIGKILL)
        raise AssertionError(f"a child goes on after {PATIENCE_S:g} s: {child.wait()}")
    return ended


def _in_child(work: Callable[..., int], arguments: tuple[Any, ...], fault: Fault | None, said: str) -> None:
    """stderr into a file, results nowhere; then the fault, then the work, which returns an exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(said, os.O_WRONLY | os.O_TRUNC), 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever began this may have it ignored
    if fault is not None:
        fault()
    raise SystemExit(work(*arguments))


def _run(recipe: str, redo: tuple[str, ...], overrides: tuple[str, ...]) -> int:
    """What `crossward run` does, but for the report: its charts take as long as all the rest."""
    from crossward import console
    from crossward.config import load
    from crossward.pipeline.iterate import run

    console.interrupt_when_terminated()
    return console.guarded(
        lambda: run(load(Path(recipe), overrides), progress=console.Terminal(), redo=redo),
        again=f"crossward run {recipe}",
        resumes=True,
    )


def _command(arguments: list[str]) -> int:
    from crossward import cli

    sys.argv = ["crossward", *arguments]
    cli.main()
    raise AssertionError("main() ends with SystemExit")


def _children() -> Any:
    """Processes forked from one that has imported what a run imports; its only thread is its own."""
    context = multiprocessing.get_context("forkserver")
    if not _children_begun:
        _children_begun.append(True)
        before = dict(os.environ)
        os.environ |= {
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "NO_PROXY": "127.0.0.1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]),
            "PYTHONWARNINGS": "ignore",
        }
        context.set_forkserver_preload(["tests.support.preloaded"])
        multiprocessing.forkserver.ensure_running()  # pyright: ignore[reportAttributeAccessIssue]
        os.environ.clear()
        os.environ.update(before)
    return context


_children_begun: list[bool] = []


@contextmanager
def bench(folder: Path, **changes: Any) -> Iterator[Bench]:
    """The recipe, its server, and the undisturbed run. `changes` replace whole sections of the recipe."""
    from tests.support.recipes import make_recipe, write_recipe

    folder.mkdir(parents=True, exist_ok=True)
    mood = folder / "mood"
    mood.write_text("healthy")
    with served(mood) as url:
        recipe = make_recipe(folder, **changes)
        for model in ("policy", "reference"):
            _end_soon(folder / model / "generation_config.json")
        server = {"base_url": url, "concurrency": 2}
        recipe |= {"shard_size": 1, "reward": {"view": "translated"}}
        recipe["prompts"] |= {"limit": 2}
        recipe |= {"translator": {"engine": "openai", "model": "translator", "parse": "plain", **server}}
        recipe["sample"] |= {"n": 4, "max_new_tokens": 16}
        recipe["score"] = {"noise_sample": 1}
        recipe["evaluate"] |= {
            "judge": {"model": "judge", "attempts": 1, **server},
            "baseline": "reference",
            "length_control": "none",
        }
        made = Bench(folder=folder, run=Path(recipe["run"]), recipe=write_recipe(folder, recipe | changes), mood=mood)
        ended = made.go()
        assert ended.code == 0, ended.said
        shutil.copytree(made.run, made.undisturbed)
        yield made


def _end_soon(generation: Path) -> None:
    """Let random weights end a response after a dozen tokens: fifteen more tokens end it."""
    tree = json.loads(generation.read_text())
    tree["eos_token_id"] += range(100, 115)
    generation.write_text(json.dumps(tree))


@contextmanager
def served(mood: Path) -> Iterator[str]:
    """The address of the server, in a process of its own: no thread of it is in a process that is forked."""
    context = multiprocessing.get_context("fork")
    near, far = context.Pipe()
    process = context.Process(target=_serve, args=(mood, far), daemon=True)
    process.start()
    try:
        yield near.recv()
    finally:
        process.kill()
        process.join()


def _serve(mood: Path, pipe: Any) -> None:
    with chat_server(lambda request, before: moody(mood.read_text(), request, before)) as server:
        pipe.send(server.base_url)
        while True:
            time.sleep(60)


def moody(mood: str, request: Request, before: int) -> Reply:
    """An answer that depends on the question alone where the server is healthy; else what its mood says.

    A mood may be of one model alone: `judge: 500`.
    """
    whom, _, fault = mood.rpartition(": ")
    match fault if whom in ("", request["model"]) else "healthy":
        case "500":
            return Reply(status=500, body={"error": "broken"})
        case "rubbish":
            return Reply(body='{"choices": [{"mess')
        case "other":
            return Reply(body={"choices": [{"message": {"content": "I like both."}}]})
        case "reset":
            return Reply(drop=True)
        case "cut":
            return _answered(request, cut=True)
        case "slow":
            return _answered(request, delay_s=0.3)
        case "every second" if before % 2:
            return Reply(status=500, body={"error": "broken"})
        case _:
            return _answered(request)


def _answered(request: Request, **how: Any) -> Reply:
    reply = named(request) if request["model"] == "judge" else choices(f"In English: {question_of(request)[-24:]}")
    return Reply(body=reply.body, **how)


def contents(run: Path) -> dict[str, Any]:
    """Every file of a run by its path, as what two runs must have in common.

    Bytes, and what is read of a manifest without its seconds; lines of judgements sorted, as answers come in any order.
    The report tells of times: that it is there is all that is compared. So is the run's own place in its config.
    """
    found: dict[str, Any] = {}
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        if path.is_dir():
            found[name + "/"] = None
        elif path.name in UNTOLD:
            found[name] = bool(path.stat().st_size)
        else:
            found[name] = _comparable(path)
    return found


def _comparable(path: Path) -> Any:
    content = path.read_bytes()
    match path.name:
        case "stage.json":
            return _comparable_manifest(content)
        case "provenance.json":  # a checkout may change while tests run
            return re.sub(rb'"(changed|commit|checksum)": .*', b"", content)
        case "trained.json":
            return re.sub(rb'"(seconds|checksum)": [^,}]*', b"", content)
        case "config.yaml":
            return re.sub(rb"(?m)^(run: |# checksum ).*", b"", content)
        case "judgements.jsonl":
            return sorted(content.split(b"\n"))
        case _:
            return content


def _comparable_manifest(content: bytes) -> Any:
    try:
        tree = json.loads(content)
        tree["counts"].get("training", {}).pop("seconds", None)
        return {key: value for key, value in tree.items() if key not in ("checksum", "seconds")}
    except (ValueError, KeyError, AttributeError):
        return content  # damaged


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """The paths that are not the same in two runs, with what is wrong."""
    told = [f"missing: {name}" for name in expected.keys() - found.keys()]
    told += [f"left over: {name}" for name in found.keys() - expected.keys()]
    told += [f"differs: {name}" for name in expected.keys() & found.keys() if expected[name] != found[name]]
    return sorted(told)

"""Steps for a cluster's processes that need no model: numbers are added, slowly or until something is killed."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from crossward.core.records import ResponseLogprob
from crossward.engines.protocols import Advance, Judged, Work, no_progress
from crossward.engines.workers import Piece, Step

ROOT = Path(__file__).parent.parent.parent
PIECES = [Piece(language="es", index=index, target=Path(f"part-{index}"), n=3) for index in range(8)]


class Adder:
    """An engine; `noted` gets a line for each that is opened and each piece that is done."""

    def __init__(self, noted: Path | None = None, problem: str = "") -> None:
        self.noted = noted
        match problem:
            case "no model":
                raise ValueError("model folder somewhere does not exist")
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
        self.note(f"open {os.getpid()}")

    def note(self, line: str) -> None:
        if self.noted is not None:
            with self.noted.open("a") as file:
                file.write(line + "\n")

    def close(self) -> None:
        """Nothing is open."""


def add(by: int, seconds: float, how: str, engine: Adder, piece: Piece, value: int | None, advance: Advance) -> int:
    """`by` more than the value; what goes wrong with piece 3, `how` says."""
    time.sleep(seconds)
    if piece.index == 3:
        match how:
            case "bad":
                raise ValueError("row 3 of it cannot be read")
            case "missing":
                Path("/nowhere/at/all").read_bytes()
            case "bug":
                raise KeyError("a bug")
            case "waits":  # for a file that the driver makes
                until = time.monotonic() + 30
                while not Path(f"{engine.noted}.go").exists():
                    if time.monotonic() > until:
                        raise ValueError("nobody took the piece before this one")
                    time.sleep(0.05)
            case "poison":
                os.kill(os.getpid(), signal.SIGKILL)
            case "killed once" if not (mark := Path(f"{engine.noted}.killed")).exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
    engine.note(f"did {piece.index}")
    return (value or 0) + by * (piece.index + 1)


def step(
    name: str, by: int = 1, *, seconds: float = 0.0, how: str = "", noted: Path | None = None, opening: str = ""
) -> Step:
    return Step(name=name, open=partial(Adder, noted, opening), do=partial(add, by, seconds, how))


@contextmanager
def ray_session() -> Iterator[None]:
    """Ray's processes find what this one imports; what was connected is not any more at the end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), str(ROOT)]))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")
        try:
            yield
        finally:
            import ray

            ray.shutdown()


class LengthScorer:
    """A scorer that gives every response its length; the process is killed at the first instruction "kill", once."""

    def __init__(self, mark: Path) -> None:
        self.work = Work()
        self.mark = mark

    def score(
        self, groups: Sequence[Judged], *, per_token: bool = False, advance: Advance = no_progress
    ) -> list[tuple[ResponseLogprob | None, ...]]:
        for group in groups:
            match group.instruction:
                case "kill" if not self.mark.exists():
                    self.mark.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                case "bad":
                    raise ValueError("response 0 to a group holds token id 9, but the model knows ids below 8")
            self.work.unique_tokens += len(group.responses)
        return [
            tuple(
                ResponseLogprob(
                    logprob=-float(len(response.text)), n_tokens=1, token_logprobs=(0.5,) if per_token else None
                )
                for response in group.responses
            )
            for group in groups
        ]

    def close(self) -> None:
        """Nothing is open."""

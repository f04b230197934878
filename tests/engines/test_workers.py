"""Workers of this process: engines opened late and closed always, values handed from step to step."""

import pickle
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from crossward.engines.protocols import Advance
from crossward.engines.workers import IN_PROCESS, Piece, Step

PIECES = [Piece(language="es", index=index, target=Path(f"part-{index}"), n=3) for index in range(4)]


class Adder:
    """An engine that says what becomes of it in `told`."""

    def __init__(self, name: str, told: list[str]) -> None:
        self.name = name
        self.told = told
        told.append(f"open {name}")

    def close(self) -> None:
        self.told.append(f"close {self.name}")


def add(by: int, engine: Adder, piece: Piece, value: int | None, advance: Advance) -> int:
    engine.told.append(f"{engine.name} {piece.index}")
    if by < 0:
        raise ValueError(f"piece {piece.index} cannot be made")
    advance(piece.n)
    return (value or 0) + by


def steps(told: list[str], *by: int) -> list[Step]:
    return [Step(name=str(each), open=partial(Adder, str(each), told), do=partial(add, each)) for each in by]


def test_each_piece_goes_through_every_step_in_order():
    told, counted = [], Counter()
    with IN_PROCESS.crew(steps(told, 1, 10)) as crew:
        assert told == [], "nothing is opened before the first piece"
        advance_of = lambda piece: lambda n: counted.update({piece.index: n})  # noqa: E731
        found = list(crew.stream(PIECES, advance_of=advance_of))
        assert crew.scorer(1).name == "10", "an engine that is open is not opened again"
    assert found == [(piece, 11) for piece in PIECES]
    assert counted == {piece.index: 6 for piece in PIECES}
    made = [f"{name} {piece.index}" for piece in PIECES for name in (1, 10)]
    assert told == ["open 1", "open 10", *made, "close 10", "close 1"]


def test_engines_are_closed_where_a_step_fails():
    told: list[str] = []
    with pytest.raises(ValueError, match="piece 0 cannot be made"), IN_PROCESS.crew(steps(told, 1, -1)) as crew:
        list(crew.stream(PIECES))
    assert told[-2:] == ["close -1", "close 1"]


def test_where_nothing_is_missing_nothing_is_opened():
    told: list[str] = []
    with IN_PROCESS.crew(steps(told, 1)) as crew:
        assert list(crew.stream([])) == []
    assert told == []


def test_what_is_sent_to_other_processes_can_be_pickled():
    sent = pickle.loads(pickle.dumps((PIECES, steps([], 1, 10))))
    assert sent[0] == PIECES
    assert [step.name for step in sent[1]] == ["1", "10"]

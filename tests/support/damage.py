"""Damage to files on the disk: what a bad sector, a full disk, a careless hand or a kill may leave behind."""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.faults import Bench, Ended, contents, differences

Damage = Callable[[Path], None]


def _flip(share: float) -> Damage:
    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        place = min(int(share * len(content)), len(content) - 1)
        content[place] ^= 1
        path.write_bytes(content)

    return flip


def _cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _fold(path: Path) -> None:
    """A folder has the file's name: nobody can read it, whoever asks."""
    path.unlink()
    path.mkdir()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


DAMAGES: dict[str, Damage] = {
    "a bit flipped at the head": _flip(0.0),
    "a bit flipped near the head": _flip(0.1),
    "a bit flipped in the middle": _flip(0.5),
    "a bit flipped near the end": _flip(0.95),
    "a bit flipped at the end": _flip(1.0),
    "cut in half": _cut,
    "emptied": lambda path: path.write_bytes(b"") and None,
    "removed": _remove,
    "a folder in its place": _fold,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of damage: the next run `healed` it, or refused it with a `sentence`.

    `told`: somebody who reads stderr hears of it. `wrong`: in what the run differs from the undisturbed one in the end.
    """

    healed: bool
    told: bool
    sentence: str
    wrong: tuple[str, ...]


def outcome(made: Bench, damaged: Path) -> Outcome:
    """Run what was damaged again, do what a refusal says, and compare."""
    ended = made.go()
    healed = ended.code == 0
    name = damaged.name if healed else str(damaged)
    stage = damaged.relative_to(made.run).parts[:2]
    told = name in ended.said or str(damaged.parent) in ended.said or f"{'/'.join(stage)}: " in ended.said
    sentence = ended.sentence
    if ended.code == 2:
        ended = _obeyed(made, sentence)
    if ended.code != 0:
        return Outcome(healed=healed, told=told, sentence=sentence, wrong=(f"exit code {ended.code}: {ended.said}",))
    wrong = differences(contents(made.undisturbed), contents(made.run))
    return Outcome(healed=healed, told=told, sentence=sentence, wrong=tuple(wrong))


def _obeyed(made: Bench, sentence: str) -> Ended:
    """What a refusal asks for: a stage done again, or a file deleted; then the run again."""
    if stage := re.search(r"--redo ([\w/-]+)", sentence):
        return made.go(redo=(stage[1],))
    named = re.search(rf"{re.escape(str(made.run))}/\S*?(?=[:,]? )", sentence)
    assert named is not None, f"the sentence names no file: {sentence}"
    _remove(Path(named[0].rstrip(":,")))
    return made.go()

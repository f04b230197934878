"""Pairs as rows of other tools. What all of them carry stands here once; each format adds its own texts."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossward.core.exported import ExportedPair
from crossward.pipeline.exports.pairs_source import PairSource

Row = dict[str, Any]
TRAIN = "train.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a format says when it is done: how the tool reads it, and what the reader must know."""

    commands: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def all_pairs(source: PairSource) -> Iterator[ExportedPair]:
    """Every language after the other."""
    for language in source.languages:
        yield from source.of(language)


def facts(pair: ExportedPair, known: frozenset[str]) -> Row:
    """What is known of a pair beside its texts; `known` names the optional columns that there are.

    The difference of the scores is called score_margin: a column named margin is taken for the loss's own margin by
    the reward trainers of TRL and OpenRLHF.
    """
    row: Row = {"id": pair.id, "language": pair.language}
    optional: Row = {
        "iteration": pair.iteration,
        "english_instruction": pair.english_instruction,
        "chosen_score": pair.chosen_score,
        "rejected_score": pair.rejected_score,
        "alpha": pair.alpha,
    }
    row |= {name: value for name, value in optional.items() if name in known}
    if {"chosen_score", "rejected_score"} <= known:
        row["score_margin"] = pair.score_margin
    return row | {
        "chosen_characters": len(pair.chosen),
        "rejected_characters": len(pair.rejected),
        "chosen_finish_reason": pair.chosen_finish_reason,
        "rejected_finish_reason": pair.rejected_finish_reason,
    }


def conversational(pair: ExportedPair, known: frozenset[str]) -> Row:
    """Prompt, chosen and rejected as lists of messages: TRL's recommended form, which OpenRLHF reads too."""
    return {
        "prompt": [{"role": "user", "content": pair.instruction}],
        "chosen": [{"role": "assistant", "content": pair.chosen}],
        "rejected": [{"role": "assistant", "content": pair.rejected}],
        **facts(pair, known),
    }


def whole(number: float) -> int | float:
    """The number itself, without a fraction where it has none.

    >>> whole(16.0), whole(0.5)
    (16, 0.5)
    """
    return int(number) if number == int(number) else number


def shown_path(path: Path, file: str = "") -> str:
    """A path as a command takes it."""
    return (path / file).as_posix()

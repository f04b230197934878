"""Answers of one model as alpaca_eval keeps them: a list of {"instruction", "output", "generator"}, with an id or none.

Our own files of groups are read too: their first response. Joined by id where both sides have ids, else by the
instruction word for word, never by position. Knows no judge.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossward.store.files import write_text
from crossward.store.json_fields import id_of, list_of, shown, text_of
from crossward.store.reference_answers import output_of
from crossward.store.rows import Source, located_rows

_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOutput:
    """One answer; `id` is None where the file has none."""

    id: str | None
    instruction: str
    output: str
    generator: str | None = None
    dataset: str | None = None

    @property
    def key(self) -> str:
        """What names the instruction: its id, else its text."""
        return self.instruction if self.id is None else self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOutputs:
    """The answers of one file, every instruction once; `generator` where all rows name the same."""

    path: Path
    outputs: tuple[ModelOutput, ...]
    generator: str | None


def read_model_outputs(path: Path) -> ModelOutputs:
    """Read a file. Raises ValueError naming the row that lacks a field, or repeats an instruction."""
    if not path.is_file():
        raise ValueError(f"file {path} does not exist: expected answers, rows of 'instruction' and 'output'")
    found: dict[str, ModelOutput] = {}
    places: dict[str, str] = {}
    for place, row in located_rows(Source(path=str(path))):
        where = f"{path}, {place}"
        output = _output(row, where)
        if output.key in found:
            what = "instruction" if output.id is None else "id"
            raise ValueError(f"{where}: {what} {shown(output.key)} stands on {places[output.key]} too: keep one answer")
        found[output.key], places[output.key] = output, place
    if not found:
        raise ValueError(f"file {path} holds no answers: expected rows of 'instruction' and 'output'")
    names = {output.generator for output in found.values()}
    return ModelOutputs(path=path, outputs=tuple(found.values()), generator=names.pop() if len(names) == 1 else None)


def write_model_outputs(path: Path, outputs: Sequence[ModelOutput]) -> None:
    """Write answers as `read_model_outputs` and alpaca_eval read them."""
    rows = [
        {key: value for key, value in _row(output).items() if value is not None or key in ("instruction", "output")}
        for output in outputs
    ]
    write_text(path, json.dumps(rows, ensure_ascii=False, indent=1) + "\n")


def joined(
    answers: ModelOutputs, baseline: ModelOutputs, *, allow_missing: bool = False
) -> tuple[list[tuple[str, ModelOutput, ModelOutput]], int]:
    """(id, answer, baseline's answer) of every instruction, in the answers' order; and how many are in one file only.

    Raises ValueError where the files have other instructions (unless `allow_missing` leaves those out), where one id
    names two instructions, and where nothing is in common.
    """
    by_id = all(output.id is not None for side in (answers, baseline) for output in side.outputs)
    ours, theirs = (
        {output.key if by_id else output.instruction: output for output in side.outputs} for side in (answers, baseline)
    )
    only_ours = [key for key in ours if key not in theirs]
    only_theirs = [key for key in theirs if key not in ours]
    if (only_ours or only_theirs) and not allow_missing:
        told = [
            f"{len(keys)} are only in {side.path}, first {', '.join(shown(key) for key in keys[:_SHOWN])}"
            for side, keys in ((answers, only_ours), (baseline, only_theirs))
            if keys
        ]
        raise ValueError(
            f"answers and baseline are over different instructions: {'; '.join(told)}; give files of the same "
            "instructions (crossward evaluate --allow-missing leaves these out)"
        )
    common = [key for key in ours if key in theirs]
    if not common:
        raise ValueError(f"{answers.path} and {baseline.path} have no instruction in common: check the language")
    for key in common:
        if ours[key].instruction != theirs[key].instruction:
            raise ValueError(
                f"id {shown(key)} names another instruction in {answers.path} than in {baseline.path} "
                f"({shown(ours[key].instruction)} and {shown(theirs[key].instruction)}): give files of one set"
            )
    ids = {key: output.id or theirs[key].id or key for key, output in ours.items() if key in theirs}
    return [(ids[key], ours[key], theirs[key]) for key in common], len(only_ours) + len(only_theirs)


def _output(row: dict[str, Any], where: str) -> ModelOutput:
    if row.get("responses") is not None:
        texts = list_of(row, "responses", where)
        if not texts or not isinstance(texts[0], str):
            raise ValueError(f"{where}: field 'responses' must hold a text, got {shown(texts)}")
        text = texts[0]
    else:
        text = output_of(row, where)
    named = {key: row[key] if isinstance(row.get(key), str) else None for key in ("generator", "dataset")}
    return ModelOutput(
        id=None if row.get("id") is None else id_of(row, where),
        instruction=text_of(row, "instruction", where),
        output=text,
        **named,
    )


def _row(output: ModelOutput) -> dict[str, str | None]:
    return {
        "id": output.id,
        "dataset": output.dataset,
        "instruction": output.instruction,
        "output": output.output,
        "generator": output.generator,
    }

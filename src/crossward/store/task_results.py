"""Results of benchmark tasks, kept beside the output as each is finished: `<output>.tasks` (store/keyed_lines.py).

A result is found again by all that decides it (the model's content among it), so that the file may hold several models
and settings, stays when the output is written, and grows. Knows no tasks and no models.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crossward.core.tasks import Score, TaskResult
from crossward.store.keyed_lines import KeyedLines

SUFFIX = ".tasks"


class TaskResults:
    """The results for one output, by origin. Raises ValueError where another process writes them."""

    def __init__(self, output: Path) -> None:
        if output.is_dir():
            raise ValueError(f"{output} is a folder: expected the name of a file to write")
        # A device or a pipe has no place beside it: what goes there is not kept.
        beside = output.is_file() or not output.exists()
        self._lines = KeyedLines(output.with_name(output.name + SUFFIX)) if beside else None

    def __enter__(self) -> "TaskResults":
        return self

    def __exit__(self, *error: object) -> None:
        if self._lines is not None:
            if not len(self._lines):
                self._lines.path.unlink(missing_ok=True)
            self._lines.close()

    def get(self, origin: Mapping[str, Any]) -> TaskResult | None:
        """The result of an origin, None where it has not been computed, or not kept as it should be."""
        row = None if self._lines is None else self._lines.get(_key(origin))
        try:
            return None if row is None else _result(row)
        except (ValueError, TypeError, KeyError, AttributeError):
            return None

    def put(self, origin: Mapping[str, Any], result: TaskResult) -> None:
        """Keep a result at once."""
        if self._lines is not None:
            self._lines.put(_key(origin), _row(result))


def _key(origin: Mapping[str, Any]) -> str:
    return json.dumps(dict(origin), sort_keys=True, allow_nan=False)


def _row(result: TaskResult) -> dict[str, Any]:
    return {
        "task": result.task,
        "version": result.version,
        "n": result.n,
        "shots": result.shots,
        "truncated": result.truncated,
        "scores": {metric: [score.value, score.standard_error] for metric, score in result.scores.items()},
        "questions": list(result.questions),
        "items": {metric: list(values) for metric, values in result.items.items()},
    }


def _result(row: dict[str, Any]) -> TaskResult:
    scores = {metric: Score(value=value, standard_error=error) for metric, (value, error) in row["scores"].items()}
    items = {metric: tuple(values) for metric, values in row["items"].items()}
    return TaskResult(**row | {"scores": scores, "questions": tuple(row["questions"]), "items": items})

"""Results of benchmark tasks, kept beside the output as each is finished: `<output>.tasks`, one JSON object a line.

A line is found again by all that decides its result (the model's content among it), so that the file may hold several
models and settings, stays when the output is written, and grows. A torn or damaged line ends what counts. One process
writes it at a time. Knows no tasks and no models.
"""

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from crossward.core.tasks import Score, TaskResult
from crossward.store.json_lines import encode_row

SUFFIX = ".tasks"


class TaskResults:
    """The results for one output, by origin. Raises ValueError where another process writes them."""

    def __init__(self, output: Path) -> None:
        if output.is_dir():
            raise ValueError(f"{output} is a folder: expected the name of a file to write")
        self._results: dict[str, TaskResult] = {}
        # A device or a pipe has no place beside it: what goes there is not kept.
        self._path = output.with_name(output.name + SUFFIX) if output.is_file() or not output.exists() else None
        self._handle = None if self._path is None else _locked(self._path)
        if self._handle is not None:
            self._read(self._handle)

    def __enter__(self) -> "TaskResults":
        return self

    def __exit__(self, *error: object) -> None:
        if self._handle is not None and not self._handle.closed:
            if self._path is not None and os.fstat(self._handle.fileno()).st_size == 0:
                self._path.unlink(missing_ok=True)
            self._handle.close()

    def get(self, origin: Mapping[str, Any]) -> TaskResult | None:
        """The result of an origin, None where it has not been computed."""
        return self._results.get(_key(origin))

    def put(self, origin: Mapping[str, Any], result: TaskResult) -> None:
        """Keep a result; it is on the disk when this returns."""
        self._results[_key(origin)] = result
        if self._handle is not None:
            row = {"origin": dict(origin), "result": _row(result)}
            self._handle.write(encode_row(row, where=f"{self._path}, task {result.task}"))
            self._handle.flush()
            os.fsync(self._handle.fileno())

    def _read(self, handle: BinaryIO) -> None:
        end = 0
        for line in handle:
            try:
                row = json.loads(line) if line.endswith(b"\n") else None
                self._results[_key(row["origin"])] = _result(row["result"])  # pyright: ignore[reportOptionalSubscript]
            except (ValueError, TypeError, KeyError, AttributeError):
                break
            end += len(line)
        handle.truncate(end)
        handle.seek(end)


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


def _locked(path: Path) -> BinaryIO:
    """The file, made if missing, for this process alone; the kernel's lock goes with the process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        raise ValueError(
            f"{path} is being written by another process: wait until it ends, or choose another --output"
        ) from None
    return handle

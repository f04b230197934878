"""Tasks of lm-evaluation-harness (the extra `eval`), run as a library on one of our loaded models: multiple choice.

The only file that imports lm_eval. The model is loaded as everywhere here (safetensors, LoRA unmerged, named dtype),
log-softmax is in float32 (lm-eval's own is in the model's dtype, where bfloat16 makes ties), nothing is truncated
without being counted, and lm-eval's caches stay off: they know a path, not the weights in it. Data comes from the
hub's cache, or the hub, unless a task's YAML names local files; then no network is touched. A task's `!function` is
Python that runs: include only folders that you trust.
"""

import hashlib
import json
import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from glob import glob
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jinja2 import TemplateError
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from crossward.core.tasks import Score, TaskResult, question_ids
from crossward.engines.chat_template import apply_bounded
from crossward.engines.models import base_spec, is_out_of_memory, load_model
from crossward.engines.protocols import Advance, ModelSpec, no_progress

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]

Watch = Callable[[str, int], AbstractContextManager[Advance]]

_SEED = 1234  # lm-eval's own, which decides the examples of a few-shot prompt
_OUTPUT_TYPES = ("multiple_choice", "loglikelihood")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompting:
    """How questions are put: examples before each, at most `limit` questions (None: all), in the template or plain.

    Published tables of these benchmarks are of plain text, not inside the chat template.
    """

    shots: int = 0
    limit: int | None = None
    chat_template: bool = False


def harness_version() -> str:
    """The version of lm-eval; ValueError where it is not installed."""
    _require()
    return version("lm_eval")


class TaskFolder:
    """The tasks that can be run: those of lm-eval, and those of `include`, a folder of task YAMLs, which go first."""

    def __init__(self, include: Path | None = None) -> None:
        _require()
        if include is not None and not include.is_dir():
            raise ValueError(f"task folder {include} does not exist: --include-path names a folder of task YAMLs")
        self._include = include
        self._own = None if include is None else _manager(include)

    def require(self, names: Sequence[str]) -> None:
        """Raise ValueError for the first name that is no task, or a tag or group that has no score of its own."""
        for name in names:
            self.content(name)

    def content(self, name: str) -> str:
        """What decides a task's questions: lm-eval's version, for a local task a hash of its YAML, code and data files.

        The data of lm-eval's own tasks is what the hub holds; a new revision there goes unnoticed.
        """
        entry = self._entry(name)
        kind = entry.kind.name
        if kind == "TAG":
            few = ", ".join(sorted(entry.tags)[:3])
            raise ValueError(f"{name} is a tag of {len(entry.tags)} tasks, not a task: name tasks, such as {few}")
        if kind == "GROUP" and not (entry.cfg or {}).get("aggregate_metric_list"):
            raise ValueError(f"{name} is a group of tasks without a score of its own: name the tasks in it")
        own = self._own
        if own is None or name not in own.task_index:
            return f"lm-eval {version('lm_eval')}"
        entries = own.task_index.values() if kind == "GROUP" else [entry]
        return self._hash([entry.cfg for entry in entries if entry.cfg])

    def run(self, name: str, model: Any, prompting: Prompting, *, watch: Watch | None = None) -> TaskResult:
        """Score `model` (of `open_model`) on a task or a group. Raises ValueError where its data cannot be had."""
        from lm_eval.evaluator import evaluate  # pyright: ignore[reportMissingImports]

        with _quiet():
            loaded = self._load(name)
            for task in loaded["tasks"].values():
                _prepare(task, prompting.shots)
            model.begin(name, watch)
            try:
                found = evaluate(
                    lm=model,
                    task_dict=loaded,
                    limit=prompting.limit,
                    bootstrap_iters=1000,  # for metrics other than means, such as F1
                    apply_chat_template=prompting.chat_template,
                    fewshot_as_multiturn=prompting.chat_template,
                )
            except (ValueError, TemplateError) as error:
                raise ValueError(f"task {name} with {prompting.shots} shots: {error}") from error
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                raise ValueError(f"out of memory in task {name}: use a smaller --batch-size") from None
        assert found is not None
        return _result(name, found, model.truncated)

    def _entry(self, name: str) -> Any:
        """A task's entry in the index. Raises ValueError with near names where there is none."""
        own = self._own
        if own is not None and name in own.task_index:
            return own.task_index[name]
        if name in _builtin().task_index:
            return _builtin().task_index[name]
        near = get_close_matches(name, [*(own.all_tasks if own else ()), *_builtin().all_tasks], n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "`crossward tasks --coverage` shows some"
        folder = f" or in {self._include} (a YAML that cannot be parsed is passed over)" if own else ""
        raise ValueError(f"no task {name!r} in lm-eval {version('lm_eval')}{folder}: {hint}")

    def _manager(self, name: str) -> "TaskManager":
        """Who can load a task. lm-eval's index of 15,000 names takes seconds: a local task does without it."""
        if self._own is None or name not in self._own.task_index:
            return _builtin()
        if self._own.task_index[name].kind.name != "GROUP":
            return self._own
        both = _manager(self._include)  # a group may hold tasks of lm-eval
        both.task_index.update({**_builtin().task_index, **both.task_index})
        return both

    def _load(self, name: str) -> Any:
        random.seed(0)  # for tasks that shuffle by themselves
        np.random.seed(_SEED)
        try:
            return self._manager(name).load([name])
        except ConnectionError as error:
            raise ValueError(
                f"the data of task {name} is neither here nor reachable ({_first_line(error)}): run it once with the "
                "network on, or set HF_HOME to a folder that holds it"
            ) from None
        except Exception as error:  # a YAML, the code it names and its data can be wrong in any way
            raise ValueError(f"task {name} cannot be loaded: {_first_line(error.__cause__ or error)}") from error

    def _hash(self, configs: Sequence[Any]) -> str:
        assert self._include is not None
        total = hashlib.sha256(json.dumps(configs, sort_keys=True, default=str).encode())
        files = {file for file in self._include.rglob("*.py") if file.is_file()}
        for config in configs:
            named = [(config.get("dataset_kwargs") or {}).get("data_files"), config.get("dataset_path")]
            for path in (Path(found) for text in _texts(named) for found in glob(text, recursive=True)):
                files |= {file for file in (path, *path.rglob("*")) if file.is_file()}
        for file in sorted(files):
            with file.open("rb") as stream:
                total.update(f"{file} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
        return total.hexdigest()


def open_model(spec: ModelSpec, *, batch_size: int, chat_template: bool = False) -> Any:
    """A checkpoint as lm-eval's model. Raises ValueError where it cannot be loaded, or has no template to apply."""
    _require()
    tokenizer = _tokenizer(spec)
    with _quiet():
        if chat_template and not tokenizer.chat_template:
            raise ValueError(f"{spec.path} has no chat template: leave out --chat-template, or save one beside it")
        return _model_class()(
            pretrained=load_model(spec),
            tokenizer=tokenizer,
            batch_size=batch_size,
            softmax_dtype=torch.float32,
            backend="causal",
        )


@cache
def _model_class() -> Any:
    from lm_eval.models import huggingface  # pyright: ignore[reportMissingImports]

    base: Any = huggingface.HFLM  # untyped: a decorator hides its class

    class Watched(base):
        """HFLM that counts what is cut, refuses what cannot be scored, and tells of every option that is done."""

        truncated = 0
        _task, _watch = "", None

        def begin(self, task: str, watch: Watch | None) -> None:
            self.truncated, self._task, self._watch = 0, task, watch

        def apply_chat_template(self, chat_history: Any, add_generation_prompt: bool = True) -> str:
            return apply_bounded(self.tokenizer, chat_history, ask=add_generation_prompt)

        def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> Any:
            return super().loglikelihood(requests, disable_tqdm=True)

        def _loglikelihood_tokens(self, requests: Any, disable_tqdm: bool = False, override_bs: Any = None) -> Any:
            for (_, option), context, continuation in requests:
                if not 0 < len(continuation) <= self.max_length:
                    raise ValueError(
                        f"the option {option[:40]!r} has {len(continuation)} tokens: expected 1 to "
                        f"{self.max_length}, the model's context"
                    )
                self.truncated += len(context) + len(continuation) > self.max_length + 1
            watched = self._watch(self._task, len(requests)) if self._watch else nullcontext(no_progress)
            with watched as advance:
                self.set_cache_hook(_Counting(advance))
                answers = super()._loglikelihood_tokens(requests, disable_tqdm=True, override_bs=override_bs)
            if not all(isfinite(logprob) for logprob, _ in answers):
                raise ValueError("the model's log-probabilities are no numbers: look at its weights")
            return answers

    return Watched


class _Counting:
    """lm-eval tells this of every answer so that it can be cached; here it is only counted."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance

    def add_partial(self, attr: str, req: object, res: object) -> None:
        self._advance(1)


def _prepare(task: Any, shots: int) -> None:
    """Set a task's number of examples, except where its own YAML says none, as lm-eval does."""
    if task.OUTPUT_TYPE not in _OUTPUT_TYPES:
        raise ValueError(
            f"task {task.task_name} is of the kind {task.OUTPUT_TYPE}: only {' and '.join(_OUTPUT_TYPES)} are run here"
        )
    if task.OUTPUT_TYPE == "multiple_choice" and not task.get_config("doc_to_choice"):
        raise ValueError(
            f"task {task.task_name} is multiple choice and its YAML has no doc_to_choice: name the options"
        )
    if task.get_config("num_fewshot") != 0:
        task.set_config(key="num_fewshot", value=shots)
    task.set_fewshot_seed(seed=_SEED)


def _result(name: str, found: Mapping[str, Any], truncated: int) -> TaskResult:
    values = found["results"][name]
    scores = {}
    for key, value in values.items():
        metric, comma, kept = key.partition(",")
        if comma and not metric.endswith("_stderr") and isinstance(value, int | float):
            error = values.get(f"{metric}_stderr,{kept}")
            known = float(error) if isinstance(error, int | float) else None
            scores[metric if kept == "none" else key] = Score(value=float(value), standard_error=known)
    samples = found["samples"].get(name, [])  # of a task; those of a group are its tasks'
    questions = question_ids([sample["doc"] for sample in samples])
    return TaskResult(
        task=name,
        version=str(found["versions"].get(name)),
        n=int(values["sample_len"]),
        shots=int(found["n-shot"].get(name) or 0),
        truncated=truncated,
        scores=scores,
        questions=questions,
        items={metric: _items(samples, metric) for metric in scores} if questions else {},
    )


def _items(samples: Sequence[Mapping[str, Any]], metric: str) -> tuple[float, ...]:
    """A metric's value on every question; none where it has no value of one question (F1)."""
    values = [sample.get(metric) for sample in samples]
    return tuple(float(value) for value in values if isinstance(value, int | float)) if values else ()


def _tokenizer(spec: ModelSpec) -> PreTrainedTokenizerBase:
    """The checkpoint's, or its base's where a LoRA folder holds none. Unlike ChatTokens it needs no template."""
    base = base_spec(spec)
    source = spec if base is spec or (Path(spec.path) / "tokenizer_config.json").is_file() else base
    try:
        return AutoTokenizer.from_pretrained(
            source.path, revision=source.revision, trust_remote_code=source.trust_remote_code
        )
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"no tokenizer could be loaded from {source.path}: {_first_line(error)}") from None


def _require() -> None:
    try:
        import lm_eval  # noqa: F401  # pyright: ignore
    except ModuleNotFoundError as error:
        raise ValueError(
            f"benchmarks need lm-evaluation-harness ({error.name} is not installed): pip install 'crossward[eval]'"
        ) from None


@cache
def _builtin() -> "TaskManager":
    return _manager(None)


def _manager(include: Path | None) -> "TaskManager":
    """lm-eval's own tasks, or those of a folder alone."""
    from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]

    with _quiet():
        return TaskManager(include_path=include, include_defaults=include is None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep lm-eval's and datasets' warnings and bars off stderr, where ours are.

    And datasets' count of uses off the network: even for local files it asks a server.
    """
    import datasets
    import lm_eval.api.task as tasks  # pyright: ignore[reportMissingImports]
    from datasets import config

    log = logging.getLogger("lm_eval")
    before = log.level, tasks.tqdm, datasets.are_progress_bars_disabled(), config.HF_UPDATE_DOWNLOAD_COUNTS
    log.setLevel(logging.ERROR)
    tasks.tqdm = lambda items, **_: items  # pyright: ignore
    datasets.disable_progress_bars()
    config.HF_UPDATE_DOWNLOAD_COUNTS = False
    try:
        yield
    finally:
        level, tasks.tqdm, hidden, config.HF_UPDATE_DOWNLOAD_COUNTS = before
        log.setLevel(level)
        if not hidden:
            datasets.enable_progress_bars()


def _texts(value: Any) -> list[str]:
    """Every text in nested lists and dictionaries."""
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return [text for part in parts for text in _texts(part)]


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__

"""Opening and closing vLLM, and nothing else of it leaks: no usage reports, no logging, no changed environment.

The model lives in processes of its own, started by `spawn`: what a run computed before (threads, CUDA) cannot hang
them, and close() gives all of their memory back. They end when this process is killed, too. They never import the
caller's script, so it needs no `if __name__ == "__main__"`. vLLM itself is imported when an engine is opened.
CROSSWARD_TRACEBACK=1 lets it speak; its own environment variables are respected where they are set.
"""

import gc
import importlib.util
import io
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from peft import PeftConfig
from tqdm import tqdm

from crossward.engines.models import (
    adapter_folder,
    base_spec,
    max_positions,
    read_config,
    resolve_device,
    text_config,
)
from crossward.engines.protocols import Advance, ModelSpec, VllmOptions, no_progress

INSTALL = "vLLM is not installed: pip install 'crossward[vllm]'"
# Waits until its standard input ends, as it does when the process that holds the other side is gone.
_GUARD = """
import os, signal, sys
sys.stdin.read()
for pid in sys.argv[1:]:
    try:
        os.kill(int(pid), signal.SIGKILL)
    except OSError:
        pass
"""
# The adapter ranks that vLLM reserves memory for.
_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
# The head sizes of its attention on a CPU (vLLM 0.32).
_CPU_HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)


def vllm_problem(device: str) -> str | None:
    """Why vLLM cannot serve a model on this device, None where it can. Imports nothing heavy."""
    if importlib.util.find_spec("vllm") is None:
        return INSTALL
    wanted, built = resolve_device(device).type, "cpu" if _is_cpu_build() else "cuda"
    if wanted != built:
        return f"the installed vLLM is built for {built}, but the device is {wanted}: install the other build"
    return None


def refused_head_size(spec: ModelSpec) -> int | None:
    """The model's head size where vLLM on a CPU has no attention for it; None where it has, and on a GPU."""
    if not _is_cpu_build():
        return None
    config = text_config(read_config(base_spec(spec)))
    size, hidden, heads = (config.get(key) for key in ("head_dim", "hidden_size", "num_attention_heads"))
    if not isinstance(size, int):
        size = hidden // heads if isinstance(hidden, int) and isinstance(heads, int) else _CPU_HEAD_SIZES[0]
    return None if size in _CPU_HEAD_SIZES else size


class VllmEngine:
    """One model behind vLLM. `arguments` go to vllm.LLM as they are."""

    def __init__(self, spec: ModelSpec, *, options: VllmOptions, **arguments: Any) -> None:
        if problem := vllm_problem(spec.device):
            raise ValueError(problem)
        self.name = spec.path
        base = base_spec(spec)
        rank = None if base is spec else _adapter_rank(spec)
        self.positions = max_positions(read_config(base))
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the engine)
        before = {process.pid for process in multiprocessing.active_children()}
        with _environment(_variables(spec.device, options.threads)), _quietly(self._said), _without_main():
            self._llm: Any = self._open(base, options, {**arguments, **_lora_arguments(rank)})
        started = {process.pid for process in multiprocessing.active_children()} - before
        self._guard = _guard(sorted(str(pid) for pid in started))
        self.room = int(self._llm.llm_engine.model_config.max_model_len)
        self.vocabulary_size = int(self._llm.llm_engine.model_config.get_vocab_size())
        self._lora = None if rank is None else _lora_request(spec)

    def generate(self, prompts: Sequence[Sequence[int]], params: Sequence[Any], *, advance: Advance = no_progress):
        """vLLM's RequestOutput for each prompt, in order; `advance` counts finished ones."""
        if not prompts:
            return []
        from vllm.v1.engine.exceptions import EngineDeadError  # pyright: ignore[reportMissingImports]

        try:
            return self._llm.generate(
                [{"prompt_token_ids": list(ids)} for ids in prompts],
                list(params),
                use_tqdm=_bar(advance),
                lora_request=self._lora,
            )
        except EngineDeadError as error:
            cause = _cause(self._said) or "its process ended"
            raise ValueError(
                f"vLLM stopped while running {self.name}: {cause}; run again, or use the engine transformers"
            ) from error

    def close(self) -> None:
        """End vLLM's processes, so that all of their memory is free."""
        if self._llm is not None:
            self._guard.kill()  # before the numbers of the processes may be given to others
            self._guard.wait()
            self._llm.llm_engine.engine_core.shutdown()
            self._llm = None
            self._said.close()
            gc.collect()

    def _open(self, spec: ModelSpec, options: VllmOptions, arguments: dict[str, Any]) -> Any:
        on_cpu = resolve_device(spec.device).type == "cpu"
        if on_cpu:
            arguments["kv_cache_memory_bytes"] = int(options.cpu_cache_gib * 2**30)
        try:
            from vllm import LLM  # pyright: ignore[reportMissingImports]

            return LLM(
                model=spec.path,
                revision=spec.revision,
                trust_remote_code=spec.trust_remote_code,
                dtype=spec.dtype,
                load_format="safetensors",  # pickled weights can run code
                skip_tokenizer_init=True,  # ids in, ids out
                generation_config="vllm",  # nothing of the checkpoint's own settings
                max_model_len=-1,  # as long as the model allows and the memory holds
                tensor_parallel_size=options.tensor_parallel_size,
                gpu_memory_utilization=options.memory_share,
                enforce_eager=options.eager or on_cpu,
                # Within a Ray actor vLLM would spread over the cluster by itself: a replica stays on its own GPUs.
                distributed_executor_backend="mp" if options.tensor_parallel_size > 1 else None,
                **arguments,
            )
        except Exception as error:
            if _speaks():
                raise
            cause = _cause(self._said) or _first_line(error)
            raise ValueError(
                f"vLLM cannot open {self.name}: {cause}; the engine transformers may (CROSSWARD_TRACEBACK=1 shows all)"
            ) from error


def _guard(pids: Sequence[str]) -> subprocess.Popen[bytes]:
    """A process that kills these when this one is gone, however it went: vLLM's own would keep the memory for ever."""
    command = [sys.executable, "-I", "-S", "-c", _GUARD, *pids]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)


def _variables(device: str, threads: int | None) -> dict[str, str]:
    """vLLM's settings by environment; what the user has set stays, but for usage reports and the start method."""
    wanted = {"VLLM_LOGGING_LEVEL": "INFO" if _speaks() else "ERROR", "VLLM_LOGGING_STREAM": "ext://sys.stderr"}
    kind, _, index = device.partition(":")
    if threads is not None:
        wanted |= {"OMP_NUM_THREADS": str(threads)}
    if threads is not None or "OMP_NUM_THREADS" in os.environ:  # vLLM would overrule it where it binds threads
        wanted |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    kept = {name: value for name, value in wanted.items() if name not in os.environ}
    if kind == "cuda" and index:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        kept["CUDA_VISIBLE_DEVICES"] = visible.split(",")[int(index)] if visible else index
    return {**kept, "VLLM_NO_USAGE_STATS": "1", "VLLM_WORKER_MULTIPROC_METHOD": "spawn"}


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """With these variables; afterwards as before, whatever vLLM has set besides (LD_PRELOAD, thread counts)."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _quietly(said: IO[bytes]) -> Iterator[None]:
    """What this process and those that it starts write on the terminal goes to `said`."""
    if _speaks():
        yield
        return
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    try:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
        with redirect_stderr(io.StringIO()):  # a notebook's or a test's own stderr has no file
            yield
    finally:
        for number, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, number)
            os.close(copy)


@contextmanager
def _without_main() -> Iterator[None]:
    """Processes spawned here do not import the main script again: a script without a guard would start itself."""
    main = sys.modules["__main__"]
    hidden = {name: vars(main)[name] for name in ("__spec__", "__file__") if name in vars(main)}
    try:
        vars(main).pop("__file__", None)
        main.__spec__ = None
        yield
    finally:
        vars(main).update(hidden)


def _speaks() -> bool:
    return bool(os.environ.get("CROSSWARD_TRACEBACK"))


def _is_cpu_build() -> bool:
    with suppress(metadata.PackageNotFoundError):
        return bool(metadata.version("vllm-cpu"))
    with suppress(metadata.PackageNotFoundError):
        return "cpu" in metadata.version("vllm")
    return False


def _adapter_rank(spec: ModelSpec) -> int:
    """The rank that vLLM must reserve; refuses adapters that are more than two low-rank matrices a layer."""
    config = PeftConfig.from_pretrained(str(adapter_folder(spec))).to_dict()
    for key in ("use_dora", "modules_to_save", "alora_invocation_tokens", "trainable_token_indices", "lora_bias"):
        if config.get(key):
            raise ValueError(f"adapter {spec.path} sets {key}, which vLLM does not read: use the engine transformers")
    rank = max([int(config["r"]), *(config.get("rank_pattern") or {}).values()])
    if rank > _LORA_RANKS[-1]:
        raise ValueError(f"adapter {spec.path} has rank {rank}, vLLM takes {_LORA_RANKS[-1]} at most")
    return next(allowed for allowed in _LORA_RANKS if allowed >= rank)


def _lora_arguments(rank: int | None) -> dict[str, Any]:
    return {} if rank is None else {"enable_lora": True, "max_lora_rank": rank, "max_loras": 1}


def _lora_request(spec: ModelSpec) -> Any:
    from vllm.lora.request import LoRARequest  # pyright: ignore[reportMissingImports]

    return LoRARequest("adapter", 1, str(Path(adapter_folder(spec)).absolute()))


def _bar(advance: Advance) -> Callable[..., tqdm]:
    """A progress bar that shows nothing and tells `advance` of finished requests."""

    class Bar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._counts = str(kwargs.get("desc", "")).startswith("Processed")
            super().__init__(*args, **kwargs | {"file": io.StringIO(), "mininterval": 1e9})

        def update(self, n: float | None = 1) -> bool | None:
            if self._counts and n:
                advance(int(n))
            return super().update(n)

    return Bar


def _cause(said: IO[bytes]) -> str | None:
    """The first error that vLLM's processes wrote: the ones behind it say that something failed before."""
    said.seek(0)
    found = re.findall(rb"\b(\w*(?:Error|Exception): [^\n]+)", said.read())
    return found[0].decode("utf-8", "replace").strip() if found else None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

"""Which engine samples and which scores, from plain names; each is imported late, so that start-up is quick."""

from dataclasses import replace
from pathlib import Path

from crossward.engines.endpoint import Endpoint
from crossward.engines.models import base_spec, max_positions, read_config
from crossward.engines.openai_sampler import OpenAiSampler
from crossward.engines.protocols import ModelSpec, Sampler, Scorer, VllmOptions
from crossward.engines.tokens import ChatTokens, load_tokens
from crossward.engines.vllm_engine import refused_head_size, vllm_problem
from crossward.pipeline.progress import Progress
from crossward.store.answers import Answers


def resolved(engine: str, spec: ModelSpec) -> str:
    """The engine itself; for auto vLLM where it is installed for the device and takes the model, else transformers."""
    if engine != "auto":
        return engine
    usable = spec.path and vllm_problem(spec.device) is None and refused_head_size(spec) is None
    return "vllm" if usable else "transformers"


def require_engine(engine: str, device: str) -> str:
    """The engine in words; raises ValueError where it cannot work on the device."""
    if engine == "vllm" and (problem := vllm_problem(device)):
        raise ValueError(problem)
    return engine


def require_chat_model(spec: ModelSpec) -> None:
    """Raise ValueError where a checkpoint cannot be asked in words. Its weights are not read."""
    config = read_config(base_spec(spec))
    kinds = config.architectures or []
    if config.is_encoder_decoder or any(kind.endswith("Classification") for kind in kinds):
        raise ValueError(
            f"model {spec.path} ({', '.join(kinds) or config.model_type}) cannot be asked in words: name a causal "
            "language model with a chat template"
        )
    load_tokens(spec)


def endpoint_of(
    engine: str,
    base_url: str | None,
    model: str | None,
    api_key_env: str | None,
    *,
    concurrency: int,
    timeout_s: float,
    attempts: int,
) -> Endpoint | None:
    """The server that a command line names; None where the engine is another."""
    if engine != "openai":
        if base_url or model or api_key_env:
            raise ValueError("--base-url, --model and --api-key-env name a server: they need --engine openai")
        return None
    if not base_url or not model:
        raise ValueError("--engine openai needs a server (--base-url http://localhost:8000/v1) and its --model")
    return Endpoint(
        base_url=base_url,
        model=model,
        api_key_env=api_key_env,
        concurrency=concurrency,
        timeout_s=timeout_s,
        attempts=attempts,
    )


def endpoint_sampler(
    endpoint: Endpoint, spec: ModelSpec | None, *, answers: Path | None, progress: Progress
) -> Sampler:
    """A sampler of a policy behind a server; `spec` is the checkpoint that it serves, where that is at hand.

    Finished prompts are kept in the file `answers`, if one is named; failed requests are told through `progress`.
    """
    tokens = None if spec is None else load_tokens(spec)
    limit = None if spec is None else max_positions(read_config(base_spec(spec)))
    kept = None if answers is None else Answers(answers)
    if kept is not None and kept.torn:
        progress.say(f"{answers}: a line is torn or damaged: that answer and those behind it are asked for again")
    return OpenAiSampler(endpoint, tokens, limit=limit, kept=kept, say=progress.say)


def local_sampler(
    engine: str, spec: ModelSpec, tokens: ChatTokens, *, batch_rows: int, options: VllmOptions | None = None
) -> Sampler:
    """A sampler of weights that are at hand."""
    match engine:
        case "transformers":
            from crossward.engines.hf_sampler import HfSampler

            return HfSampler(spec, tokens, batch_rows=batch_rows)
        case "vllm":
            from crossward.engines.vllm_sampler import VllmSampler

            return VllmSampler(spec, tokens, options=options)
        case _:
            raise ValueError(f"unknown engine {engine!r}: expected transformers or vllm")


def local_scorer(
    engine: str, spec: ModelSpec, tokens: ChatTokens, *, batch_tokens: int | None, options: VllmOptions | None = None
) -> Scorer:
    """A scorer; two vLLM engines, policy and reference, share the memory that one may take."""
    match engine:
        case "transformers":
            from crossward.engines.hf_scorer import HfScorer

            return HfScorer(spec, tokens, batch_tokens=batch_tokens)
        case "vllm":
            from crossward.engines.vllm_scorer import VllmScorer

            half = options or VllmOptions()
            return VllmScorer(spec, tokens, options=replace(half, memory_share=half.memory_share / 2))
        case _:
            raise ValueError(f"unknown engine {engine!r}: expected transformers or vllm")

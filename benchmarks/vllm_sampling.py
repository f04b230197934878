"""Sampling speed: Crossward's VllmSampler against bare vllm.LLM.generate on the same prompts, seeds and settings.

    python benchmarks/vllm_sampling.py [--data PATH] [--model FOLDER] [--prompts 8] [--new-tokens 64] [--rounds 2]

Both sides get the same token ids, one request with a seed of its own for each of 10 samples a prompt, temperature 0.9,
and stop nowhere, so that both make the same number of tokens. The bare engine is opened as vLLM's examples do, with its
own choice of threads; on a CPU both read prompts whole, as seeded requests must there. Each round opens an engine,
warms it up on one prompt, times the rest and closes it; the better round of each side counts, opening is told apart.
Times and memory hold every process that was started.
"""

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from memory import peak_memory
from smollm2 import model_folder
from workload import groups as workload

from crossward.core.records import Prompt, SampledPrompt
from crossward.engines.models import settle
from crossward.engines.protocols import ModelSpec, Sampling
from crossward.engines.sample_rows import sample_rows
from crossward.engines.tokens import ChatTokens, load_tokens
from crossward.engines.vllm_sampler import VllmSampler

N = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One side once: seconds of the work and of opening, its tokens, the peak of memory, the ids it drew."""

    seconds: float
    opening: float
    tokens: int
    memory: str
    ids: list[tuple[int, ...]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--model", type=Path, default=None, help="a checkpoint; default: SmolLM2-135M-Instruct")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    settle()
    os.environ["VLLM_NO_USAGE_STATS"] = "1"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    spec = ModelSpec(path=str(arguments.model or model_folder()), dtype=arguments.dtype)
    tokens = load_tokens(spec)
    tokens.stop_ids = frozenset()  # both sides then make every token
    prompts = [
        Prompt(id=str(i), language="en", instruction=group.instruction, english_instruction=group.instruction)
        for i, group in enumerate(workload(tokens, arguments.data, n=arguments.prompts + 1))
    ]
    sampling = Sampling(n=N, temperature=0.9, top_p=1.0, max_new_tokens=arguments.new_tokens, seed=42)
    print(f"{Path(spec.path).name}, {spec.dtype}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}")
    rounds: dict[str, list[Round]] = {"crossward": [], "bare LLM": []}
    for _ in range(arguments.rounds):
        rounds["crossward"].append(crossward(spec, tokens, prompts, sampling))
        rounds["bare LLM"].append(bare(spec, tokens, prompts, sampling))
    best = {side: min(found, key=lambda each: each.seconds) for side, found in rounds.items()}
    for side, found in best.items():
        seconds = ", ".join(f"{each.seconds:.1f}" for each in rounds[side])
        print(
            f"{side:10} {found.tokens / found.seconds:7.0f} tokens/s  ({seconds} s for {found.tokens} tokens; opening "
            f"{found.opening:.0f} s)  peak {found.memory}"
        )
    same = sum(a == b for a, b in zip(best["crossward"].ids, best["bare LLM"].ids, strict=True))
    print(f"ratio {best['bare LLM'].seconds / best['crossward'].seconds:.2f}x (bar 0.95); ", end="")
    print(f"the same text in {same} of {len(best['bare LLM'].ids)} samples")


def crossward(spec: ModelSpec, tokens: ChatTokens, prompts: list[Prompt], sampling: Sampling) -> Round:
    started = time.perf_counter()
    with peak_memory() as peak:
        sampler = VllmSampler(spec, tokens)
        opened = time.perf_counter()
        sampler.sample(prompts[:1], sampling)
        begun = time.perf_counter()
        sampled: list[SampledPrompt] = sampler.sample(prompts[1:], sampling)
        seconds = time.perf_counter() - begun
        sampler.close()
    ids = [response.token_ids or () for group in sampled for response in group.responses]
    return Round(seconds=seconds, opening=opened - started, tokens=sum(map(len, ids)), memory=str(peak), ids=ids)


def bare(spec: ModelSpec, tokens: ChatTokens, prompts: list[Prompt], sampling: Sampling) -> Round:
    from vllm import LLM, SamplingParams

    on_cpu = not torch.cuda.is_available()
    settings: dict[str, Any] = {"gpu_memory_utilization": 0.9}
    if on_cpu:
        settings = {"enforce_eager": True, "kv_cache_memory_bytes": 2 * 2**30, "enable_chunked_prefill": False}

    def requests(some: list[Prompt]) -> tuple[list[Any], list[Any]]:
        rows = sample_rows(some, tokens, sampling, limit=None, name=spec.path)
        params = [
            SamplingParams(
                temperature=0.9, max_tokens=sampling.max_new_tokens, seed=row.seed, ignore_eos=True, detokenize=False
            )
            for row in rows
        ]
        return [{"prompt_token_ids": list(row.ids)} for row in rows], params

    before = dict(os.environ)
    started = time.perf_counter()
    with peak_memory() as peak:
        llm = LLM(model=spec.path, dtype=spec.dtype, **settings)
        opened = time.perf_counter()
        llm.generate(*requests(prompts[:1]), use_tqdm=False)
        begun = time.perf_counter()
        outputs = llm.generate(*requests(prompts[1:]), use_tqdm=False)
        seconds = time.perf_counter() - begun
        llm.llm_engine.engine_core.shutdown()
    os.environ.clear()
    os.environ.update(before)
    ids = [tuple(output.outputs[0].token_ids) for output in outputs]
    return Round(seconds=seconds, opening=opened - started, tokens=sum(map(len, ids)), memory=str(peak), ids=ids)


if __name__ == "__main__":
    main()

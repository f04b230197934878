"""Sampling with vLLM: the prompts' ids in, the responses' own ids out, their end of turn included.

Every sample is a request of its own with its own seed, from (seed, language, prompt id, sample index). In float32 the
text is then the same whatever else is sampled, in whatever order. In bfloat16, and on GPUs, vLLM's batches change
logits in their last bits, and now and then a draw with them. Other seeds than HfSampler's: the engines give different
texts of the same distribution. An adapter's weights are rounded to the model's dtype.
"""

from collections.abc import Sequence
from typing import Any

from crossward.core.records import Prompt, SampledPrompt
from crossward.engines.models import resolve_device
from crossward.engines.protocols import Advance, ModelSpec, Sampling, VllmOptions, no_progress
from crossward.engines.sample_rows import SampleRow, grouped, response_of, sample_rows
from crossward.engines.tokens import ChatTokens
from crossward.engines.vllm_engine import VllmEngine


class VllmSampler:
    """protocols.Sampler over one model behind vLLM, which forms its own batches."""

    def __init__(self, spec: ModelSpec, tokens: ChatTokens, *, options: VllmOptions | None = None) -> None:
        # On a CPU vLLM cannot take a seeded draw back, as it does after each part of a prompt read in parts: it ends.
        whole_prompts = {"enable_chunked_prefill": False} if resolve_device(spec.device).type == "cpu" else {}
        self._engine = VllmEngine(spec, options=options or VllmOptions(), **whole_prompts)
        self._tokens = tokens

    def sample(
        self, prompts: Sequence[Prompt], sampling: Sampling, *, advance: Advance = no_progress
    ) -> list[SampledPrompt]:
        """`sampling.n` responses to each prompt's instruction, in the prompts' order."""
        engine = self._engine
        limit = min(engine.positions or engine.room, engine.room)
        rows = sample_rows(prompts, self._tokens, sampling, limit=limit, name=engine.name)
        outputs = engine.generate(
            [row.ids for row in rows], [self._params(row, sampling) for row in rows], advance=advance
        )
        responses = []
        for row, output in zip(rows, outputs, strict=True):
            (completion,) = output.outputs
            if completion.finish_reason not in ("stop", "length"):
                prompt = prompts[row.prompt]
                raise ValueError(
                    f"vLLM ended sample {row.sample} of prompt {prompt.id!r} ({prompt.language}) with "
                    f"{completion.finish_reason!r} instead of stop or length: run again"
                )
            responses.append(response_of(completion.token_ids, self._tokens))
        return grouped(prompts, responses, sampling.n)

    def close(self) -> None:
        """End vLLM's processes: all of the model's memory is free."""
        self._engine.close()

    def _params(self, row: SampleRow, sampling: Sampling) -> Any:
        from vllm import SamplingParams  # pyright: ignore[reportMissingImports]

        return SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            repetition_penalty=sampling.repetition_penalty,
            max_tokens=sampling.max_new_tokens,
            seed=row.seed,
            stop_token_ids=sorted(self._tokens.stop_ids),
            ignore_eos=True,  # the stop ids hold every end there is
            detokenize=False,
        )

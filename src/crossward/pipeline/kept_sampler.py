"""A sampler of weights at hand whose responses are kept as they come: no finished window is sampled again.

The model is opened when the first response is missing. Windows begin at fixed places and are sampled whole, so that
what shares a batch, and with it every rounding, is independent of where a stop cut the work.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from crossward.core.records import Prompt, SampledPrompt
from crossward.engines.protocols import Advance, Kept, Sampler, Sampling, no_progress
from crossward.pipeline.streams import windows


class KeptSampler:
    """protocols.Sampler over another one; `origin` is all that decides its responses but prompts and sampling."""

    def __init__(self, opened: Callable[[], Sampler], kept: Kept, *, origin: Any, window: int) -> None:
        self._opened = opened
        self._kept = kept
        self._origin = origin
        self._window = window
        self._sampler: Sampler | None = None

    def sample(
        self, prompts: Sequence[Prompt], sampling: Sampling, *, advance: Advance = no_progress
    ) -> list[SampledPrompt]:
        """`sampling.n` responses to each prompt, in the prompts' order."""
        return [
            group
            for window in windows(prompts, self._window)
            for group in self._sample_window(window, sampling, advance)
        ]

    def close(self) -> None:
        """Give the model's memory back, and close what is kept."""
        if self._sampler is not None:
            self._sampler.close()
        self._kept.close()

    def _sample_window(self, prompts: list[Prompt], sampling: Sampling, advance: Advance) -> list[SampledPrompt]:
        keys = [self._key_of(prompt, sampling, place) for place, prompt in enumerate(prompts)]
        found = [group for key in keys if (group := self._kept.get(key)) is not None]
        if len(found) == len(prompts):
            advance(len(prompts) * sampling.n)
            return [
                SampledPrompt(prompt=prompt, responses=group.responses)
                for prompt, group in zip(prompts, found, strict=True)
            ]
        if self._sampler is None:
            self._sampler = self._opened()
        sampled = self._sampler.sample(prompts, sampling, advance=advance)
        for key, group in zip(keys, sampled, strict=True):
            self._kept.put(key, group)
        return sampled

    def _key_of(self, prompt: Prompt, sampling: Sampling, place: int) -> str:
        asked = [self._origin, self._window, place, prompt.language, prompt.id, prompt.conversation, asdict(sampling)]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

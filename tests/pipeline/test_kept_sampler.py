"""Windows that were sampled are not sampled again, and what they give is the same as without a stop."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from crossward.core.records import FollowUp, Prompt, Response, SampledPrompt
from crossward.engines.protocols import Advance, Sampling, no_progress
from crossward.pipeline.kept_sampler import KeptSampler
from crossward.store.answers import Answers

SAMPLING = Sampling(n=2, temperature=0.5, top_p=1.0, max_new_tokens=8, seed=42)
PROMPTS = [Prompt(id=f"p{k}", language="es", instruction=f"Di {k}", english_instruction="") for k in range(5)]


class Counting:
    """Says what it was asked; `dies_at` ends it at that window."""

    def __init__(self, dies_at: int | None = None) -> None:
        self.windows: list[list[str]] = []
        self.closed = False
        self._dies_at = dies_at

    def sample(
        self, prompts: Sequence[Prompt], sampling: Sampling, *, advance: Advance = no_progress
    ) -> list[SampledPrompt]:
        if len(self.windows) == self._dies_at:
            raise KeyboardInterrupt
        self.windows.append([prompt.id for prompt in prompts])
        advance(len(prompts) * sampling.n)
        return [
            SampledPrompt(
                prompt=prompt,
                responses=tuple(Response(text=f"{prompt.conversation} {k}", token_ids=(k,)) for k in range(sampling.n)),
            )
            for prompt in prompts
        ]

    def close(self) -> None:
        self.closed = True


def kept(path: Path, sampler: Counting, origin: str = "policy", window: int = 2) -> KeptSampler:
    return KeptSampler(lambda: sampler, Answers(path), origin=origin, window=window)


def test_a_stop_loses_the_window_that_was_at_work_and_no_other(tmp_path: Path):
    path, dying, whole = tmp_path / "kept", Counting(dies_at=2), Counting()
    first = kept(path, dying)
    with pytest.raises(KeyboardInterrupt):
        first.sample(PROMPTS, SAMPLING)
    first.close()
    assert dying.closed
    seen: list[int] = []
    second = kept(path, whole)
    sampled = second.sample(PROMPTS, SAMPLING, advance=seen.append)
    second.close()
    assert (dying.windows, whole.windows) == ([["p0", "p1"], ["p2", "p3"]], [["p4"]])
    assert sum(seen) == 10
    assert sampled == Counting().sample(PROMPTS, SAMPLING)

    def unopened() -> Counting:
        raise AssertionError("the model is not opened where nothing is missing")

    third = KeptSampler(unopened, Answers(path), origin="policy", window=2)
    assert third.sample(PROMPTS, SAMPLING) == sampled
    third.close()


def test_another_policy_sampling_window_or_conversation_is_sampled(tmp_path: Path):
    path, asked = tmp_path / "kept", Counting()
    follow_up = FollowUp(id="p0", language="es", instruction="Di 0", english_instruction="", earlier=("Hola", "¿Qué?"))
    other = FollowUp(id="p0", language="es", instruction="Di 0", english_instruction="", earlier=("Hola", "Hola."))
    for prompts, sampling, origin, window in (
        (PROMPTS[:1], SAMPLING, "policy", 2),
        (PROMPTS[:1], SAMPLING, "other", 2),
        (PROMPTS[:1], Sampling(n=2, temperature=0.6, top_p=1.0, max_new_tokens=8, seed=42), "policy", 2),
        (PROMPTS[:1], SAMPLING, "policy", 3),
        ([follow_up], SAMPLING, "policy", 2),
        ([other], SAMPLING, "policy", 2),
    ):
        sampler = kept(path, asked, origin, window)
        (group,) = sampler.sample(prompts, sampling)
        sampler.close()
        assert group.responses[0].text.startswith(str(prompts[0].conversation))
    assert len(asked.windows) == 6

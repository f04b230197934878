"""A run samples the same from prompts on disk as from prompts in memory, and knows them by the same hashes."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest
from tests.support.recipes import config_of, write_prompts

from crossward.core.records import Prompt, Response, SampledPrompt
from crossward.engines.protocols import Advance, Sampling, no_progress
from crossward.pipeline import prompts, stages
from crossward.pipeline.progress import SILENT
from crossward.pipeline.prompts import prompt_hashes, prompts_of_run, training_prompts
from crossward.store.manifest import content_hash
from crossward.store.prompt_shards import PromptShards
from crossward.store.run_dir import RunDir


class Echo:
    """Answers with the instruction, n times."""

    def sample(
        self, prompts: Sequence[Prompt], sampling: Sampling, *, advance: Advance = no_progress
    ) -> list[SampledPrompt]:
        return [
            SampledPrompt(
                prompt=prompt,
                responses=tuple(Response(text=f"{prompt.instruction} {k}") for k in range(sampling.n)),
            )
            for prompt in prompts
        ]

    def close(self) -> None:
        return None


@pytest.fixture
def config(tmp_path: Path):
    write_prompts(tmp_path / "prompts")
    return config_of(
        {
            "run": str(tmp_path / "run"),
            "languages": ["en", "es"],
            "iterations": 1,
            "models": {"policy": "p", "reference": "r", "dtype": "float32"},
            "prompts": {"path": str(tmp_path / "prompts" / "{language}.jsonl")},
        }
    )


def sampled(folder: Path, asked) -> dict[str, bytes]:
    stage = RunDir(folder).iteration(1).stage("sample")
    sampling = Sampling(n=2, temperature=1.0, top_p=1.0, max_new_tokens=8, seed=1)
    stages.sample(
        stage, asked, open_sampler=Echo, sampling=sampling, shard_size=4, settings={}, inputs=prompt_hashes(asked),
        progress=SILENT,
    )  # fmt: skip
    return {stage.relative(path): path.read_bytes() for path in [*(p for _, _, p in stage.shards()), stage.inputs]}


def test_prompts_on_disk_are_sampled_as_those_in_memory(tmp_path: Path, config, monkeypatch: pytest.MonkeyPatch):
    held = training_prompts(config)
    expected = {f"prompts/{code}": content_hash([asdict(prompt) for prompt in group]) for code, group in held.items()}
    monkeypatch.setattr(prompts, "HELD_BYTES", 100)
    kept = prompts_of_run(config, RunDir(tmp_path / "run"))
    assert all(isinstance(group, PromptShards) for group in kept.values())
    assert prompt_hashes(kept) == prompt_hashes(held) == expected
    found = sampled(tmp_path / "from-disk", kept)
    assert len(found) == 5
    assert found == sampled(tmp_path / "from-memory", held)


def test_small_prompts_stay_in_memory_and_leave_nothing_on_disk(tmp_path: Path, config, monkeypatch):
    directory = RunDir(tmp_path / "run")
    with monkeypatch.context() as large:
        large.setattr(prompts, "HELD_BYTES", 100)
        prompts_of_run(config, directory)
    assert directory.prompts.is_dir()
    assert prompts_of_run(config, directory) == training_prompts(config)
    assert not directory.prompts.exists()

"""A sample stage on the disk with no model behind it, and ways to cut the stage after it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crossward.core.records import Prompt, Response, SampledPrompt
from crossward.engines.protocols import Advance
from crossward.pipeline.progress import Silent
from crossward.store import tables
from crossward.store.run_dir import IterationDir, RunDir

SHARDS = 3


class Cut(Exception):
    """Stands for a kill."""


class CutAtTheEnd(Silent):
    """Lets every shard be written and cuts before the stage is closed."""

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        with super().task(title, total) as advance:
            yield advance
        raise Cut


def write_sampled_stage(root: Path, *, responses: int = 4, prompts: int = 2, shards: int = SHARDS) -> IterationDir:
    """English and Spanish, `shards` of `prompts` each; every response is another text and has no token ids."""
    here = RunDir(root).iteration(1)
    for language in ("en", "es"):
        for index in range(shards):
            groups = [
                SampledPrompt(
                    prompt=Prompt(id=f"p{k}", language=language, instruction=f"Di {k}", english_instruction=f"Say {k}"),
                    responses=tuple(Response(text=f"{language} {k} {n}") for n in range(responses)),
                )
                for k in range(index * prompts, (index + 1) * prompts)
            ]
            tables.write_sampled(here.stage("sample").shard(language, index), groups)
    return here

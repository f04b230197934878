"""Whole and sound shards that stand where they do not belong: refused by name, so that no row is lost or doubled."""

import re
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from crossward.core.instructions import PAPERS
from crossward.core.records import Prompt, Response, SampledPrompt
from crossward.core.translation import Translation
from crossward.engines.protocols import Advance, Judged, Sampling, ToRate, Work, no_progress
from crossward.engines.protocols import ResponseLogprob as Logprob
from crossward.pipeline import rating, stages, translate_stage
from crossward.pipeline.progress import Silent
from crossward.pipeline.token_terms import write_terms
from crossward.store.run_dir import RunDir, StageDir
from crossward.store.token_file import read_token_terms

SAMPLING = Sampling(n=2, temperature=1.0, top_p=1.0, max_new_tokens=8, seed=1)
PROMPTS = {
    language: [
        Prompt(id=f"p{i}", language=language, instruction=f"{language} {i}", english_instruction=f"en {i}")
        for i in range(6)
    ]
    for language in ("en", "es")
}
MADE: Any = {"settings": {}, "inputs": {}, "progress": Silent()}


class Echo:
    """A sampler that says the same to everything, and a translator that says it again."""

    name = identity = "echo"

    def sample(self, prompts: Sequence[Prompt], sampling: Sampling, *, advance: Advance = no_progress):
        said = (Response(text="a"), Response(text="b"))
        return [SampledPrompt(prompt=prompt, responses=said) for prompt in prompts]

    def translate(self, texts: Sequence[str], **more: object) -> list[Translation]:
        return [Translation(text=text) for text in texts]

    def close(self) -> None:
        """Nothing is open."""


class Scorer:
    """Log-probabilities that are the number of the prompt."""

    work = Work()

    def score(self, groups: Sequence[Judged], *, per_token: bool = False, advance: Advance = no_progress):
        return [tuple(Logprob(logprob=-1.0, n_tokens=1) for _ in group.responses) for group in groups]

    def close(self) -> None:
        """Nothing is open."""


class Rater:
    """One rating for all."""

    def __init__(self) -> None:
        self.failures, self.left_out = Counter[str](), Counter[str]()

    def rate(self, groups: Sequence[ToRate], *, advance: Advance = no_progress):
        return [tuple(1.0 for _ in group.responses) for group in groups]

    def close(self) -> None:
        """Nothing is open."""


def sampled(stage: StageDir) -> None:
    stages.sample(stage, PROMPTS, open_sampler=Echo, sampling=SAMPLING, shard_size=2, **MADE)


def scored(stage: StageDir, source: StageDir) -> None:
    stages.score(
        stage, source, view="multilingual", open_scorers=(Scorer, Scorer), open_exact=None, noise_sample=0, **MADE
    )


def rated(stage: StageDir, source: StageDir) -> None:
    rating.rate(
        stage, source, source="judge", view="multilingual", steering=PAPERS, translated=None, open_rater=Rater,
        count_tokens=lambda response: 1, **MADE,
    )  # fmt: skip


def translated(stage: StageDir, source: StageDir) -> None:
    translate_stage.translate(
        stage, source, open_translator=lambda kept: Echo(), open_identifier=lambda: None, attempts=1, checks=False,
        **MADE,
    )  # fmt: skip


MAKERS = {"sample": lambda stage, source: sampled(stage), "score": scored, "rate": rated, "translate": translated}


@pytest.fixture(params=MAKERS)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[StageDir, StageDir]:
    """A finished stage, and the sampled responses."""
    here = RunDir(tmp_path).iteration(1)
    source, stage = here.stage("sample"), here.stage(request.param)
    sampled(source)
    MAKERS[request.param](stage, source)
    return stage, source


def again(made: tuple[StageDir, StageDir]) -> None:
    MAKERS[made[0].name](*made)


def test_a_file_that_is_not_listed_is_refused(made):
    """Whoever reads the stage would take it for one of its own: its prompts twice."""
    stage = made[0]
    again(made)
    foreign = stage.shard("es", 3)
    shutil.copy(stage.shard("es", 0), foreign)
    said = f"file {foreign} is none that {stage.title} made: move it away and run again"
    with pytest.raises(ValueError, match=re.escape(said)):
        again(made)
    stage.manifest.unlink()
    with pytest.raises(ValueError, match=re.escape(said)):
        again(made)
    foreign.unlink()
    again(made)


def test_a_shard_in_the_place_of_another_is_refused(made):
    """Of a stage that was cut: its own prompts would be lost, and others there twice."""
    stage = made[0]
    stage.manifest.unlink()
    whole = stage.shard("es", 1).read_bytes()
    shutil.copy(stage.shard("es", 0), stage.shard("es", 1))
    with pytest.raises(ValueError, match=r"es/part-00001\.parquet is damaged or foreign \(its prompts are not"):
        again(made)
    stage.shard("es", 1).unlink()
    again(made)
    assert stage.shard("es", 1).read_bytes() == whole


def test_no_terms_are_no_file(tmp_path: Path):
    """Of a language whose every response has none: a file without a line is one that lost them."""
    stage = RunDir(tmp_path).iteration(1).stage("score")
    group = SimpleNamespace(prompt=PROMPTS["es"][0], responses=())
    write_terms(stage, lambda response: (), [group], [()], [()])  # pyright: ignore[reportArgumentType]
    assert read_token_terms(stage.tokens_file("es")) == {}
    assert stage.tokens_files() == []

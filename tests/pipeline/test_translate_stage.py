"""The translate stage cut at every place and run again: the counts of one that was never cut."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.support.chat_server import Reply, Request, chat_server, choices
from tests.support.sampled_stages import SHARDS, Cut, CutAtTheEnd, write_sampled_stage

from crossward.core.translation import Problem, Translation
from crossward.engines.endpoint import Endpoint
from crossward.engines.protocols import Advance, no_progress
from crossward.pipeline.progress import Progress, Silent
from crossward.pipeline.translate_stage import translate
from crossward.pipeline.translators import TranslatorSettings, open_translator
from crossward.store.run_dir import IterationDir


class Choosy:
    """Fails at every response 0 and 3, each for a reason of its own; is cut when it is asked `most` times."""

    name = identity = "choosy"

    def __init__(self, most: int = 99) -> None:
        self.left = most

    def translate(
        self, texts: Sequence[str], *, source: str, target: str, attempt: int = 0, advance: Advance = no_progress
    ) -> list[Translation]:
        if not self.left:
            raise Cut
        self.left -= 1
        problems: dict[str, Problem] = {"0": "no-tags", "3": "truncated"}
        return [
            Translation(text=None, problem=problem) if (problem := problems.get(text[-1])) else Translation(text=text)
            for text in texts
        ]

    def close(self) -> None:
        pass


def go(here: IterationDir, translator: Choosy, progress: Progress, **changes: Any) -> dict[str, Any]:
    return translate(
        here.stage("translate"),
        here.stage("sample"),
        open_translator=lambda kept: translator,
        open_identifier=lambda: None,
        attempts=1,
        checks=False,
        settings={},
        inputs={},
        progress=progress,
        **changes,
    ).counts


@pytest.mark.parametrize("whole", range(SHARDS + 1))
@pytest.mark.parametrize("from_english", [False, True])
def test_a_stage_that_was_cut_counts_every_reason(tmp_path: Path, whole: int, from_english: bool):
    expected = go(write_sampled_stage(tmp_path / "a"), Choosy(), Silent(), from_english=from_english)
    assert expected["languages"]["es"] == {
        "responses": 24,
        "translated": 12,
        "problems": {"no-tags": 6, "truncated": 6},
    }
    here = write_sampled_stage(tmp_path / "b")
    with pytest.raises(Cut):
        go(here, Choosy(most=whole), Silent() if whole < SHARDS else CutAtTheEnd(), from_english=from_english)
    assert len(here.stage("translate").shards()) == whole
    assert go(here, Choosy(), Silent(), from_english=from_english) == expected


def test_a_shard_that_is_done_again_counts_once(tmp_path: Path):
    here = write_sampled_stage(tmp_path)
    expected = go(here, Choosy(), Silent())
    here.stage("translate").shard("es", 1).unlink()
    assert go(here, Choosy(), Silent()) == expected


def test_a_response_that_the_server_never_answers_is_counted_and_the_stage_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def filtering(request: Request, before: int) -> Reply:
        odd = request["messages"][-1]["content"].endswith("3")
        return choices(None, reason="content_filter") if odd else choices("<translated>It is so.</translated>")

    here = write_sampled_stage(tmp_path)
    with chat_server(filtering) as server:
        endpoint = Endpoint(base_url=server.base_url, model="m", concurrency=2, first_pause_s=0.01)
        settings = TranslatorSettings(engine="openai", endpoint=endpoint)
        counts = translate(
            here.stage("translate"),
            here.stage("sample"),
            open_translator=lambda kept: open_translator(settings, kept=kept, progress=Silent()),
            open_identifier=lambda: None,
            attempts=3,
            checks=False,
            settings={},
            inputs={},
            progress=Silent(),
        ).counts
    assert counts["languages"]["es"] == {"responses": 24, "translated": 18, "problems": {"no-answer": 6}}
    assert len(server.requests) == 18 + 3 * 6

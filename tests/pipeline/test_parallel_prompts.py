"""English prompts to parallel files, against a server with every fault, with kills; read as a recipe reads them."""

import json
import multiprocessing
import os
import signal
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from tests.support.chat_server import Reply, Request, chat_server, choices
from tests.support.translation_server import ENGLISH, TRANSLATED, TranslationServer, english_file

from crossward.core.language import Identification
from crossward.core.translation import prose_of
from crossward.engines.endpoint import Endpoint
from crossward.pipeline import parallel_prompts as module
from crossward.pipeline.parallel_prompts import ParallelFiles, parallel_prompts
from crossward.pipeline.progress import Silent
from crossward.pipeline.translators import TranslatorSettings
from crossward.store.sources import Source, load_counted

FAULTS: Any = {
    ("es", "noise"): "wrong-language",
    ("es", "code"): "no-code",
    ("es", "sea"): "no-tags",
    ("de", "fruit"): "cut",
    ("de", "mail"): "echo",
}
ALWAYS = frozenset([("es", "code"), ("de", "fruit")])


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(module, "CONTRAST", ("de", "es"))  # fewer models to load


@pytest.fixture
def english(tmp_path: Path) -> Path:
    path = tmp_path / "english.jsonl"
    path.write_text(english_file())
    return path


def made(english: Path, base_url: str, folder: Path, languages: tuple[str, ...] = ("es", "de"), **more: Any) -> Any:
    endpoint = Endpoint(base_url=base_url, model="tutor", concurrency=2, attempts=4, first_pause_s=0.01)
    settings = TranslatorSettings(engine="openai", endpoint=endpoint, attempts=more.pop("attempts", 3))
    return parallel_prompts(
        Source(path=str(english)),
        languages,
        str(folder / "{language}.jsonl"),
        settings=settings,
        progress=Silent(),
        **more,
    )


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def instructions(path: Path) -> dict[str, str]:
    return {row["id"]: row["instruction"] for row in rows(path)}


def contents(folder: Path) -> dict[str, bytes]:
    """The files that a person reads; a journal may hold its lines in another order."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if "journal" not in path.name}


def test_files_have_the_same_ids_faults_are_mended_and_what_stays_wrong_is_told(english: Path, tmp_path: Path):
    handler = TranslationServer(faults=FAULTS, always=ALWAYS, drops=frozenset([1, 4, 9]))
    with chat_server(handler) as server:
        summary = made(english, server.base_url, tmp_path / "out")
    out = tmp_path / "out"
    assert instructions(out / "en.jsonl") == ENGLISH
    assert instructions(out / "es.jsonl") == {k: v for k, v in TRANSLATED["es"].items() if k != "code"}
    assert instructions(out / "de.jsonl") == {k: v for k, v in TRANSLATED["de"].items() if k != "fruit"}
    (failed,) = rows(out / "es.failed.jsonl")
    assert failed == {
        "id": "code",
        "reason": "code-block-lost",
        "further_reasons": [],
        "english_instruction": ENGLISH["code"],
        "last_text": "Explica qué hace este código:",
    }
    (cut,) = rows(out / "de.failed.jsonl")
    assert (cut["id"], cut["reason"]) == ("fruit", "truncated")
    assert summary["n_prompts"] == 5
    assert summary["n_in_every_language"] == 3
    assert summary["languages"]["es"] == {
        "n_prompts": 5,
        "n_translated": 4,
        "n_retried": 2,
        "n_failed": 1,
        "failed": {"code-block-lost": 1},
        "failed_attempts": {"code-block-lost": 3, "wrong-language": 1, "no-tags": 1},
        "n_written": 4,
    }
    assert summary["languages"]["de"]["failed_attempts"] == {"truncated": 3, "unchanged": 1}
    # As a recipe with prompts.path and allow_missing reads them.
    sources = {language: Source(path=str(out / f"{language}.jsonl")) for language in ("en", "es", "de")}
    loaded = load_counted(sources, allow_missing=True)
    assert loaded.n_missing == {"en": 0, "es": 1, "de": 1}
    assert loaded.prompts["es"][0].english_instruction == ENGLISH["noise"]


def test_the_same_command_again_asks_nothing_and_another_language_only_itself(english: Path, tmp_path: Path):
    handler, out = TranslationServer(faults=FAULTS, always=ALWAYS), tmp_path / "out"
    with chat_server(handler) as server:
        first = made(english, server.base_url, out, ("es",))
        asked, before, journal = len(handler.asked), contents(out), (out / module.JOURNAL).read_bytes()
        assert made(english, server.base_url, out, ("es",)) == first
        assert len(handler.asked) == asked
        assert contents(out) == before
        assert (out / module.JOURNAL).read_bytes() == journal
        made(english, server.base_url, out, ("es", "de"))
        assert {language for language, _, _ in handler.asked[asked:]} == {"de"}
        assert contents(out).items() >= before.items()
        asked = len(handler.asked)
        made(english, server.base_url, out, ("es",), attempts=5)
        assert [id for _, id, _ in handler.asked[asked:]] == ["code", "code"]


class Known:
    """An identifier of the server's sentences: lingua's threads do not survive a fork."""

    unsupported = ()

    def identify(self, texts: Sequence[str]) -> list[Identification]:
        languages = {prose_of(text): code for code, found in TRANSLATED.items() for text in found.values()}
        return [Identification(language=languages.get(text), confidence=1.0) for text in texts]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_kills_change_no_byte_and_nothing_is_asked_twice(
    english: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "_identifier", lambda language, progress: Known())
    whole = TranslationServer(faults=FAULTS, always=ALWAYS)
    with chat_server(whole) as server:
        made(english, server.base_url, tmp_path / "whole")
    killed = TranslationServer(faults=FAULTS, always=ALWAYS, drops=frozenset([3]))
    children: list[BaseProcess] = []

    def answer(request: Request, before: int) -> Reply:
        if before in (2, 6, 11, 15) and children and (pid := children[-1].pid) is not None:
            os.kill(pid, signal.SIGKILL)
        return killed(request, before)

    with chat_server(answer) as server:
        for _ in range(9):
            fork = multiprocessing.get_context("fork")
            children.append(fork.Process(target=made, args=(english, server.base_url, tmp_path / "out")))
            children[-1].start()
            children[-1].join(60)
            if children[-1].exitcode != -signal.SIGKILL:
                break
        children[-1].kill()
    assert [child.exitcode for child in children] == [-signal.SIGKILL] * 4 + [0]
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    # Two requests at most were under way at each kill.
    assert len(killed.asked) <= len(whole.asked) + 4 * 2


UNANSWERED = {
    "content filter": choices(None, reason="content_filter"),
    "HTTP 500": Reply(status=500, body="internal error"),
}


@pytest.mark.parametrize("kind", UNANSWERED)
def test_a_prompt_that_the_server_never_answers_is_told_and_asked_again_by_the_next_run(
    kind: str, english: Path, tmp_path: Path
):
    handler, out, broken = TranslationServer(), tmp_path / "out", ["sea"]

    def answer(request: Request, before: int) -> Reply:
        asked = request["messages"][-1]["content"]
        return UNANSWERED[kind] if any(ENGLISH[id] in asked for id in broken) else handler(request, before)

    with chat_server(answer) as server:
        first = made(english, server.base_url, out, ("es",))
        asked = len(server.requests)
        assert made(english, server.base_url, out, ("es",)) == first
        assert all(ENGLISH["sea"] in request["messages"][-1]["content"] for request in server.requests[asked:])
        assert first["languages"]["es"]["failed"] == {"no-answer": 1}
        assert instructions(out / "es.jsonl") == {k: v for k, v in TRANSLATED["es"].items() if k != "sea"}
        (failed,) = rows(out / "es.failed.jsonl")
        assert (failed["id"], failed["reason"]) == ("sea", "no-answer")
        assert kind.replace(" ", "_") in failed["last_text"].replace(" ", "_")
        broken.clear()
        assert made(english, server.base_url, out, ("es",))["languages"]["es"]["n_translated"] == 5
    assert instructions(out / "es.jsonl") == TRANSLATED["es"]
    assert not (out / "es.failed.jsonl").exists()


def test_a_server_that_dies_stops_the_work_and_nothing_is_lost(english: Path, tmp_path: Path):
    handler, alive, out = TranslationServer(), [5], tmp_path / "out"

    def dying(request: Request, before: int) -> Reply:
        if not alive[0]:
            return Reply(status=500, body="out of memory")
        alive[0] -= 1
        return handler(request, before)

    with chat_server(dying) as server:
        assert made(english, server.base_url, out, ("es",))["languages"]["es"]["n_translated"] == 5
        before = contents(out)
        alive[0] = 0
        with pytest.raises(ValueError, match=r"no usable answer .* HTTP 500: out of memory"):
            made(english, server.base_url, out, ("es", "de"))
        assert contents(out) == before
        alive[0] = 99
        made(english, server.base_url, out, ("es", "de"))
    assert len(handler.asked) == 10
    assert instructions(out / "de.jsonl") == TRANSLATED["de"]


def test_equal_prompts_are_asked_once_and_equal_ids_refused(tmp_path: Path):
    english = tmp_path / "english.jsonl"
    line = {"id": 1, "instruction": ENGLISH["sea"]}
    english.write_text("".join(json.dumps(line | {"id": id}) + "\n" for id in (1, 2, 3)))
    handler = TranslationServer()
    with chat_server(handler) as server:
        summary = made(english, server.base_url, tmp_path / "out", ("es",))
        assert len(handler.asked) == 1
        assert summary["languages"]["es"]["n_translated"] == 3
        assert [row["id"] for row in rows(tmp_path / "out" / "es.jsonl")] == ["1", "2", "3"]
        english.write_text("".join(json.dumps(line) + "\n" for _ in range(2)))
        with pytest.raises(ValueError, match="id '1' stands on line 1 and on line 2"):
            made(english, server.base_url, tmp_path / "out", ("es",))


def test_complete_files_have_only_ids_that_every_language_has(english: Path, tmp_path: Path):
    with chat_server(TranslationServer(faults=FAULTS, always=ALWAYS)) as server:
        summary = made(english, server.base_url, tmp_path / "out", complete=True)
    for language in ("en", "es", "de"):
        assert list(instructions(tmp_path / "out" / f"{language}.jsonl")) == ["noise", "mail", "sea"]
    assert summary["languages"]["es"]["n_written"] == 3
    assert [row["id"] for row in rows(tmp_path / "out" / "es.failed.jsonl")] == ["code"]


def test_other_fields_are_copied_when_asked_for_and_a_limit_takes_the_first(tmp_path: Path):
    english = tmp_path / "english.jsonl"
    english.write_text(english_file(more={"topic": "life", "language": "English"}))
    with chat_server(TranslationServer()) as server:
        made(english, server.base_url, tmp_path / "out", ("es",), keep_fields=True, limit=2)
        assert rows(tmp_path / "out" / "es.jsonl")[1] == {
            "id": "code",
            "language": "es",
            "instruction": TRANSLATED["es"]["code"],
            "topic": "life",
        }
        assert len(rows(tmp_path / "out" / "en.jsonl")) == 2
        made(english, server.base_url, tmp_path / "plain", ("es",), limit=2)
        assert set(rows(tmp_path / "plain" / "en.jsonl")[0]) == {"id", "language", "instruction"}


def test_a_language_without_any_translation_is_an_error_that_leaves_the_others(english: Path, tmp_path: Path):
    faults: Any = {("de", id): "no-tags" for id in ENGLISH}
    server_of = TranslationServer(faults=faults, always=frozenset(faults))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "de.jsonl").write_text("stale")
    with (
        chat_server(server_of) as server,
        pytest.raises(ValueError, match=r"no prompt could be translated into de \(5 × no-tags\): look at .*de.failed"),
    ):
        made(english, server.base_url, tmp_path / "out")
    assert instructions(tmp_path / "out" / "es.jsonl") == TRANSLATED["es"]
    assert not (tmp_path / "out" / "de.jsonl").exists()
    assert len(rows(tmp_path / "out" / "de.failed.jsonl")) == 5


def test_an_english_file_that_lies_beside_its_translations_stays_as_it_is(tmp_path: Path):
    english = tmp_path / "out" / "en.jsonl"
    english.parent.mkdir()
    english.write_text(english_file("sea", "mail", more={"topic": "life"}))
    before = english.read_bytes()
    with chat_server(TranslationServer()) as server:
        made(english, server.base_url, tmp_path / "out", ("es",))
        assert english.read_bytes() == before
        with pytest.raises(ValueError, match="choose another --output"):
            made(english, server.base_url, tmp_path / "out", ("es",), complete=True)
        english.rename(tmp_path / "out" / "es.jsonl")
        with pytest.raises(ValueError, match="would be overwritten"):
            made(tmp_path / "out" / "es.jsonl", server.base_url, tmp_path / "out", ("es",))


@pytest.mark.parametrize(
    ("languages", "sentence"),
    [
        ((), "name the languages"),
        (("es", "en"), "leave en out"),
        (("es", "es"), "'es' is named twice"),
        (("spanish",), "unknown language code 'spanish'"),
    ],
)
def test_wrong_languages_are_told_before_anything_is_asked(
    languages: tuple[str, ...], sentence: str, english: Path, tmp_path: Path
):
    with pytest.raises(ValueError, match=sentence):
        made(english, "http://127.0.0.1:9/v1", tmp_path / "out", languages)
    assert not (tmp_path / "out").exists()


def test_places_of_the_files():
    with pytest.raises(ValueError, match=r"write \{language\} where"):
        ParallelFiles(output="prompts.jsonl")
    flat, deep = ParallelFiles(output="p/{language}.jsonl"), ParallelFiles(output="p/{language}/prompts.jsonl")
    assert (flat.failed("es"), deep.failed("es")) == (Path("p/es.failed.jsonl"), Path("p/es/prompts.failed.jsonl"))
    assert {files.journal for files in (flat, deep, ParallelFiles(output="p/x-{language}.jsonl"))} == {
        Path("p/translations.journal.jsonl")
    }
    assert ParallelFiles(output="{language}.jsonl").journal == Path("translations.journal.jsonl")

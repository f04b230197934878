"""From plain settings to a translator: the right engine, an identity of what decides the words, and sentences."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.chat_server import chat_server
from tests.support.families import MAX_POSITIONS, make_family
from tests.support.seq2seq import make_seq2seq
from tests.support.translation_server import ENGLISH, TRANSLATED, TranslationServer

from crossward.engines.chat_translator import ChatTranslator
from crossward.engines.endpoint import Endpoint
from crossward.engines.protocols import ModelSpec
from crossward.engines.seq2seq_translator import Seq2SeqTranslator
from crossward.pipeline.progress import Silent
from crossward.pipeline.translators import TranslatorSettings, open_translator, read_translation_template
from crossward.store.keyed_lines import KeyedLines


@pytest.fixture(autouse=True)
def straight_to_the_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    return ModelSpec(path=str(make_family("chatml", tmp_path_factory.mktemp("chat"))), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def nllb(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    folder = make_seq2seq("flores", tmp_path_factory.mktemp("nllb"), seed=1)
    return ModelSpec(path=str(folder), dtype="float32", device="cpu")


def identity(settings: TranslatorSettings) -> str:
    with closing(open_translator(settings, progress=Silent())) as translator:
        return translator.identity


def test_auto_takes_a_translation_model_for_one_and_any_other_for_a_chat_model(chat: ModelSpec, nllb: ModelSpec):
    assert TranslatorSettings(model=nllb).resolved_engine() == "seq2seq"
    assert TranslatorSettings(model=chat).resolved_engine() in ("transformers", "vllm")
    with closing(open_translator(TranslatorSettings(model=nllb), progress=Silent())) as translator:
        assert isinstance(translator, Seq2SeqTranslator)
        assert translator.translate(["Hi"], source="en", target="es")[0].text
    plain = TranslatorSettings(model=chat, engine="transformers", template=Path("plain"), max_new_tokens=4)
    with closing(open_translator(plain, progress=Silent())) as translator:
        assert isinstance(translator, ChatTranslator)
        found = translator.translate(["Hi", "Hi " * MAX_POSITIONS], source="en", target="es")
    assert found[0].text or found[0].problem in ("truncated", "empty")
    assert found[1].problem == "too-long"


def test_a_translation_may_take_half_of_the_models_positions(chat: ModelSpec):
    settings = TranslatorSettings(model=chat, engine="transformers", template=Path("plain"))
    assert identity(settings) == identity(replace(settings, max_new_tokens=MAX_POSITIONS // 2))
    assert identity(settings) != identity(replace(settings, max_new_tokens=MAX_POSITIONS // 2 - 1))


def test_the_identity_is_what_decides_the_words(chat: ModelSpec, nllb: ModelSpec, tmp_path: Path):
    settings = TranslatorSettings(model=chat, engine="transformers")
    other = ModelSpec(path=str(make_family("chatml", tmp_path / "other", seed=9)), dtype="float32", device="cpu")
    copy = replace(chat, path=str(make_family("chatml", tmp_path / "copy")))
    own = tmp_path / "own.txt"
    own.write_text("{target}: {text}")
    different: list[Any] = [
        {"model": other},
        {"model": replace(chat, dtype="bfloat16")},
        {"template": own},
        {"template": Path("plain")},
        {"seed": 7},
        {"parse": "plain"},
        {"max_new_tokens": 5},
    ]
    found = [identity(settings), *(identity(replace(settings, **change)) for change in different)]
    assert len(set(found)) == len(found)
    assert identity(replace(settings, model=copy)) == found[0]  # the same weights elsewhere
    assert identity(replace(settings, attempts=9, batch_rows=3)) == found[0]
    beams = TranslatorSettings(model=nllb, engine="seq2seq")
    assert identity(beams) != identity(replace(beams, beams=4))
    servers = [Endpoint(base_url=f"http://localhost:{port}/v1", model="m") for port in (1, 2)]
    assert len({identity(TranslatorSettings(engine="openai", endpoint=server)) for server in servers}) == 1


def test_what_a_server_said_is_kept_answer_by_answer(tmp_path: Path):
    handler = TranslationServer()
    with chat_server(handler) as server, KeyedLines(tmp_path / "kept") as kept:
        settings = TranslatorSettings(engine="openai", endpoint=Endpoint(base_url=server.base_url, model="m"))
        for _ in range(2):
            with closing(open_translator(settings, kept=kept, progress=Silent())) as translator:
                found = translator.translate(list(ENGLISH.values()), source="en", target="de")
                assert [one.text for one in found] == list(TRANSLATED["de"].values())
    assert len(server.requests) == len(ENGLISH)


def test_wrong_settings_are_told_in_a_sentence(chat: ModelSpec, nllb: ModelSpec, tmp_path: Path):
    endpoint = Endpoint(base_url="http://localhost:1/v1", model="m")
    wrong: list[tuple[Any, str]] = [
        ({}, "name one translator"),
        ({"model": chat, "endpoint": endpoint, "engine": "openai"}, "name one translator"),
        ({"endpoint": endpoint}, "needs both the engine openai"),
        ({"model": chat, "engine": "openai"}, "needs both the engine openai"),
        ({"model": chat, "attempts": 0}, "attempts must be 1 or more, got 0"),
    ]
    for settings, sentence in wrong:
        with pytest.raises(ValueError, match=sentence):
            TranslatorSettings(**settings)
    late: list[tuple[Any, str]] = [
        ({"model": chat, "engine": "seq2seq"}, "is no encoder-decoder"),
        ({"model": nllb, "template": Path("plain")}, "leave out the template plain"),
        ({"model": chat, "engine": "transformers", "template": tmp_path / "none.txt"}, "cannot be read as a UTF-8"),
        ({"model": replace(chat, path=str(tmp_path / "none"))}, "does not exist"),
        ({"endpoint": replace(endpoint, base_url="nowhere"), "engine": "openai"}, "must look like http"),
        ({"endpoint": replace(endpoint, api_key_env="NO_SUCH_KEY"), "engine": "openai"}, "holds no key"),
    ]
    for settings, sentence in late:
        with pytest.raises(ValueError, match=sentence):
            open_translator(TranslatorSettings(**settings), progress=Silent())


def test_our_templates_ask_for_what_is_read():
    default, plain = read_translation_template(None), read_translation_template(Path("plain"))
    assert (default.parse, plain.parse) == ("tags", "plain")
    assert plain.render("gato", source="es", target="en") == "Translate into English : gato"  # the tiny world's words
    request = default.render("Say {text}!", source="en", target="sw")
    assert "from English into Swahili" in request
    assert request.endswith("\n\nSay {text}!")

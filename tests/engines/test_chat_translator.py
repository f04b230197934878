"""Translating by asking a chat model: a tiny random one in this process, and a server that answers in every way."""

from pathlib import Path

import pytest
from tests.support.chat_server import Reply, Request, chat_server, choices
from tests.support.families import make_family
from tests.support.translation_server import ENGLISH, TRANSLATED, TranslationServer

from crossward.core.translation import Translation, parse_template
from crossward.engines import chat_translator
from crossward.engines.chat_translator import ChatTranslator
from crossward.engines.endpoint import Endpoint, Refused
from crossward.engines.hf_sampler import HfSampler
from crossward.engines.openai_sampler import OpenAiSampler
from crossward.engines.protocols import ModelSpec
from crossward.engines.tokens import ChatTokens, load_tokens

PLAIN = parse_template("Into {target} : {text}", "plain")
TAGGED = parse_template(
    "From {source} into {target}, in <translated> and </translated>.\n\nThe text:\n\n{text}", "tagged"
)
TEXTS = ["the thing", "Hola " * 9, "Ma", "a {text} with {target} braces"]


@pytest.fixture(autouse=True)
def straight_to_the_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelSpec, ChatTokens]:
    spec = ModelSpec(path=str(make_family("llama3", tmp_path_factory.mktemp("tiny"))), dtype="float32", device="cpu")
    return spec, load_tokens(spec)


def local(tiny: tuple[ModelSpec, ChatTokens], *, seed: int = 42, batch_rows: int = 64) -> ChatTranslator:
    return ChatTranslator(
        lambda: HfSampler(*tiny, batch_rows=batch_rows),
        PLAIN,
        name="tiny",
        identity="tiny",
        max_new_tokens=8,
        seed=seed,
    )


def served(base_url: str, *, max_new_tokens: int = 64, attempts: int = 3) -> ChatTranslator:
    endpoint = Endpoint(base_url=base_url, model="m", concurrency=4, attempts=attempts, first_pause_s=0.01)
    return ChatTranslator(
        lambda: OpenAiSampler(endpoint, None), TAGGED, name="m", identity="m", max_new_tokens=max_new_tokens
    )


def drafts(found: list[Translation]) -> list[str]:
    return [one.text or one.draft for one in found]


@pytest.mark.parametrize("attempt", [0, 1])
def test_a_text_is_translated_alike_alone_and_among_others(tiny: tuple[ModelSpec, ChatTokens], attempt: int):
    whole = local(tiny).translate(TEXTS, source="en", target="es", attempt=attempt)
    assert all(drafts(whole))
    others = local(tiny, batch_rows=1)
    assert others.translate(TEXTS[::-1], source="en", target="es", attempt=attempt) == whole[::-1]
    assert others.translate([TEXTS[1]], source="en", target="es", attempt=attempt) == whole[1:2]
    others.close()


def test_attempts_seeds_and_languages_differ_and_greedy_knows_no_seed(tiny: tuple[ModelSpec, ChatTokens]):
    def made(attempt: int, *, seed: int = 42, target: str = "es", source: str = "en") -> list[str]:
        return drafts(local(tiny, seed=seed).translate(TEXTS, source=source, target=target, attempt=attempt))

    assert made(0) == made(0, seed=7)
    assert made(1) == made(1)
    assert len({str(made(1)), str(made(2)), str(made(1, seed=7)), str(made(1, source="de")), str(made(0))}) == 5
    assert made(0) != made(0, target="sw")


def test_the_greedy_answer_is_the_models_own(tiny: tuple[ModelSpec, ChatTokens]):
    import torch
    from transformers import AutoModelForCausalLM

    spec, tokens = tiny
    model = AutoModelForCausalLM.from_pretrained(spec.path)
    (found,) = local(tiny).translate(["the thing"], source="en", target="es")
    ids = list(tokens.prompt_ids("Into Spanish : the thing"))
    for _ in range(8):
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    assert (found.text or found.draft).strip() == tokens.decode(ids[-8:]).strip()


def test_a_request_that_does_not_fit_is_never_asked(tiny: tuple[ModelSpec, ChatTokens]):
    told: list[int] = []
    translator = ChatTranslator(
        lambda: HfSampler(*tiny),
        PLAIN,
        name="t",
        identity="t",
        max_new_tokens=8,
        fits=lambda asked: "Hola" not in asked,
    )
    found = translator.translate([*TEXTS, TEXTS[0]], source="en", target="es", advance=told.append)
    assert [one.problem == "too-long" for one in found] == [False, True, False, False, False]
    assert found[0] == found[-1]
    assert sum(told) == 5

    def unopened() -> HfSampler:
        raise AssertionError("no model is opened for nothing")

    idle = ChatTranslator(unopened, PLAIN, name="t", identity="t", fits=lambda asked: False)
    assert idle.translate(TEXTS, source="en", target="es") == [Translation(text=None, problem="too-long")] * 4
    idle.close()


def test_a_server_is_asked_greedily_first_and_with_a_seed_of_the_text_afterwards():
    handler = TranslationServer(faults={("es", "noise"): "no-tags", ("es", "code"): "cut"})
    with chat_server(handler) as server:
        translator = served(server.base_url, max_new_tokens=99)
        found = translator.translate(list(ENGLISH.values()), source="en", target="es")
        again = translator.translate([ENGLISH["noise"]], source="en", target="es", attempt=1)
        translator.translate([ENGLISH["noise"], ENGLISH["code"]], source="en", target="es", attempt=2)
    assert [one.problem for one in found] == ["no-tags", "truncated", None, None, None]
    assert found[0].draft == TRANSLATED["es"]["noise"]
    assert [one.text for one in found[2:]] == list(TRANSLATED["es"].values())[2:]
    assert [one.text for one in again] == [TRANSLATED["es"]["noise"]]
    assert {(r["temperature"], r["top_p"]) for r in server.requests[:5]} == {(0.0, 1.0)}
    assert {(r["temperature"], r["top_p"]) for r in server.requests[5:]} == {(0.7, 0.95)}
    assert {r["max_tokens"] for r in server.requests} == {99}
    assert len({r["seed"] for r in server.requests}) == 8


def test_a_text_that_the_server_refuses_stops_none_of_the_others():
    refused = [ENGLISH["code"], ENGLISH["sea"]]

    def picky(request: Request, before: int) -> Reply:
        if any(text in request["messages"][-1]["content"] for text in refused):
            return Reply(body={"error": "content policy"}, status=400)
        return choices("<translated>Hola</translated>")

    with chat_server(picky) as server:
        found = served(server.base_url).translate(list(ENGLISH.values()), source="en", target="es")
    assert [one.problem for one in found] == [None, "refused", None, None, "refused"]
    assert "content policy" in found[1].draft


def test_a_server_that_refuses_everything_is_an_error():
    with (
        chat_server(lambda request, before: Reply(body={"error": "no such model"}, status=400)) as server,
        pytest.raises(Refused, match="no such model"),
    ):
        served(server.base_url).translate(list(ENGLISH.values()), source="en", target="es")
    assert len(server.requests) < 6 * chat_translator.ALL_REFUSED


UNANSWERED = {
    "content filter": (choices(None, reason="content_filter"), "content_filter", 3),
    "HTTP 500": (Reply(status=500, body="internal error"), "HTTP 500: internal error", 6),
    "a dropped connection": (Reply(drop=True), "disconnected", 6),
}


@pytest.mark.parametrize("kind", UNANSWERED)
def test_a_text_that_the_server_never_answers_stops_none_of_the_others(kind: str):
    reply, said, n_asked = UNANSWERED[kind]

    def picky(request: Request, before: int) -> Reply:
        return (
            reply if ENGLISH["code"] in request["messages"][-1]["content"] else choices("<translated>Hola</translated>")
        )

    told: list[int] = []
    with chat_server(picky) as server:
        found = served(server.base_url, attempts=6).translate(
            list(ENGLISH.values()), source="en", target="es", advance=told.append
        )
    assert [one.problem for one in found] == [None, "no-answer", None, None, None]
    assert said in found[1].draft
    assert sum(told) == 5
    assert len(server.requests) == 4 + n_asked


def test_refused_and_unanswered_texts_together():
    """A refusal has the texts asked again in halves: those that were given up are not."""

    def picky(request: Request, before: int) -> Reply:
        content = request["messages"][-1]["content"]
        if ENGLISH["noise"] in content:
            return choices(None, reason="content_filter")
        if ENGLISH["sea"] in content:
            return Reply(status=400, body="content policy", delay_s=0.5)
        return choices("<translated>Hola</translated>")

    with chat_server(picky) as server:
        found = served(server.base_url).translate(list(ENGLISH.values()), source="en", target="es")
    assert [one.problem for one in found] == ["no-answer", None, None, None, "refused"]
    assert sum(ENGLISH["noise"] in request["messages"][-1]["content"] for request in server.requests) == 3


@pytest.mark.parametrize("n", [2, 40])
def test_a_server_that_fails_at_everything_is_an_error(n: int):
    with (
        chat_server(lambda request, before: Reply(status=500, body="out of memory")) as server,
        pytest.raises(ValueError, match=r"no usable answer .* HTTP 500: out of memory"),
    ):
        served(server.base_url).translate([f"Text {k}" for k in range(n)], source="en", target="es")


def test_a_server_that_goes_away_in_between_is_an_error():
    going: list[bool] = []

    def dying(request: Request, before: int) -> Reply:
        return Reply(status=502, body="bad gateway") if going else choices("<translated>Hola</translated>")

    with chat_server(dying) as server:
        translator = served(server.base_url)
        assert translator.translate(["Hello"], source="en", target="es")[0].text == "Hola"
        going.append(True)
        with pytest.raises(ValueError, match=r"no usable answer .* HTTP 502"):
            translator.translate([f"Text {k}" for k in range(40)], source="en", target="es")
    with pytest.raises(ValueError, match=r"no usable answer .*Connect"):
        served(server.base_url).translate(["One text more"], source="en", target="es")


def test_a_server_that_is_gone_is_an_error(tmp_path: Path):
    with chat_server() as server:
        base_url = server.base_url
    with pytest.raises(ValueError, match="no usable answer"):
        served(base_url).translate(["Hello"], source="en", target="es")

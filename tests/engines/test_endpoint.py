"""Asking a server patiently: addresses and keys, pauses, what a server asks to wait, and the window that it closes."""

import asyncio
import gzip
import sys
import time
import zlib
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from tests.support.certificates import self_signed
from tests.support.chat_server import Reply, Request, chat_server, choices

from crossward.engines import connections
from crossward.engines.endpoint import (
    LONGEST_WAIT_ASKED_S,
    Again,
    ChatEndpoint,
    Endpoint,
    completions_url,
    wait_asked,
    window_wait,
)


@pytest.fixture(autouse=True)
def straight_to_the_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("ftp://host/v1", "must look like http://localhost:8000/v1"),
        ("localhost:8000/v1", "must look like"),
        ("http://", "must look like"),
        ("http://host:99999/v1", "port must be 0 to 65535"),
        ("http://host:port/v1", "must look like"),
        ("file:///etc/passwd", "must look like"),
        ("https://me:secret@host/v1", "holds a password"),
        ("https://host/v1?key=secret", r"must end with its path, got one with \? or #"),
        ("https://host/v1#secret", "must end with its path"),
        ("https://me:secret@ho st:x/v1", "holds a password"),
        ("https://host:x/v1?secret", "must end with its path"),
        ("http://host/v1\n", "must look like"),
        ("http://ho\nst/v1", "must look like"),
        ("http://ho\tst/v1", "must look like"),
        ("https://[::1/v1", "must look like"),
        ("https://host\\@evil/v1", "holds a password"),
        ("javascript:alert(1)", "must look like"),
        ("HTTPS//host", "must look like"),
    ],
)
def test_addresses_that_are_none(url: str, sentence: str):
    with pytest.raises(ValueError, match=sentence) as error:
        completions_url(url)
    assert "secret" not in str(error.value)


def test_addresses_and_keys(monkeypatch: pytest.MonkeyPatch):
    for url in ("http://localhost:8000/v1", "http://localhost:8000/v1/", "http://localhost:8000/v1/chat/completions"):
        assert completions_url(url) == "http://localhost:8000/v1/chat/completions"
    assert completions_url("https://[::1]:80/v1") == "https://[::1]:80/v1/chat/completions"
    monkeypatch.delenv("CROSSWARD_TEST_KEY", raising=False)
    endpoint = Endpoint(base_url="http://localhost:1/v1", model="m", api_key_env="CROSSWARD_TEST_KEY")
    with pytest.raises(ValueError, match="the environment variable CROSSWARD_TEST_KEY holds no key"):
        ChatEndpoint(endpoint)
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(ValueError, match=r"pip install 'crossward\[openai\]'"):
        ChatEndpoint(replace(endpoint, api_key_env=None))


def test_pauses_double_while_a_server_is_busy_or_answers_nobody():
    chat = ChatEndpoint(Endpoint(base_url="http://localhost:1/v1", model="m", concurrency=4))
    # (busy answers to this request, failures since the last usable answer to any) -> the longest pause
    for busy, failed, longest in ((0, 1, 1.0), (0, 4, 1.0), (0, 5, 2.0), (0, 13, 8.0), (3, 1, 4.0), (9, 1, 60.0)):
        chat._failed_since = failed
        pauses = [chat._pause(busy, None) for _ in range(50)]
        assert longest / 2 <= min(pauses) < max(pauses) <= longest
    assert chat._pause(1, 1e9) == LONGEST_WAIT_ASKED_S


def test_what_a_server_asks_to_wait():
    assert wait_asked({"retry-after": "7"}) == 7.0
    assert wait_asked({"retry-after": formatdate(time.time() + 60)}) == pytest.approx(60, abs=2)
    assert wait_asked({"retry-after": formatdate(0)}) == 0.0
    assert wait_asked({"retry-after": "soon"}) is None
    assert wait_asked({}) is None
    spent = {"x-ratelimit-remaining-tokens": "0"}
    assert wait_asked(spent | {"x-ratelimit-reset-tokens": "6m0s"}) == 360.0
    assert wait_asked(spent | {"x-ratelimit-reset-tokens": "20ms"}) == pytest.approx(0.02)
    assert wait_asked(spent | {"x-ratelimit-reset-tokens": "1.5"}) == 1.5
    assert wait_asked(spent | {"x-ratelimit-reset-tokens": "tomorrow"}) is None
    assert wait_asked(spent | {"x-ratelimit-reset-tokens": "9s", "retry-after": "2"}) == 2.0
    assert window_wait({"x-ratelimit-remaining-tokens": "5", "x-ratelimit-reset-tokens": "9s"}) is None


def test_nobody_asks_before_a_closed_window_opens_again():
    """The first answer says that no request is left for 0.4 s: the next two wait, though they were not refused."""
    came: list[float] = []

    def last_of_the_window(request: Request, before: int) -> Reply:
        came.append(time.monotonic())
        body = choices("m").body
        closed = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "400ms"}
        return Reply(body=body, headers=closed if before == 0 else {"x-ratelimit-remaining-requests": "9"})

    async def three(chat: ChatEndpoint) -> None:
        async with chat.client() as client:
            for _ in range(3):
                await chat.until(lambda: chat.post(client, {}, name="it"), name="it")

    with chat_server(last_of_the_window) as server:
        asyncio.run(three(ChatEndpoint(Endpoint(base_url=server.base_url, model="m"))))
    assert 0.39 < came[1] - came[0] < 2.0
    assert came[2] - came[1] < 0.3


@pytest.mark.parametrize("key", ["sk-abc\ndef", "sk abc", "sk\tabc"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(key: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CROSSWARD_TEST_KEY", key)
    with pytest.raises(ValueError, match="holds a space or a line break") as error:
        ChatEndpoint(Endpoint(base_url="http://localhost:1/v1", model="m", api_key_env="CROSSWARD_TEST_KEY"))
    assert "abc" not in str(error.value)


def test_a_key_is_not_shown_in_part(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CROSSWARD_TEST_KEY", "sk-secret-123")
    chat = ChatEndpoint(Endpoint(base_url="http://localhost:1/v1", model="m", api_key_env="CROSSWARD_TEST_KEY"))
    for place in range(180, 205):  # an excerpt ends within the key
        assert "sk-" not in chat.excerpt("x" * place + "sk-secret-123 is no key")


@pytest.mark.parametrize("kind", [302, 308])
def test_a_redirect_is_not_followed_and_the_key_goes_nowhere(kind: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CROSSWARD_TEST_KEY", "planted-key-1234")
    with chat_server() as other:

        def elsewhere(request: Request, before: int) -> Reply:
            return Reply(body="", status=kind, headers={"location": other.base_url + "/chat/completions"})

        with chat_server(elsewhere) as server:
            endpoint = Endpoint(base_url=server.base_url, model="m", api_key_env="CROSSWARD_TEST_KEY")
            with pytest.raises(ValueError, match=rf"sends the request elsewhere \(HTTP {kind}\), which"):
                ask_once(endpoint)
    assert server.authorizations == ["Bearer planted-key-1234"]
    assert other.requests == []


def test_a_certificate_that_nobody_signed_is_refused_and_nothing_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    certificate = self_signed(tmp_path)
    monkeypatch.setenv("CROSSWARD_TEST_KEY", "planted-key-1234")
    with chat_server(tls=certificate) as server:
        endpoint = Endpoint(base_url=server.base_url, model="m", api_key_env="CROSSWARD_TEST_KEY")
        assert endpoint.base_url.startswith("https://")
        with pytest.raises(ValueError, match="the server's certificate cannot be verified, so nothing was sent"):
            ask_once(endpoint)
        assert server.requests == []
        # The same server is spoken to where its certificate is trusted: it was the certificate.
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert ask_once(endpoint)["choices"]


def test_a_key_over_plain_http_is_warned_about_unless_it_stays_here(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CROSSWARD_TEST_KEY", "planted-key-1234")
    for url, warned in (
        ("http://example.org/v1", True),
        ("http://10.0.0.7:8000/v1", True),
        ("https://example.org/v1", False),
        ("http://localhost:8000/v1", False),
        ("http://127.0.0.1:8000/v1", False),
        ("http://[::1]:8000/v1", False),
    ):
        for variable in ("CROSSWARD_TEST_KEY", None):
            said: list[str] = []
            ChatEndpoint(Endpoint(base_url=url, model="m", api_key_env=variable), say=said.append)
            assert len(said) == (warned and variable is not None)
            assert "planted" not in "".join(said)


@pytest.mark.parametrize(
    "pasted",
    ["sk-proj-abc", "sk_live_0123456789abcdef", "hf_AbCdEfGhIjKlMnOpQrStUv", "0123456789abcdef0123456789abcdef",
     "AIzaSyA1234567890abcdefghij", "Bearer x", "", "eyJhbGciOi.x.y", "gsk_0123456789abcdef",
     "a9Kd8fJ2kLmN4pQr6sTu8vWx0Z"],
)  # fmt: skip
def test_a_key_pasted_for_its_variables_name_is_refused_and_not_repeated(pasted: str):
    with pytest.raises(ValueError, match="expected the NAME of the environment variable") as caught:
        ChatEndpoint(Endpoint(base_url="http://localhost:1/v1", model="m", api_key_env=pasted))
    assert not pasted or pasted not in str(caught.value)


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "KEY_FOR_MY_JUDGE_SERVER", "GITHUB_MODELS_API_TOKEN", "key2"])
def test_a_variables_name_is_none_of_these(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(name, "planted-key-1234")
    assert ChatEndpoint(Endpoint(base_url="http://localhost:1/v1", model="m", api_key_env=name))


def ask_once(endpoint: Endpoint) -> Any:
    """One request, as the samplers and judges send theirs."""
    chat = ChatEndpoint(endpoint)

    async def ask() -> Any:
        async with chat.client() as client:
            body = {"model": "m", "messages": [{"role": "user", "content": "Di"}], "n": 1, "seed": 1}
            return await chat.post(client, body, name="prompt 1")

    return asyncio.run(ask())


def packed(content: bytes, times: int = 1) -> bytes:
    for _ in range(times):
        content = gzip.compress(content, mtime=0)  # the time would be in the names of tests
    return content


@pytest.mark.parametrize(
    ("coding", "content", "said"),
    [
        ("gzip", packed(b'{"a": 1}'), None),
        ("deflate", zlib.compress(b'{"a": 1}'), None),
        ("identity", b'{"a": 1}', None),
        ("gzip", packed(b" " * 2**20), "longer than"),
        ("gzip, gzip", packed(b'{"a": 1}', 2), "packed in a way that was not asked for"),
        ("identity, gzip, x-gzip", packed(b" " * 2**24, 2), "packed in a way that was not asked for"),
        ("br", b'{"a": 1}', "packed in a way that was not asked for"),
        ("zstd", b'{"a": 1}', "packed in a way that was not asked for"),
        ("gzip", b'{"a": 1}', "not packed as it says"),
        ("gzip", packed(b'{"a": 1}')[:-9], "ends before its end"),
    ],
)
def test_a_packed_answer_is_unpacked_once_and_no_further_than_it_may_grow(
    coding: str, content: bytes, said: str | None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(connections, "LARGEST_ANSWER_BYTES", 2**16)

    async def ask(url: str) -> Any:
        chat = ChatEndpoint(Endpoint(base_url=url, model="m", concurrency=1))
        async with chat.client() as client:
            return await chat.post(client, {"model": "m"}, name="q")

    with chat_server(lambda request, before: Reply(body=content, headers={"content-encoding": coding})) as server:
        if said is None:
            assert asyncio.run(ask(server.base_url)) == {"a": 1}
            return
        with pytest.raises(Again, match=said):
            asyncio.run(ask(server.base_url))


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("SSL_CERT_FILE", __file__, r"SSL_CERT_FILE is '.*', and it holds no certificates: name a file"),
        ("SSL_CERT_FILE", "/nonexistent", "SSL_CERT_FILE is '/nonexistent', and there is no such file: name a file"),
        ("ALL_PROXY", "socks5://me:SECRET@127.0.0.1:9", r"the proxy that the environment names .* speaks socks"),
        ("ALL_PROXY", "gopher://me:SECRET@127.0.0.1:9", r"the proxy that the environment names .* is no address"),
    ],
)
def test_an_environment_that_nothing_can_be_asked_with_is_one_sentence(
    name: str, value: str, sentence: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(name, value)
    monkeypatch.setitem(sys.modules, "socksio", None)
    with pytest.raises(ValueError, match=sentence) as caught:
        ChatEndpoint(Endpoint(base_url="http://localhost:1/v1", model="m", concurrency=1)).client()
    assert "SECRET" not in str(caught.value)

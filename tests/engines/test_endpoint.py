"""Asking a server patiently: addresses and keys, pauses, what a server asks to wait, and the window that it closes."""

import asyncio
import sys
import time
from dataclasses import replace
from email.utils import formatdate

import pytest
from tests.support.chat_server import Reply, Request, chat_server, choices

from crossward.engines.endpoint import (
    LONGEST_WAIT_ASKED_S,
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

"""One server that speaks OpenAI's /chat/completions (`vllm serve`, SGLang, a vendor), asked patiently.

Bounded concurrency; every request is retried after a pause with jitter, and waits as long as the server asks
(Retry-After, x-ratelimit-*). Pauses grow while a server is busy or answers nobody, not where it answers others: one
broken answer is an accident. A pause holds no slot, so that the others stay busy. What an answer must hold is the
caller's business: it raises Again for one that another try may better. The key is read from the environment, kept
nowhere, and never shown.
"""

import asyncio
import base64
import json
import os
import random
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import reduce
from html import escape
from time import monotonic, time
from typing import Any, Literal, TypeVar
from urllib.parse import quote

from crossward.core.addresses import is_exposed, require_address, require_variable
from crossward.core.plain_text import visible_line
from crossward.engines.connections import Connections, NotRead, read_json

INSTALL = "the endpoint engine needs httpx: pip install 'crossward[openai]'"
LONGEST_PAUSE_S = 60.0
LONGEST_WAIT_ASKED_S = 600.0
TELL_EVERY_S = 10.0
GONE_AFTER = 8  # questions that gave up in a row, nobody being answered while they were tried: the server is gone
_PASSING = frozenset({408, 409, 425, 429})  # and every 5xx
_UNITS_S = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A server and how patiently to ask it. The key is read from the environment and kept nowhere."""

    base_url: str
    model: str
    api_key_env: str | None = None
    concurrency: int = 32
    timeout_s: float = 600.0
    attempts: int = 6
    first_pause_s: float = 1.0


class Again(Exception):
    """An answer that another try may better; `wait_s`: what the server asks for, `busy`: it has too much to do.

    `server`: what it tells of the server: "there" (well-formed, only not usable), "away" (no connection), or nothing.
    `last`: no other try is worth its price.
    """

    def __init__(
        self,
        why: str,
        *,
        wait_s: float | None = None,
        busy: bool = False,
        server: Literal["there", "away"] | None = None,
    ) -> None:
        super().__init__(why)
        self.wait_s = wait_s
        self.busy = busy
        self.server = server
        self.last = False


class Refused(ValueError):
    """The server refuses this one request (HTTP 400, 413, 422) and would again; others may do."""


class GaveUp(ValueError):
    """No usable answer after all attempts. `gone`: it is the server, not this question: others would fare the same."""

    def __init__(self, message: str, why: str, *, gone: bool = False) -> None:
        super().__init__(message)
        self.why = why
        self.gone = gone


class ChatEndpoint:
    """Requests to one endpoint. `say` hears of failed requests, at most every ten seconds."""

    def __init__(self, endpoint: Endpoint, *, say: Callable[[str], None] = lambda line: None) -> None:
        self.endpoint = endpoint
        self.url = completions_url(endpoint.base_url)
        self._key = read_key(endpoint)
        self._shapes = _shapes(self._key) if self._key else ()
        self._say = say
        self._told_at = -TELL_EVERY_S
        self._untold = 0
        self._closed_until = 0.0
        self._asking = 0  # calls of `until` that go on
        self._failed_since = 0  # requests since the last one that showed that the server is there
        self._n_answered = 0  # requests that showed that the server is there
        self._gave_up_in_a_row = 0
        self._turn = asyncio.Semaphore(endpoint.concurrency)
        self._httpx = require_httpx()
        if self._key and is_exposed(self.url):
            say(f"{self.url}: the key goes over the network UNENCRYPTED; use https where the server has it")

    def client(self) -> Connections:
        """New connections, to be used as an async context."""
        self._turn = asyncio.Semaphore(self.endpoint.concurrency)  # of the running loop
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        return Connections(self._httpx, headers, slots=self.endpoint.concurrency, timeout_s=self.endpoint.timeout_s)

    async def until(self, ask: Callable[[], Awaitable[Answer]], *, name: str, kept: str = "") -> Answer:
        """The first answer of `ask` that does not raise Again, each try in a slot of its own.

        Raises GaveUp after the endpoint's attempts, `kept` saying in it what is not lost.
        """
        self._asking += 1
        try:
            return await self._until(ask, name, kept)
        finally:
            self._asking -= 1

    async def _until(self, ask: Callable[[], Awaitable[Answer]], name: str, kept: str) -> Answer:
        failures = busy = n_answered = 0
        while True:
            while (wait := self._closed_until - monotonic()) > 0:
                await asyncio.sleep(wait)
            try:
                async with self._turn:
                    found = await ask()
                self._note_there()
                return found
            except Again as problem:
                failures += 1
                busy += problem.busy
                self._failed_since += 1
                if problem.server == "there":
                    self._note_there()
                if failures == 1:
                    n_answered = self._n_answered
                if failures >= self.endpoint.attempts or problem.last:
                    raise GaveUp(
                        f"{self.url} gave no usable answer to {name} in {failures} requests; the last: {problem}; "
                        f"{kept}run the same command again when the server answers",
                        str(problem),
                        gone=self._is_gone(problem, n_answered),
                    ) from None
                pause = self._pause(busy, problem.wait_s)
                self._tell(name, failures, problem, pause)
            await asyncio.sleep(pause)

    def _note_there(self) -> None:
        self._n_answered += 1
        self._failed_since = 0
        self._gave_up_in_a_row = 0

    def _is_gone(self, problem: Again, n_answered: int) -> bool:
        """Whether a question that gave up, `n_answered` being counted at its first failure, shows that all would."""
        if problem.server == "there" or self._n_answered > n_answered:
            return False
        self._gave_up_in_a_row += 1
        return problem.server == "away" or self._gave_up_in_a_row >= GONE_AFTER

    async def post(self, client: Connections, body: Mapping[str, Any], *, name: str) -> Any:
        """One request, and what its answer holds as JSON.

        Raises Again where another try may help, Refused where this one request is refused, ValueError where all are.
        """
        timeout = self.endpoint.timeout_s
        try:
            async with asyncio.timeout(timeout):
                reply = await client.post(self.url, json=body)
        except NotRead as error:
            raise Again(str(error)) from None
        except (TimeoutError, self._httpx.TimeoutException):
            raise Again(f"no answer within {timeout:g} s") from None
        except self._httpx.HTTPError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise ValueError(
                    f"{self.url}: the server's certificate cannot be verified, so nothing was sent "
                    f"({self.excerpt(str(error))}); name your own authority's certificate file in SSL_CERT_FILE"
                ) from None
            away = "away" if isinstance(error, self._httpx.ConnectError) else None
            raise Again(self.excerpt(f"{type(error).__name__}: {error}"), server=away) from None
        status = reply.status
        if status in _PASSING or status >= 500:
            wait_s = wait_asked(reply.headers)
            raise Again(f"HTTP {status}: {self.excerpt(reply.text)}", wait_s=wait_s, busy=status in (429, 503))
        if status != 200:
            kind = Refused if status in (400, 413, 422) else ValueError
            if 300 <= status < 400:
                raise ValueError(
                    f"{self.url} sends the request elsewhere (HTTP {status}), which is not followed: name that address"
                )
            raise kind(
                f"{self.url} refuses the request for {name} with HTTP {status}: {self.excerpt(reply.text)}; "
                f"check the address, the model's name ({self.endpoint.model}) and the key"
            )
        if (wait := window_wait(reply.headers)) is not None:
            self._closed_until = max(self._closed_until, monotonic() + min(wait, LONGEST_WAIT_ASKED_S))
        try:
            return read_json(reply.content)
        except ValueError:
            kind = self.excerpt(reply.headers.get("content-type", "no content type"))
            raise Again(f"its answer is not JSON ({kind}): {self.excerpt(reply.text)}") from None

    def excerpt(self, text: str) -> str:
        """The first words of what a server says, without the key."""
        return visible_line(" ".join(self.clean(text)[:2000].split())[:200]) or "an empty answer"

    def clean(self, text: str) -> str:
        """Some servers repeat the key that they refuse, one or the other encoded."""
        return reduce(lambda said, shape: said.replace(shape, "[key]"), self._shapes, text)

    def _pause(self, busy: int, wait_s: float | None) -> float:
        """What the server asks for; else twice as long each time that it was busy, or that all who ask failed in turn.

        With jitter, so that not all come back at once.
        """
        if wait_s is not None:
            return min(wait_s, LONGEST_WAIT_ASKED_S)
        rounds = max(busy - 1, (self._failed_since - 1) // max(self.endpoint.concurrency, self._asking), 0)
        longest = min(self.endpoint.first_pause_s * 2.0 ** min(rounds, 60), LONGEST_PAUSE_S)
        return longest * random.uniform(0.5, 1.0)

    def _tell(self, name: str, failures: int, problem: Again, pause: float) -> None:
        self._untold += 1
        if monotonic() - self._told_at < TELL_EVERY_S:
            return
        more = f" (and {self._untold - 1} more failed requests)" if self._untold > 1 else ""
        self._say(
            f"{self.url}, {name}: {problem}; request {failures} of {self.endpoint.attempts}, "
            f"asking again in {pause:.0f} s{more}"
        )
        self._told_at, self._untold = monotonic(), 0


def require_httpx() -> Any:
    """The HTTP library; raises ValueError with the line that installs it."""
    try:
        import httpx
    except ImportError:
        raise ValueError(INSTALL) from None
    return httpx


def completions_url(base_url: str) -> str:
    """The address of chat completions; http(s) only, and no password in it."""
    return require_address(base_url).rstrip("/").removesuffix("/chat/completions") + "/chat/completions"


def require_endpoint(endpoint: Endpoint) -> str:
    """Where requests would go; raises ValueError for what would fail at the first one. Nothing is sent."""
    require_httpx()
    read_key(endpoint)
    return completions_url(endpoint.base_url)


def read_key(endpoint: Endpoint) -> str | None:
    """The key from the environment variable that the recipe names; None where it names none."""
    if endpoint.api_key_env is None:
        return None
    key = os.environ.get(require_variable(endpoint.api_key_env), "").strip()
    if not key or not key.isascii():
        raise ValueError(f"the environment variable {endpoint.api_key_env} holds no key: export it before the run")
    if not key.isprintable() or any(character.isspace() for character in key):
        raise ValueError(
            f"the key in the environment variable {endpoint.api_key_env} holds a space or a line break: export it alone"
        )
    return key


def _shapes(key: str) -> tuple[str, ...]:
    """The key as it is and as answers may spell it; base64, at any of its three places, up to where neighbours tell."""
    escaped = [json.dumps(key)[1:-1], escape(key), quote(key, safe=""), quote(key)]
    for before in range(3):
        whole = base64.b64encode(b" " * before + key.encode()).decode()
        escaped.append(whole[-(-before * 8 // 6) : (before + len(key)) * 8 // 6])
    return tuple(shape for shape in dict.fromkeys((key, *escaped)) if shape)


def wait_asked(headers: Mapping[str, str]) -> float | None:
    """Seconds that a refusal asks to wait: Retry-After (a number or a date), else a window's reset; None for neither.

    >>> wait_asked({"retry-after": "7"}), wait_asked({"x-ratelimit-remaining-tokens": "0"}), wait_asked({})
    (7.0, None, None)
    """
    asked = headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(asked))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(asked).timestamp() - time())
    except (ValueError, TypeError):
        return window_wait(headers)


def window_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds until a rate limit's window opens again, where the server says that nothing is left of it; else None.

    >>> window_wait({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m2.5s"})
    62.5
    >>> window_wait({"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "1m"})
    """
    waits = [
        _duration(headers.get(f"x-ratelimit-reset-{what}", ""))
        for what in ("requests", "tokens")
        if headers.get(f"x-ratelimit-remaining-{what}", "").strip() == "0"
    ]
    return max((wait for wait in waits if wait is not None), default=None)


def _duration(text: str) -> float | None:
    """Seconds of "6m0s", "20ms" or "1.5"; None of anything else."""
    text = text.strip()
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else None

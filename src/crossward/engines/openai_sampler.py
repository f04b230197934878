"""Sampling from a server that speaks OpenAI's /chat/completions: `vllm serve`, SGLang, a vendor.

Many requests at once, each with a seed of its prompt's own, each retried with growing pauses. A server that returns
fewer choices than asked for is asked again. Where it returns token ids (vLLM), they are kept and the prompt's are
checked: another chat template would be another policy. Elsewhere responses are text. What a vendor does with seeds,
batches and templates is beyond this file: only the requests are the same in every run. A prompt whose answers are
complete is handed to `kept` at once and never asked for again.
"""

import asyncio
import hashlib
import json
import os
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from time import monotonic, time
from typing import Any
from urllib.parse import urlsplit

from crossward.core.records import Prompt, Response, SampledPrompt
from crossward.core.seeds import derive_seed
from crossward.engines.protocols import Advance, Kept, Sampling, no_progress
from crossward.engines.sample_rows import response_of, sample_rows
from crossward.engines.tokens import ChatTokens

INSTALL = "the endpoint engine needs httpx: pip install 'crossward[openai]'"
LONGEST_PAUSE_S = 60.0
LONGEST_WAIT_ASKED_S = 600.0
TELL_EVERY_S = 10.0
_PASSING = frozenset({408, 409, 425, 429})  # and every 5xx
# Fields that some servers do not know, and refuse a request for.
_EXTRAS = ("return_token_ids", "stop_token_ids")


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


class _Again(Exception):
    """An answer that another try may better; `wait_s` is what the server asks for."""

    def __init__(self, why: str, *, wait_s: float | None = None, another_seed: bool = False) -> None:
        super().__init__(why)
        self.wait_s = wait_s
        self.another_seed = another_seed


class OpenAiSampler:
    """protocols.Sampler over one endpoint.

    `tokens` are those of the checkpoint that is served, None where there is none at hand; `limit` its positions.
    `say` hears of failed requests, at most every ten seconds.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        tokens: ChatTokens | None,
        *,
        limit: int | None = None,
        kept: Kept | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._endpoint = endpoint
        self._kept = kept
        self._say = say
        self._told_at = -TELL_EVERY_S
        self._untold = 0
        self._url = completions_url(endpoint.base_url)
        self._key = read_key(endpoint)
        self._tokens = tokens
        self._limit = limit
        self._extras: dict[str, Any] = {}
        if tokens is not None:
            self._extras = {"return_token_ids": True, "stop_token_ids": sorted(tokens.stop_ids)}
        self._httpx = require_httpx()

    def sample(
        self, prompts: Sequence[Prompt], sampling: Sampling, *, advance: Advance = no_progress
    ) -> list[SampledPrompt]:
        """`sampling.n` responses to each prompt's instruction, in the prompts' order."""
        if self._tokens is not None:
            sample_rows(prompts, self._tokens, sampling, limit=self._limit, name=self._endpoint.model)
        try:
            return asyncio.run(self._sample_all(prompts, sampling, advance))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    def close(self) -> None:
        """Connections have ended with each call; what is kept is closed."""
        if self._kept is not None:
            self._kept.close()

    async def _sample_all(self, prompts: Sequence[Prompt], sampling: Sampling, advance: Advance) -> list[SampledPrompt]:
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        limits = self._httpx.Limits(max_connections=self._endpoint.concurrency)
        timeout = self._httpx.Timeout(self._endpoint.timeout_s)
        turn = asyncio.Semaphore(self._endpoint.concurrency)
        client = self._httpx.AsyncClient(headers=headers, limits=limits, timeout=timeout)
        async with client, asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._sample_one(client, turn, prompt, sampling, advance)) for prompt in prompts]
        return [task.result() for task in tasks]

    async def _sample_one(
        self, client: Any, turn: asyncio.Semaphore, prompt: Prompt, sampling: Sampling, advance: Advance
    ) -> SampledPrompt:
        """One prompt until it has its n responses, or until nothing new came for `attempts` requests."""
        key = self._key_of(prompt, sampling)
        if self._kept is not None and (found := self._kept.get(key)) is not None:
            advance(len(found.responses))
            return SampledPrompt(prompt=prompt, responses=found.responses)
        responses: list[Response] = []
        failures = draw = 0
        while len(responses) < sampling.n:
            missing = sampling.n - len(responses)
            seed = derive_seed(sampling.seed, prompt.language, prompt.id, len(responses), draw) % 2**31
            try:
                async with turn:
                    found = await self._ask(client, prompt, sampling, n=missing, seed=seed)
            except _Again as problem:
                failures += 1
                draw += problem.another_seed
                if failures >= self._endpoint.attempts:
                    raise ValueError(self._stopped(prompt, failures, problem)) from None
                pause = self._pause(failures, problem.wait_s)
                self._tell(prompt, failures, problem, pause)
                await asyncio.sleep(pause)
                continue
            responses += found[:missing]
            failures = 0
            advance(len(found[:missing]))
        complete = SampledPrompt(prompt=prompt, responses=tuple(responses))
        if self._kept is not None:
            self._kept.put(key, complete)
        return complete

    def _key_of(self, prompt: Prompt, sampling: Sampling) -> str:
        """All that decides what is asked, as a hash."""
        asked = [self._url, self._endpoint.model, prompt.language, prompt.id, prompt.instruction, asdict(sampling)]
        asked.append(None if self._tokens is None else self._tokens.prompt_ids(prompt.instruction))
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    async def _ask(self, client: Any, prompt: Prompt, sampling: Sampling, *, n: int, seed: int) -> list[Response]:
        """One request: one to n responses. Raises _Again, or ValueError where asking again would not help."""
        extras = dict(self._extras)
        body = {
            "model": self._endpoint.model,
            "messages": [{"role": "user", "content": prompt.instruction}],
            "n": n,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_new_tokens,
            "seed": seed,
            **extras,
        }
        try:
            async with asyncio.timeout(self._endpoint.timeout_s):
                reply = await client.post(self._url, json=body)
        except (TimeoutError, self._httpx.TimeoutException):
            raise _Again(f"no answer within {self._endpoint.timeout_s:g} s") from None
        except self._httpx.HTTPError as error:
            raise _Again(self._clean(f"{type(error).__name__}: {error}")) from None
        status = int(reply.status_code)
        if status in _PASSING or status >= 500:
            raise _Again(f"HTTP {status}: {self._excerpt(reply.text)}", wait_s=wait_asked(reply.headers))
        if status in (400, 422) and any(name in reply.text for name in extras):
            self._extras = {}
            raise _Again("it refuses token ids", wait_s=0.0)
        if status != 200:
            raise ValueError(
                f"{self._url} refuses the request for prompt {prompt.id!r} ({prompt.language}) with HTTP {status}: "
                f"{self._excerpt(reply.text)}; check the address, the model's name ({self._endpoint.model}) and the key"
            )
        try:
            data = reply.json()
        except (ValueError, RecursionError):
            kind = reply.headers.get("content-type", "no content type")
            raise _Again(f"its answer is not JSON ({kind}): {self._excerpt(reply.text)}") from None
        return self._responses(data, prompt)

    def _responses(self, data: Any, prompt: Prompt) -> list[Response]:
        """The usable choices of an answer."""
        choices = data.get("choices") if isinstance(data, Mapping) else None
        if not isinstance(choices, list) or not choices:
            raise _Again(f"its answer holds no choices: {self._excerpt(str(data))}", another_seed=True)
        self._check_prompt(data.get("prompt_token_ids"), prompt)
        found = [response for choice in choices if (response := self._response(choice, prompt)) is not None]
        if not found:
            reason = choices[0].get("finish_reason") if isinstance(choices[0], Mapping) else None
            raise _Again(f"no choice of its answer has a text that ended (finish_reason {reason!r})", another_seed=True)
        return found

    def _response(self, choice: Any, prompt: Prompt) -> Response | None:
        """A choice as a response; None where it has no text or ended otherwise than by itself or by its length."""
        message = choice.get("message") if isinstance(choice, Mapping) else None
        text = message.get("content") if isinstance(message, Mapping) else None
        reason = choice.get("finish_reason") if isinstance(choice, Mapping) else None
        if not isinstance(text, str) or reason not in ("stop", "length") or not _is_text(text):
            return None
        ids = choice.get("token_ids")
        if self._tokens is None or not isinstance(ids, list) or not ids:
            return Response(text=text, finish_reason=reason)
        if not all(type(token) is int and 0 <= token < self._tokens.vocabulary_size for token in ids):
            return None
        response = response_of(ids, self._tokens)
        if reason == "stop" and response.finish_reason != "stop":
            (last,) = self._tokens.names([ids[-1]])
            raise ValueError(
                f"{self._url} ended a response to prompt {prompt.id!r} ({prompt.language}) with {last!r}, which ends "
                f"no turn of {self._tokens.name}: serve the checkpoint that the recipe names"
            )
        return response

    def _check_prompt(self, ids: Any, prompt: Prompt) -> None:
        if self._tokens is None or not isinstance(ids, list) or not ids:
            return
        if tuple(ids) != (own := self._tokens.prompt_ids(prompt.instruction)):
            place = next((i for i, (a, b) in enumerate(zip(ids, own, strict=False)) if a != b), min(len(ids), len(own)))
            raise ValueError(
                f"{self._url} reads prompt {prompt.id!r} ({prompt.language}) as other tokens than {self._tokens.name}: "
                f"{len(ids)} and {len(own)}, different from token {place} on; its chat template or tokenizer differs, "
                "so serve the checkpoint that the recipe names with its own template"
            )

    def _pause(self, failures: int, wait_s: float | None) -> float:
        """What the server asks for, else twice as long each time, with jitter so that not all come back at once."""
        if wait_s is not None:
            return min(wait_s, LONGEST_WAIT_ASKED_S)
        longest = min(self._endpoint.first_pause_s * 2 ** (failures - 1), LONGEST_PAUSE_S)
        return longest * random.uniform(0.5, 1.0)

    def _tell(self, prompt: Prompt, failures: int, problem: _Again, pause: float) -> None:
        self._untold += 1
        if monotonic() - self._told_at < TELL_EVERY_S:
            return
        more = f" (and {self._untold - 1} more failed requests)" if self._untold > 1 else ""
        self._say(
            f"{self._url}, prompt {prompt.id!r} ({prompt.language}): {problem}; request {failures} of "
            f"{self._endpoint.attempts}, asking again in {pause:.0f} s{more}"
        )
        self._told_at, self._untold = monotonic(), 0

    def _stopped(self, prompt: Prompt, failures: int, problem: _Again) -> str:
        kept = "" if self._kept is None else "finished prompts are kept: "
        return (
            f"{self._url} gave no usable answer to prompt {prompt.id!r} ({prompt.language}) in {failures} requests; "
            f"the last: {problem}; {kept}run the same command again when the server answers"
        )

    def _excerpt(self, text: str) -> str:
        return self._clean(" ".join(text.split())[:200]) or "an empty answer"

    def _clean(self, text: str) -> str:
        """Some servers repeat the key that they refuse."""
        return text.replace(self._key, "[key]") if self._key else text


def _is_text(text: str) -> bool:
    """Whether it can be written down: half of a surrogate pair, which JSON allows, cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def require_httpx() -> Any:
    """The HTTP library; raises ValueError with the line that installs it."""
    try:
        import httpx
    except ImportError:
        raise ValueError(INSTALL) from None
    return httpx


def completions_url(base_url: str) -> str:
    """The address of chat completions; http(s) only, and no password in it."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not re.fullmatch(
        r"(.*@)?([\w.-]+|\[[\da-fA-F:.]+\])(:\d+)?", parts.netloc
    ):
        raise ValueError(f"the endpoint's address must look like http://localhost:8000/v1 (or https), got {base_url!r}")
    try:
        _ = parts.port
    except ValueError:
        raise ValueError(f"the endpoint's port must be 0 to 65535, got {base_url!r}") from None
    if "@" in parts.netloc:
        raise ValueError(
            "the endpoint's address holds a password: put the key into an environment variable and name it"
        )
    return base_url.rstrip("/").removesuffix("/chat/completions") + "/chat/completions"


def read_key(endpoint: Endpoint) -> str | None:
    """The key from the environment variable that the recipe names; None where it names none."""
    if endpoint.api_key_env is None:
        return None
    key = os.environ.get(endpoint.api_key_env, "").strip()
    if not key or not key.isascii():
        raise ValueError(f"the environment variable {endpoint.api_key_env} holds no key: export it before the run")
    return key


def wait_asked(headers: Mapping[str, str]) -> float | None:
    """Retry-After in seconds: a number or a date; None where it is neither."""
    asked = headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(asked))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(asked).timestamp() - time())
    except (ValueError, TypeError):
        return None

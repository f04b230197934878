"""Sampling from a server that speaks OpenAI's /chat/completions: `vllm serve`, SGLang, a vendor.

Many requests at once (engines/endpoint.py), each with a seed of its prompt's own. A server that returns fewer choices
than asked for is asked again. Where it returns token ids (vLLM), they are kept and the prompt's are
checked: another chat template would be another policy. Elsewhere responses are text. What a vendor does with seeds,
batches and templates is beyond this file: only the requests are the same in every run. A prompt whose answers are
complete is handed to `kept` at once and never asked for again. A prompt that is not answered stops none of the others.
"""

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from crossward.core.records import Prompt, Response, SampledPrompt
from crossward.core.seeds import derive_seed
from crossward.engines.endpoint import Again, ChatEndpoint, Endpoint, GaveUp, Refused
from crossward.engines.protocols import Advance, Kept, Sampling, no_progress
from crossward.engines.sample_rows import response_of, sample_rows
from crossward.engines.tokens import ChatTokens, messages_of

UNUSABLE_TRIES = 3  # greedy answers without a usable text (a content filter): the same would come for ever


class Unanswered(GaveUp):
    """Some prompts of a call were answered and some not: `found` holds, in their order, the responses or why not."""

    def __init__(self, found: Sequence[SampledPrompt | GaveUp], first: GaveUp) -> None:
        super().__init__(str(first), first.why)
        self.found = tuple(found)


class _Unusable(Again):
    """An answer without a usable text; another seed may bring one."""


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
        self._chat = ChatEndpoint(endpoint, say=say)
        self._kept = kept
        self._tokens = tokens
        self._limit = limit
        self._used_up: dict[str, GaveUp] = {}  # a prompt that gave up is left alone until the next process
        self._is_there = False  # whether the server ever said anything of its own to a prompt, now or in what is kept
        self._extras: dict[str, Any] = {}  # fields that some servers do not know, and refuse a request for
        if tokens is not None:
            self._extras = {"return_token_ids": True, "stop_token_ids": sorted(tokens.stop_ids)}

    def sample(
        self, prompts: Sequence[Prompt], sampling: Sampling, *, advance: Advance = no_progress
    ) -> list[SampledPrompt]:
        """`sampling.n` responses to each prompt's instruction, in the prompts' order.

        Raises Unanswered where there are some to some prompts only, GaveUp where the server is gone.
        """
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
        async with self._chat.client() as client, asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._sample_if(client, prompt, sampling, advance)) for prompt in prompts]
        found = [task.result() for task in tasks]
        failures = [one for one in found if isinstance(one, GaveUp)]
        if not failures:
            return [one for one in found if isinstance(one, SampledPrompt)]
        raise Unanswered(found, failures[0]) if self._is_there else failures[0]

    async def _sample_if(
        self, client: Any, prompt: Prompt, sampling: Sampling, advance: Advance
    ) -> SampledPrompt | GaveUp:
        """One prompt: kept, asked for, or given up. Raises GaveUp where it is the server that is gone."""
        key = self._key_of(prompt, sampling)
        if self._kept is not None and (found := self._kept.get(key)) is not None:
            advance(len(found.responses))
            self._is_there = True
            return SampledPrompt(prompt=prompt, responses=found.responses)
        if key in self._used_up:
            return self._used_up[key]
        try:
            complete = await self._sample_one(client, prompt, sampling, advance)
        except GaveUp as failure:
            if failure.gone:
                raise
            self._used_up[key] = failure
            return failure
        except Refused:
            self._is_there = True
            raise
        self._is_there = True
        if self._kept is not None:
            self._kept.put(key, complete)
        return complete

    async def _sample_one(self, client: Any, prompt: Prompt, sampling: Sampling, advance: Advance) -> SampledPrompt:
        """One prompt until it has its n responses, or until nothing new came for `attempts` requests."""
        name = f"prompt {prompt.id!r} ({prompt.language})"
        kept = "" if self._kept is None else "finished prompts are kept: "
        responses: list[Response] = []
        draw = 0

        async def ask() -> list[Response]:
            nonlocal draw
            seed = derive_seed(sampling.seed, prompt.language, prompt.id, len(responses), draw) % 2**31
            try:
                return await self._ask(client, prompt, sampling, n=sampling.n - len(responses), seed=seed)
            except _Unusable as problem:
                draw += 1  # the same seed would bring the same answer
                if problem.server == "there":
                    self._is_there = True
                    problem.last = sampling.temperature == 0 and draw >= UNUSABLE_TRIES
                raise

        while len(responses) < sampling.n:
            found = (await self._chat.until(ask, name=name, kept=kept))[: sampling.n - len(responses)]
            responses += found
            advance(len(found))
        return SampledPrompt(prompt=prompt, responses=tuple(responses))

    def _key_of(self, prompt: Prompt, sampling: Sampling) -> str:
        """All that decides what is asked, as a hash."""
        asked = [self._chat.url, self._endpoint.model, prompt.language, prompt.id, prompt.instruction, asdict(sampling)]
        asked.append(None if self._tokens is None else self._tokens.conversation_ids(prompt.conversation))
        asked += prompt.conversation[:-1]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    async def _ask(self, client: Any, prompt: Prompt, sampling: Sampling, *, n: int, seed: int) -> list[Response]:
        """One request: one to n responses. Raises Again, or ValueError where asking again would not help."""
        extras = dict(self._extras)
        body = {
            "model": self._endpoint.model,
            "messages": messages_of(prompt.conversation),
            "n": n,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_new_tokens,
            "seed": seed,
            **extras,
        }
        try:
            data = await self._chat.post(client, body, name=f"prompt {prompt.id!r} ({prompt.language})")
        except Refused as refusal:
            if any(name in str(refusal) for name in extras):
                self._extras = {}
                raise Again("it refuses token ids", wait_s=0.0) from None
            raise
        return self._responses(data, prompt)

    def _responses(self, data: Any, prompt: Prompt) -> list[Response]:
        """The usable choices of an answer."""
        choices = data.get("choices") if isinstance(data, Mapping) else None
        if not isinstance(choices, list) or not choices:
            raise _Unusable(f"its answer holds no choices: {self._chat.excerpt(str(data))}")
        self._check_prompt(data.get("prompt_token_ids"), prompt)
        found = [response for choice in choices if (response := self._response(choice, prompt)) is not None]
        if not found:
            reason = choices[0].get("finish_reason") if isinstance(choices[0], Mapping) else None
            raise _Unusable(
                f"no choice of its answer has a text that ended (finish_reason {self._chat.excerpt(repr(reason))})",
                server="there" if isinstance(reason, str) else None,
            )
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
                f"{self._chat.url} ended a response to prompt {prompt.id!r} ({prompt.language}) with {last!r}, which "
                f"ends no turn of {self._tokens.name}: serve the checkpoint that the recipe names"
            )
        return response

    def _check_prompt(self, ids: Any, prompt: Prompt) -> None:
        if self._tokens is None or not isinstance(ids, list) or not ids:
            return
        if tuple(ids) != (own := self._tokens.conversation_ids(prompt.conversation)):
            place = next((i for i, (a, b) in enumerate(zip(ids, own, strict=False)) if a != b), min(len(ids), len(own)))
            raise ValueError(
                f"{self._chat.url} reads prompt {prompt.id!r} ({prompt.language}) as other tokens than "
                f"{self._tokens.name}: {len(ids)} and {len(own)}, different from token {place} on; its chat template "
                "or tokenizer differs, so serve the checkpoint that the recipe names with its own template"
            )


def _is_text(text: str) -> bool:
    """Whether it can be written down: half of a surrogate pair, which JSON allows, cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True

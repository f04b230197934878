"""MT-Bench's judge behind a server that speaks OpenAI's /chat/completions: one answer shown, one rating asked for.

Temperature 0, many requests at once (engines/endpoint.py). An answer without a usable rating is asked for again with
another seed, a few times; what is then missing keeps its reason. A rating is handed to `kept` as it arrives, under a
hash of all that decides it, and never asked for again; what failed is kept nowhere, so that the next run asks again.
"""

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crossward.core.mt_bench import NoRating, parse_rating
from crossward.core.seeds import derive_seed
from crossward.engines.endpoint import Again, ChatEndpoint, Endpoint, GaveUp, Refused
from crossward.engines.protocols import Advance, KeptRows, no_progress

# So many requests that fail for good, one after the other, mean that the server is gone.
GONE_AFTER = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Grading:
    """How a judge answers: at most `max_tokens` each time, greedily; `tries` answers before a rating is null."""

    max_tokens: int = 2048
    tries: int = 4
    seed: int = 42


@dataclass(frozen=True, slots=True, kw_only=True)
class ToGrade:
    """One answer to be graded: the message that shows it to the judge, and whose answer it is."""

    question_id: str
    language: str
    turn: int
    message: str

    @property
    def name(self) -> str:
        """What errors call it."""
        return f"question {self.question_id!r}, turn {self.turn} ({self.language})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """What the judge said: a rating of 1 to 10, or None with the reason; its words; tokens spent, where it tells.

    `fresh` is False where it was kept from an earlier run.
    """

    value: float | None
    reason: str | None = None
    text: str | None = None
    tokens: int | None = None
    fresh: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """One answer of the server: its words, and how many tokens it counts for the request and them."""

    text: str
    rating: float | NoRating
    tokens: int | None


class MtBenchJudge:
    """Single-answer grading over one endpoint. `say` hears of failed requests, at most every ten seconds."""

    def __init__(
        self,
        endpoint: Endpoint,
        grading: Grading,
        *,
        kept: KeptRows,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._chat = ChatEndpoint(endpoint, say=say)
        self._grading = grading
        self._kept = kept
        self._failed_in_a_row = 0
        self._failures: list[GaveUp | Refused] = []

    def grade(self, asked: Sequence[ToGrade], *, advance: Advance = no_progress) -> list[Graded]:
        """A rating, or why there is none, for each; in their order.

        Raises ValueError where the server refuses every request, or is gone.
        """
        self._failed_in_a_row, self._failures = 0, []
        try:
            graded = asyncio.run(self._grade_all(asked, advance))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        if self._failures and all(found.value is None for found in graded):
            raise self._failures[0]
        return graded

    async def _grade_all(self, asked: Sequence[ToGrade], advance: Advance) -> list[Graded]:
        async with self._chat.client() as client, asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._grade_one(client, item, advance)) for item in asked]
        return [task.result() for task in tasks]

    async def _grade_one(self, client: Any, item: ToGrade, advance: Advance) -> Graded:
        key = self._key_of(item)
        graded = self._found(key)
        if graded is None:
            graded = await self._ask_until_rated(client, item)
            if graded.value is not None:
                row = {"language": item.language, "question_id": item.question_id, "turn": item.turn}
                row |= {"judge": self._chat.endpoint.model, "rating": graded.value}
                self._kept.put(key, row | {"text": graded.text, "tokens": graded.tokens})
        advance(1)
        return graded

    def _found(self, key: str) -> Graded | None:
        """What was kept, read with today's parser."""
        row = self._kept.get(key)
        text = None if row is None else row.get("text")
        if row is None or not isinstance(text, str) or isinstance(value := parse_rating(text), NoRating):
            return None
        tokens = row.get("tokens")
        return Graded(value=value, text=text, tokens=tokens if isinstance(tokens, int) else None, fresh=False)

    async def _ask_until_rated(self, client: Any, item: ToGrade) -> Graded:
        tokens: int | None = None
        text = reason = None
        for draw in range(self._grading.tries):
            try:
                said = await self._chat.until(
                    lambda draw=draw: self._ask(client, item, draw), name=item.name, kept="ratings are kept: "
                )
            except (GaveUp, Refused) as failure:
                self._note(failure)
                why = failure.why if isinstance(failure, GaveUp) else str(failure)
                return Graded(value=None, reason=why, tokens=tokens)
            self._failed_in_a_row = 0
            if said.tokens is not None:
                tokens = (tokens or 0) + said.tokens
            if not isinstance(said.rating, NoRating):
                return Graded(value=said.rating, text=said.text, tokens=tokens)
            text, reason = said.text, said.rating.reason
        times = "once" if self._grading.tries == 1 else f"{self._grading.tries} times"
        return Graded(value=None, reason=f"asked {times}: {reason}", text=text or None, tokens=tokens)

    def _note(self, failure: GaveUp | Refused) -> None:
        """Others may be answered where one is not, unless one after the other is not."""
        self._failures.append(failure)
        if isinstance(failure, GaveUp):
            self._failed_in_a_row += 1
            if self._failed_in_a_row >= GONE_AFTER:
                raise failure

    def _body(self, item: ToGrade, draw: int) -> dict[str, Any]:
        seed = derive_seed(self._grading.seed, item.language, item.question_id, item.turn, draw) % 2**31
        return {
            "model": self._chat.endpoint.model,
            "messages": [{"role": "user", "content": item.message}],
            "temperature": 0.0,
            "max_tokens": self._grading.max_tokens,
            "seed": seed,
        }

    def _key_of(self, item: ToGrade) -> str:
        """A hash of the first request: judge, message, sampling and seed, which names question, turn and language."""
        return hashlib.sha256(json.dumps(self._body(item, 0), sort_keys=True).encode()).hexdigest()

    async def _ask(self, client: Any, item: ToGrade, draw: int) -> _Said:
        """One request. Raises Again where what comes is no answer at all."""
        data = await self._chat.post(client, self._body(item, draw), name=item.name)
        choices = data.get("choices") if isinstance(data, Mapping) else None
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
            raise Again(f"its answer holds no choices: {self._chat.excerpt(str(data))}")
        message, ended = choices[0].get("message"), choices[0].get("finish_reason")
        text = message.get("content") if isinstance(message, Mapping) else None
        text = text if isinstance(text, str) else ""
        return _Said(
            text=text.encode("utf-8", "replace").decode("utf-8"),  # half a surrogate pair cannot be written down
            rating=self._rating(text, ended),
            tokens=_tokens(data.get("usage")),
        )

    def _rating(self, text: str, ended: Any) -> float | NoRating:
        if not text.strip():
            return NoRating(reason=f"its answer is empty (finish_reason {self._chat.excerpt(repr(ended))})")
        if ended == "length":
            return NoRating(reason=f"its answer was cut after {self._grading.max_tokens} tokens")
        return parse_rating(text)


def _tokens(usage: Any) -> int | None:
    """Tokens of a request and its answer, as the server counts them."""
    if not isinstance(usage, Mapping):
        return None
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
    return sum(count for count in counts if isinstance(count, int)) if any(type(c) is int for c in counts) else None

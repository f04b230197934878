"""A judge behind an endpoint: many questions at once, each until its answer names a model, each answer kept at once.

The verdict is read from the log-probabilities of the first token; an endpoint that gives none is taken at its
letter, which is said. A broken answer (no JSON, no name, no log-probabilities) is asked for again. What is kept is
never paid twice; what failed is not kept, so that the next run asks again. A limit, a deadline or a fatal refusal
lets what is on its way arrive, and stops.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any

from crossward.core.judging import (
    Answer,
    NoAnswer,
    Question,
    estimated_tokens,
    from_logprobs,
    from_text,
    question_key,
)
from crossward.core.spending import Spending
from crossward.engines.endpoint import Again, ChatEndpoint, Endpoint, GaveUp, Refused
from crossward.engines.judgement_rows import answer_of, row_of
from crossward.engines.protocols import Advance, KeptRows, no_progress

UNREADABLE_TRIES = 6  # answers that name no model before the question counts as null
PROBE = 10  # answers with a letter and no log-probabilities, before the endpoint is taken to give none
OPEN = 4  # questions a slot that are begun: some wait for another try while others are asked, but not all
DEAD = 8  # questions that failed in a row before the server is taken to be gone
TOP_LOGPROBS = 20  # OpenAI's and vLLM's largest; a server that takes fewer says so
MAX_TOKENS = 4  # a name, and what a judge may put around it


class _Unreadable(Again):
    """An answer that names no model."""


class _Stop(Exception):
    """No further question is asked."""


class OpenAiJudge:
    """protocols.Judge over one endpoint. `say` hears of failed requests and of what the endpoint cannot do."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        kept: KeptRows,
        spending: Spending,
        deadline_s: float | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.name = endpoint.model
        self.spending = spending
        self._endpoint = endpoint
        self._chat = ChatEndpoint(endpoint, say=say)
        self._kept = kept
        self._say = say
        self._deadline = None if deadline_s is None else monotonic() + deadline_s
        self._stopped: str | None = None
        self._failed_in_a_row = 0
        self._gives_logprobs: bool | None = None
        self._letters_only = 0
        self._settings: dict[str, Any] = {
            "max_tokens": MAX_TOKENS,
            "temperature": 0.0,
            "logprobs": True,
            "top_logprobs": TOP_LOGPROBS,
        }

    @property
    def stopped(self) -> str | None:
        """Why questions were left unasked, in words; None where none were."""
        return self._stopped

    def ask(self, questions: Sequence[Question], *, advance: Advance = no_progress) -> list[Answer | NoAnswer]:
        """An answer to every question, in their order, or why there is none. Raises nothing of the server's."""
        return asyncio.run(self._ask_all(questions, advance))

    def key(self, question: Question) -> str:
        """Under what a question's answer is kept. The tokens and log-probabilities asked for decide no verdict."""
        return question_key(self.name, question.messages, {"temperature": 0.0})

    def close(self) -> None:
        """Connections have ended with each call."""

    async def _ask_all(self, questions: Sequence[Question], advance: Advance) -> list[Answer | NoAnswer]:
        begun = asyncio.Semaphore(OPEN * self._endpoint.concurrency)

        async def one(question: Question) -> Answer | NoAnswer:
            async with begun:
                return await self._answer(client, question, advance)

        asked = {self.key(question): question for question in questions}  # equal questions are asked once
        async with self._chat.client() as client, asyncio.TaskGroup() as group:
            tasks = {key: group.create_task(one(question)) for key, question in asked.items()}
        advance(len(questions) - len(asked))
        return [tasks[self.key(question)].result() for question in questions]

    async def _answer(self, client: Any, question: Question, advance: Advance) -> Answer | NoAnswer:
        key = self.key(question)
        if (answer := answer_of(self._kept.get(key))) is not None:
            advance(1)
            return answer
        unreadable = 0

        async def attempt() -> Answer:
            nonlocal unreadable
            self._require_going(question)
            try:
                return await self._once(client, question, key)
            except _Unreadable as problem:
                unreadable += 1
                if unreadable >= UNREADABLE_TRIES:
                    raise GaveUp(str(problem), "unreadable") from None
                raise

        try:
            found = await self._chat.until(attempt, name=question.name)
        except _Stop:
            return NoAnswer(reason="not-asked")
        except Refused as refusal:
            return NoAnswer(reason="refused", detail=str(refusal))
        except GaveUp as end:
            if end.why == "unreadable":
                advance(1)
                return NoAnswer(reason="unreadable", detail=str(end))
            self._failed_in_a_row += 1
            if self._failed_in_a_row >= DEAD:
                self._stop(f"{self._failed_in_a_row} questions in a row got no answer; {end}")
            return NoAnswer(reason="failed", detail=end.why)
        except ValueError as fatal:
            self._stop(str(fatal))
            return NoAnswer(reason="failed", detail=str(fatal))
        advance(1)
        return found

    def _require_going(self, question: Question) -> None:
        if self._deadline is not None and monotonic() > self._deadline:
            self._stop("the deadline has passed")
        if self._stopped is None and not self.spending.reserve(estimated_tokens(question.messages)):
            self._stop("the budget is spent")
        if self._stopped is not None:
            raise _Stop

    def _stop(self, why: str) -> None:
        self._stopped = self._stopped or why

    async def _once(self, client: Any, question: Question, key: str) -> Answer:
        """One request; its answer is kept before anything else happens. Raises Again, Refused or ValueError."""
        asked = dict(self._settings)
        try:
            body = {"model": self._endpoint.model, "messages": list(question.messages), **asked}
            data = await self._chat.post(client, body, name=question.name)
        except Refused as refusal:
            if self._ask_for_less(str(refusal), asked):
                raise Again("it refuses a setting", wait_s=0.0) from None
            raise
        finally:
            self.spending.release(estimated_tokens(question.messages))
        self._failed_in_a_row = 0
        usage = _usage(data)
        self.spending.add(*usage)
        found, text = self._read(data)
        more = {"judge": self.name, "url": self._chat.url, "prompt_tokens": usage[0], "completion_tokens": usage[1]}
        self._kept.put(key, row_of(found, text=text, name=question.name) | more)
        return found

    def _ask_for_less(self, refusal: str, asked: Mapping[str, Any]) -> bool:
        """Whether a refused request may be asked again without the setting that its refusal names."""
        if "max_completion_tokens" in refusal and "max_tokens" in asked:
            self._settings.pop("max_tokens", None)
            self._settings["max_completion_tokens"] = MAX_TOKENS
            return True
        if "temperature" in refusal and "temperature" in asked:
            self._settings.pop("temperature", None)
            self._say(f"{self._chat.url} takes no temperature: its own is used")
            return True
        if "logprobs" in refusal and "logprobs" in asked:
            if asked["top_logprobs"] > 5:
                self._settings["top_logprobs"] = 5
                return True
            self._settings.pop("logprobs", None)
            self._settings.pop("top_logprobs", None)
            self._take_letters()
            return True
        return False

    def _take_letters(self) -> None:
        if self._gives_logprobs is None:
            self._gives_logprobs = False
            self._say(
                f"{self._chat.url} gives no log-probabilities: its verdicts are the letter alone, 0 or 1, "
                "without how sure it is"
            )

    def _read(self, data: Any) -> tuple[Answer, str]:
        """The verdict of an answer, and its text. Raises Again where another may be better."""
        choices = data.get("choices") if isinstance(data, Mapping) else None
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], Mapping) else None
        if choice is None:
            raise _Unreadable(f"its answer holds no choices: {self._chat.excerpt(str(data))}")
        message = choice.get("message")
        text = message.get("content") if isinstance(message, Mapping) else None
        text = text if isinstance(text, str) else ""
        likely = _likely(choice.get("logprobs"))
        if likely:
            self._gives_logprobs = True
            found = from_logprobs(likely)
        elif self._gives_logprobs is False:
            found = from_text(text)
        else:
            return self._unsure_of_logprobs(text)
        if found is None:
            raise _Unreadable(f"its answer names neither model: {self._chat.excerpt(text)}")
        return found, text

    def _unsure_of_logprobs(self, text: str) -> tuple[Answer, str]:
        """An answer without log-probabilities: an accident where the endpoint gives them, else how it is."""
        found = from_text(text)
        if found is None:
            raise _Unreadable(f"its answer names neither model: {self._chat.excerpt(text)}")
        if self._gives_logprobs is None:
            self._letters_only += 1
            if self._letters_only >= PROBE:
                self._take_letters()
                return found, text
        raise Again("its answer lacks log-probabilities", wait_s=0.0)


def _likely(logprobs: Any) -> list[dict[str, float]]:
    """Likely tokens with their log-probabilities, position by position; empty where there are none."""
    content = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    found: list[dict[str, float]] = []
    for position in content if isinstance(content, list) else []:
        top = position.get("top_logprobs") if isinstance(position, Mapping) else None
        tokens: dict[str, float] = {}
        for item in top if isinstance(top, list) else []:
            token, value = (item.get("token"), item.get("logprob")) if isinstance(item, Mapping) else (None, None)
            if isinstance(token, str) and isinstance(value, int | float) and not isinstance(value, bool) and value <= 0:
                tokens[token] = float(value)
        if not tokens:
            break
        found.append(tokens)
    return found


def _usage(data: Any) -> tuple[int, int]:
    """(prompt, completion) tokens that an answer says it took, 0 where it does not say."""
    usage = data.get("usage") if isinstance(data, Mapping) else None
    counts = [usage.get(key) if isinstance(usage, Mapping) else None for key in ("prompt_tokens", "completion_tokens")]
    first, second = (value if isinstance(value, int) and value >= 0 else 0 for value in counts)
    return first, second

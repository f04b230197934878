"""Answers of a judge for tests/support/chat_server.py: a verdict that depends on the question alone, and faults."""

import hashlib
import math
from typing import Any

from tests.support.chat_server import Answer, Reply, Request


def question_of(request: Request) -> str:
    return request["messages"][-1]["content"]


def p_second(question: str) -> float:
    """P(the second answer is better), from a hash of the question."""
    return 0.02 + 0.96 * int.from_bytes(hashlib.sha256(question.encode()).digest()[:4], "big") / 2**32


def named(request: Request, *, logprobs: bool = True, text: str | None = None) -> Reply:
    """A well-formed verdict."""
    p = p_second(question_of(request))
    top = [{"token": "m", "logprob": math.log(1 - p)}, {"token": "M", "logprob": math.log(p)}]
    message = {"role": "assistant", "content": text if text is not None else "M" if p > 0.5 else "m"}
    choice: dict[str, Any] = {"message": message, "finish_reason": "stop"}
    if logprobs:
        choice["logprobs"] = {"content": [{"token": message["content"], "logprob": -0.1, "top_logprobs": top}]}
    return Reply(body={"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 1}})


def fair(request: Request, before: int) -> Reply:
    """A judge without faults."""
    return named(request)


def faulty(*faults: Reply | str) -> Answer:
    """Every fault once, to the first requests; then a judge without faults."""

    def answer(request: Request, before: int) -> Reply:
        if before >= len(faults):
            return named(request)
        fault = faults[before]
        if isinstance(fault, Reply):
            return fault
        return named(request, logprobs=fault != "no logprobs", text=None)

    return answer

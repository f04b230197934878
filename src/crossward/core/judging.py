"""A pairwise judge's question and answer as values: what is asked, in which order, and what the answer says.

The judge sees two answers as "m" (shown first) and "M" and names the better one; how sure it is stands in the
log-probabilities of its first token. The protocol is alpaca_eval's weighted one, and so is the seeded order. Knows no
server and no file.
"""

import hashlib
import json
import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from crossward.core.plain_text import shown

FIRST, SECOND = "m", "M"
Order = Literal["seeded", "both"]
Source = Literal["logprobs", "letter", "equal"]
NullReason = Literal["unreadable", "refused", "failed", "not-asked"]
Message = Mapping[str, str]
_PLACEHOLDERS = ("instruction", "output_1", "output_2")
_END = "<|im_end|>"
_BLOCK = re.compile(r"<\|im_start\|>(\w+)\n(.*?)\n?<\|im_end\|>", re.DOTALL)
# What tokenizers put before a word, and what a judge puts around a name: none of it changes which model it names.
_AROUND = " \t\r\n▁ĠĊ\"'`*_()[]{}<>.,:;!“”‘’«»"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A model's answer and the baseline's to one instruction."""

    id: str
    language: str
    instruction: str
    model: str
    baseline: str
    model_answer: str
    baseline_answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a judge is asked, in one order; `name` names it in errors."""

    messages: tuple[Message, ...]
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PairTemplate:
    """The messages (role, text) that ask for a verdict; {instruction}, {output_1} and {output_2} are filled in."""

    messages: tuple[tuple[str, str], ...]

    def render(self, comparison: Comparison, *, model_first: bool) -> tuple[Message, ...]:
        """The question; `model_first` shows the model's answer as output_1. Braces in a text stay what they are."""
        shown = (comparison.model_answer, comparison.baseline_answer)
        first, second = shown if model_first else shown[::-1]
        values = {"instruction": comparison.instruction, "output_1": first, "output_2": second}
        fill = re.compile(r"\{(" + "|".join(_PLACEHOLDERS) + r")\}")
        return tuple({"role": role, "content": fill.sub(lambda m: values[m[1]], text)} for role, text in self.messages)


def parse_template(text: str, origin: str) -> PairTemplate:
    """A template in ChatML blocks (as alpaca_eval writes them), or one user message where there are none.

    Raises ValueError naming `origin` where a placeholder is missing or a role unknown.
    """
    closed = text[: text.rfind(_END) + len(_END)] if _END in text else ""  # no block is sought behind the last end
    blocks = _BLOCK.findall(closed) or [("user", text.strip())]
    for role, _ in blocks:
        if role not in ("system", "user", "assistant"):
            raise ValueError(f"template {origin}: unknown role {shown(role)}, expected system, user or assistant")
    whole = "\n".join(body for _, body in blocks)
    if missing := [name for name in _PLACEHOLDERS if f"{{{name}}}" not in whole]:
        raise ValueError(
            f"template {origin} lacks the placeholder {{{missing[0]}}}: it must hold {{instruction}}, {{output_1}} and "
            "{output_2}"
        )
    return PairTemplate(messages=tuple(blocks))


def model_shown_first(instruction: str, seed: int) -> bool:
    """Whether the model's answer is shown before the baseline's: by instruction and seed, the same for every model.

    alpaca_eval's own draw, so that its order is met; a translation is another instruction.
    """
    draw = random.Random(f"is_switched_outputs{instruction}{seed}")
    return draw.choices([False, True], k=1)[0]


def orders(instruction: str, order: Order, seed: int) -> tuple[bool, ...]:
    """The values of `model_first` to ask with."""
    return (False, True) if order == "both" else (model_shown_first(instruction, seed),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a judge's answer says: P(second shown is better), 0 to 1, and what that was read from.

    `first` and `second` are the probabilities of either name, where they are known.
    """

    second_better: float
    source: Source
    first: float | None = None
    second: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoAnswer:
    """A question without a verdict, and why.

    "unreadable": every answer named no model; "refused": the server refused this question; "failed": no answer came
    after all attempts; "not-asked": a limit or a stop came first. Asked again in the next run.
    """

    reason: NullReason
    detail: str = ""


def from_logprobs(tokens: Sequence[Mapping[str, float]]) -> Answer | None:
    """The verdict in the log-probabilities of the first tokens: each maps likely tokens to log-probabilities (nats).

    Read where a name first becomes likely: a judge may open with a quotation mark. A name's tokens (" m", "m", "\\"m")
    count together; a name that is not among the likely tokens has probability 0. None where no name is likely anywhere.

    >>> from_logprobs([{"M": math.log(0.6), " M": math.log(0.2), "m": math.log(0.1), "The": math.log(0.05)}]).second
    0.8
    """
    for likely in tokens:
        first = math.fsum(math.exp(value) for token, value in likely.items() if named(token) == FIRST)
        second = math.fsum(math.exp(value) for token, value in likely.items() if named(token) == SECOND)
        if first + second > 0:
            return Answer(
                second_better=second / (first + second),
                source="logprobs",
                first=round(first, 9),
                second=round(second, 9),
            )
        best = max(likely, key=likely.__getitem__, default="")
        if best.strip(_AROUND):
            return None  # it says something else
    return None


def from_text(text: str) -> Answer | None:
    """The verdict in the letter alone: one of the names, by itself. None where there is none, or both."""
    found = {name for word in re.split(r"\s+", text.strip()) if (name := named(word)) is not None}
    return None if len(found) != 1 else Answer(second_better=float(found == {SECOND}), source="letter")


def named(token: str) -> str | None:
    """The name that a token is, whatever stands around it; None of any other token. Case decides.

    >>> named(' "m'), named("▁M"), named("Model")
    ('m', 'M', None)
    """
    bare = token.strip(_AROUND)
    return bare if bare in (FIRST, SECOND) else None


def question_key(judge: str, messages: Sequence[Message], settings: Mapping[str, object]) -> str:
    """A hash of everything that decides an answer: judge, template with both answers in their order, sampling."""
    asked = [judge, [dict(message) for message in messages], dict(settings)]
    return hashlib.sha256(json.dumps(asked, sort_keys=True, ensure_ascii=False).encode("utf-8", "replace")).hexdigest()


def estimated_tokens(messages: Sequence[Message]) -> int:
    """A rough count of a question's tokens: a quarter of its UTF-8 bytes, and 4 a message.

    Within a third for European languages; scripts of three bytes a character have 2 to 4 bytes a token.
    """
    return sum(len(message["content"].encode("utf-8", "replace")) // 4 + 4 for message in messages)

"""What an answer shows by itself, with no judge: length, ending, repetition, language, closeness to a given answer.

Text and numbers in, numbers out; who tells languages apart and who computes chrF are engines, elsewhere. None of this
is quality: a fluent wrong answer passes. It is what breaks first when training goes wrong, and it costs nothing. Not in
the paper.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from crossward.core.intervals import Interval, clustered_mean
from crossward.core.language import Identification
from crossward.core.records import Response

N_GRAM = 12  # characters: about two words, or two short sentences where a character is a word
LOOP_TIMES = 4
LOOP_CHARS = 32
SURE = 0.9  # confidence, 0 to 1, from which a sentence counts as written in another language
UNSURE = "unsure"  # an answer whose language was asked for and could not be told

_FENCED = re.compile(r"^[ \t]*(`{3,}|~{3,})[^\n`]*(?:\n.*?(?:^[ \t]*\1[`~]*[ \t]*$|\Z)|\Z)", re.MULTILINE | re.DOTALL)
# A mark of a script without spaces ends a sentence by itself; . ! ? … only before a space (3.14, example.org).
_SENTENCE = re.compile(r"[^\n]+?(?:[。！？．｡।॥؟۔။។።]+[”’»」』）)\]\"'*_]*|[.!?…]+[”’»)\]\"'*_]*(?=\s|\Z)|(?=\n|\Z))")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerMeasures:
    """What one answer shows: the `answer`-th (from 0) to its prompt.

    `n_chars`: Unicode code points. `truncated`: cut by the limit of tokens, None where nobody recorded it.
    `repetition`, `looping`: see the functions. `identified`: the language of its prose, "unsure" where it could not be
    told, None where nobody asked. `code_switching`: share, 0 to 1, None where no sentence could be told. `chrf`: 0 to
    100, None without a reference answer.
    """

    prompt_id: str
    language: str
    answer: int
    n_chars: int
    empty: bool
    truncated: bool | None
    repetition: float
    looping: bool
    identified: str | None
    code_switching: float | None
    chrf: float | None

    @property
    def faithful(self) -> bool | None:
        """Whether the answer is in the language of its prompt; None where its language is not known."""
        return None if self.identified in (None, UNSURE) else self.identified == self.language


def measure(
    response: Response,
    *,
    prompt_id: str,
    language: str,
    answer: int,
    identified: Identification | None,
    by_sentence: Sequence[tuple[str, Identification]],
    chrf: float | None,
) -> AnswerMeasures:
    """One answer's measures. `identified` is of its prose, `by_sentence` of its sentences; None and [] if not asked."""
    text = response.text
    return AnswerMeasures(
        prompt_id=prompt_id,
        language=language,
        answer=answer,
        n_chars=len(text),
        empty=not text.strip(),
        truncated=response.finish_reason == "length",
        repetition=repetition(text),
        looping=is_looping(text),
        identified=None if identified is None else identified.language or UNSURE,
        code_switching=code_switching(by_sentence, language),
        chrf=chrf,
    )


# Degeneration ---------------------------------------------------------------------------------------------------------


def repetition(text: str, *, n: int = N_GRAM) -> float:
    """1 − (different character n-grams) / (all character n-grams): 0 where nothing is said twice, near 1 in a loop.

    Runs of white space count as one space; 0 for a text shorter than n. Characters, so that scripts without spaces are
    measured alike; the level still differs between languages (fluent answers: 0.00 in Chinese, 0.06 in Swahili), so
    compare policies within a language.

    >>> repetition("abcabc", n=3)  # abc bca cab abc: three different ones of four
    0.25
    """
    plain = " ".join(text.split())
    total = len(plain) - n + 1
    return 1.0 - len({plain[start : start + n] for start in range(total)}) / total if total > 0 else 0.0


def is_looping(text: str) -> bool:
    """Whether the text ends in one piece said 4 times or more in a row, 32 characters or more in all.

    The last time may be cut short. A loop that counts (1. x 2. x) or ends before the text does is not flagged:
    `repetition` sees it. White space as in `repetition`.

    >>> is_looping("Well. " + "I see. " * 5), is_looping("I see. " * 3), is_looping("Ha ha ha ha!")
    (True, False, False)
    """
    # A space in front, so that a loop of words from the first word on has one with each of its times.
    backwards = " ".join(["", *text.split()])[::-1]
    # The last `period + match` characters repeat every `period` characters.
    return any(
        period and period + match >= max(LOOP_TIMES * period, LOOP_CHARS)
        for period, match in enumerate(_own_matches(backwards))
    )


def _own_matches(text: str) -> list[int]:
    """For every place, how many characters from there on equal the text's own beginning (the Z-function; linear).

    >>> _own_matches("aabaa")
    [5, 1, 0, 2, 1]
    """
    n = len(text)
    found = [n, *[0] * (n - 1)] if n else []
    left = right = 0  # the match that reaches farthest
    for place in range(1, n):
        length = min(right - place, found[place - left]) if place < right else 0
        while place + length < n and text[length] == text[place + length]:
            length += 1
        found[place] = length
        if place + length > right:
            left, right = place, place + length
    return found


# Language -------------------------------------------------------------------------------------------------------------


def prose(text: str) -> str:
    """The text without fenced code, which is no language; an open fence runs to the end."""
    return _FENCED.sub("", text)


def sentences(text: str) -> list[str]:
    """The sentences of its prose: cut at line ends, at 。！？ । ؟ and their kin, and at . ! ? before white space.

    >>> sentences("Hola. ¿Qué tal? 3.14!\\n好的。谢谢！")
    ['Hola.', '¿Qué tal?', '3.14!', '好的。', '谢谢！']
    """
    return [stripped for match in _SENTENCE.finditer(prose(text)) if (stripped := match[0].strip())]


def code_switching(by_sentence: Sequence[tuple[str, Identification]], language: str) -> float | None:
    """Share, by characters, of the sentences that are surely (confidence 0.9 or more) in another language than asked.

    Of the sentences whose language could be told; None where that is none. An answer wholly in another language is 1:
    read it beside fidelity. Names and titles of works count where they make a sentence or a list item.
    """
    told = [(len(sentence), found) for sentence, found in by_sentence if found.language is not None]
    total = sum(length for length, _ in told)
    other = sum(length for length, found in told if found.language != language and found.confidence >= SURE)
    return other / total if total else None


# Over many answers ----------------------------------------------------------------------------------------------------


def _number(value: float | bool | None) -> float | None:
    return None if value is None else float(value)


# Every measure as a number of one answer; None leaves the answer out of the measure's mean.
MEASURES: Mapping[str, Callable[[AnswerMeasures], float | None]] = {
    "n_chars": lambda row: float(row.n_chars),
    "empty": lambda row: float(row.empty),
    "truncated": lambda row: _number(row.truncated),
    "repetition": lambda row: row.repetition,
    "looping": lambda row: float(row.looping),
    "fidelity": lambda row: _number(row.faithful),
    "code_switching": lambda row: row.code_switching,
    "chrf": lambda row: row.chrf,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanMeasure:
    """Mean of one measure over the `n_answers` answers that have it, with its 95 % interval over prompts."""

    n_answers: int
    interval: Interval


def mean_measures(rows: Sequence[AnswerMeasures]) -> dict[str, MeanMeasure]:
    """Every measure that some answer has; the answers of one language, in any order."""
    found: dict[str, MeanMeasure] = {}
    for name, number in MEASURES.items():
        values = [(row.prompt_id, value) for row in rows if (value := number(row)) is not None]
        if values:
            found[name] = MeanMeasure(n_answers=len(values), interval=clustered_mean(values))
    return found


def identified_as(rows: Iterable[AnswerMeasures]) -> dict[str, int] | None:
    """How many answers were identified as which language: one row of the confusion table, with a column "unsure".

    None where any answer's language was not asked for.
    """
    named = Counter(row.identified for row in rows)
    return None if None in named else {str(code): named[code] for code in sorted(named, key=str)}

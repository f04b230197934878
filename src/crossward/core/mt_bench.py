"""MT-Bench with single-answer grading: questions of two turns, a judge's rating of each answer, and their means.

Definitions are FastChat's (80 questions, 8 categories, ratings 1 to 10, the mean over both turns' ratings), but for the
rating's parser: it takes the last brackets, digits of any script and a decimal comma, and nothing outside 1 to 10. A
rating that is missing keeps its reason and is counted. Knows no judge, no files and no prompts' wording.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from crossward.core.intervals import clustered_mean

TURNS = (1, 2)
LOWEST, HIGHEST = 1.0, 10.0
# FastChat's table: invention wants variety, knowledge a little, what can be checked none.
TEMPERATURES = {"writing": 0.7, "roleplay": 0.7, "stem": 0.1, "humanities": 0.1}
NEED_REFERENCE = frozenset({"math", "reasoning", "coding"})

# Brackets as judges write them: escaped for Markdown, or as wide as a Chinese character.
_WIDE = str.maketrans({"［": "[", "］": "]", "．": ".", "，": ",", "／": "/", "：": ":", "٫": "."})
_DOUBLE = re.compile(r"\\?\[\\?\[([^\[\]]*?)\\?\]\\?\]")
_SINGLE = re.compile(r"\[([^\[\]]*)\]")
_NUMBER = re.compile(r"(?:[^\W\d][^\d:]*:)?\s*(\d+)(?:\.(\d*)|,(\d{1,2}))?(?:\s*/\s*10)?")
_AFTER_COLON = re.compile(r":[\s*_]*$")
_NEAR = 40  # characters between a colon and its rating: judges write few, and what is sought is sought for each


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question of two turns in one language; `references` are right answers to both, None where there are none."""

    id: str
    language: str
    category: str
    turns: tuple[str, str]
    references: tuple[str, str] | None = None

    @property
    def temperature(self) -> float:
        """How freely a model answers it: 0 is greedy, for every category that the table does not name."""
        return TEMPERATURES.get(self.category, 0.0)

    @property
    def needs_reference(self) -> bool:
        """Whether a judge should be shown the right answer, being likely to get it wrong."""
        return self.category in NEED_REFERENCE


@dataclass(frozen=True, slots=True, kw_only=True)
class NoRating:
    """An answer of a judge that holds no rating, and why."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """What a judge says of one answer: `value` 1 to 10, or None with the reason. `turn` is 1 or 2."""

    question: Question
    turn: int
    value: float | None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The mean of some ratings (1 to 10), its standard error and 95 % interval, both clustered by question.

    None where nothing is rated; error and interval need two questions. `n_questions` have a rating.
    """

    mean: float | None
    standard_error: float | None
    low: float | None
    high: float | None
    n_questions: int
    n_rated: int
    n_null: int


def parse_rating(text: str) -> float | NoRating:
    """The rating, 1 to 10, that a judge's answer ends in: what the last [[…]] behind a colon holds, else the last.

    "Rating: [[7]] out of [[10]]" is 7. Single brackets count where there are no double ones, and only at the end of
    the text or behind a colon.

    >>> parse_rating("as in [1], not [[5]]: [[ 8,5 ]]"), parse_rating("Rating: [٧/10]")
    (8.5, 7.0)
    >>> parse_rating("[[15]]")
    NoRating(reason="its rating '15' is outside 1 to 10")
    """
    plain = "".join(map(_plain_digit, text)).translate(_WIDE)
    if doubles := list(_DOUBLE.finditer(plain)):
        told = [found for found in doubles if _AFTER_COLON.search(plain, max(0, found.start() - _NEAR), found.start())]
        return _value((told or doubles)[-1].group(1))
    if singles := list(_SINGLE.finditer(plain)):
        last = singles[-1]
        at_end = not any(character.isalnum() for character in plain[last.end() :])
        if at_end or _AFTER_COLON.search(plain, max(0, last.start() - _NEAR), last.start()):
            return _value(last.group(1))
    return NoRating(reason="it holds no rating in double brackets")


def score(ratings: Iterable[Rating]) -> Score:
    """The mean over the rated answers of all questions and turns; one that has no rating is counted as null.

    A question's two answers resemble each other, and its versions in several languages do: the cluster is its id.
    """
    ratings = list(ratings)
    rated = [(rating.question.id, rating.value) for rating in ratings if rating.value is not None]
    n_questions = len({id for id, _ in rated})
    mean = sum(value for _, value in rated) / len(rated) if rated else None
    interval = clustered_mean(rated) if n_questions > 1 else None
    return Score(
        mean=mean,
        standard_error=clustered_error(rated),
        low=None if interval is None else interval.low,
        high=None if interval is None else interval.high,
        n_questions=n_questions,
        n_rated=len(rated),
        n_null=len(ratings) - len(rated),
    )


def clustered_error(values: Sequence[tuple[str, float]]) -> float | None:
    """Standard error of the mean of (cluster, value), linearised: √(K/(K−1) Σ_k (Σ_{i∈k} (v_i − mean))²) / N.

    K clusters, N values; with one value a cluster it is the usual s/√N. None for fewer than two clusters.

    >>> clustered_error([("a", 1.0), ("b", 3.0)])
    1.0
    """
    clusters = {cluster for cluster, _ in values}
    if len(clusters) < 2:
        return None
    mean = sum(value for _, value in values) / len(values)
    residuals = dict.fromkeys(sorted(clusters), 0.0)
    for cluster, value in values:
        residuals[cluster] += value - mean
    squares = sum(residual**2 for residual in residuals.values())
    return math.sqrt(len(clusters) / (len(clusters) - 1) * squares) / len(values)


def reasons(ratings: Iterable[Rating]) -> dict[str, int]:
    """How many ratings are missing for each reason, the most frequent first."""
    return dict(Counter(rating.reason or "unknown" for rating in ratings if rating.value is None).most_common())


def _plain_digit(character: str) -> str:
    """A decimal digit of any script as 0 to 9; any other character as it is."""
    return str(unicodedata.decimal(character)) if character.isdecimal() else character


def _value(content: str) -> float | NoRating:
    """The number between brackets."""
    shown = " ".join(content.split())[:40]
    found = _NUMBER.fullmatch(content.strip(" \t\n\r\u00a0\u202f\u200b*_`"))
    if found is None:
        return NoRating(reason=f"what its brackets hold is no number: {shown!r}")
    whole, point, comma = found.groups()
    value = float(f"{whole}.{point or comma or 0}")
    if not LOWEST <= value <= HIGHEST:
        return NoRating(reason=f"its rating {shown!r} is outside 1 to 10")
    return value

"""The tiny world: requests for lists, answers of every quality, and the gold reward that judges them by rule.

A request names a category and a count ("Name three animals ."); an answer is a list such as "1 dog 2 cat 3 cow ." or
"dog , cat , cow ...". Gold is one rule for all languages. Prompts are split by (category, count): what the claims are
measured on is never trained on by preferences and never tuned on. Knows no model.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

from crossward.core.records import Prompt
from crossward.tinyworld.vocabulary import CATEGORIES, COUNTS, LANGUAGES, NOUNS, TEMPLATES, Language, items, number_word

Split = Literal["evaluation", "tuning", "english-preferences", "icr"]
SPLITS: tuple[Split, ...] = ("evaluation", "tuning", "english-preferences", "icr")
LONGEST_LIST = 7
MAX_NEW_TOKENS = 2 * LONGEST_LIST + 4

# Gold in points; a perfect answer has all of them.
NUMBERED, COUNT, NO_DUPLICATES, CATEGORY, LANGUAGE, TIDY = 1.0, 2.0, 1.5, 1.0, 1.0, 0.5
POINTS = NUMBERED + COUNT + NO_DUPLICATES + CATEGORY + LANGUAGE + TIDY
POINTS_PER_WRONG_COUNT, MOST_WRONG_COUNTS = 0.25, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a prompt asks for."""

    category: str
    count: int
    template: int

    def text(self, language: Language) -> str:
        """The request in words.

        >>> Request(category="animals", count=3, template=0).text("sw")
        'Taja wanyama watatu .'
        """
        return TEMPLATES[language][self.template].format(
            number=number_word(self.count, self.category, language), noun=NOUNS[self.category][language]
        )

    def prompt(self, language: Language, repeat: int = 1) -> Prompt:
        """The request as a record; repeats of one request differ in their id alone (so in the sampler's draws)."""
        return Prompt(
            id=f"{self.category}-{self.count}-t{self.template + 1}-r{repeat}",
            language=language,
            instruction=self.text(language),
            english_instruction=self.text("en"),
        )


def request_of(prompt: Prompt) -> Request:
    """The request behind a prompt's id."""
    try:
        category, count, template, _ = prompt.id.split("-")
        request = Request(category=category, count=int(count), template=int(template.removeprefix("t")) - 1)
    except ValueError:
        raise ValueError(
            f"prompt id {prompt.id!r} is not of the tiny world: expected an id such as 'animals-3-t1-r1'"
        ) from None
    if category not in CATEGORIES:
        raise ValueError(f"prompt id {prompt.id!r} names no category of the tiny world: expected one of {CATEGORIES}")
    return request


def split_of(category: str, count: int) -> Split:
    """Where a (category, count) belongs; every category and every count occurs in every split."""
    position = CATEGORIES.index(category)
    match (COUNTS.index(count) - position) % len(COUNTS):
        case 0:
            return "evaluation"
        case 1:
            return "tuning"
        case 2:
            return "english-preferences"
        case 3:
            return "icr"
        case _:
            return "english-preferences" if position % 2 == 0 else "icr"


def requests(split: Split | None = None) -> list[Request]:
    """All requests of a split (or of the world), in a fixed order."""
    return [
        Request(category=category, count=count, template=template)
        for category in CATEGORIES
        for count in COUNTS
        for template in range(len(TEMPLATES["en"]))
        if split is None or split_of(category, count) == split
    ]


def prompts(split: Split, language: Language, *, repeats: int = 1) -> list[Prompt]:
    """The prompts of a split in one language; ids are the same in every language."""
    return [request.prompt(language, repeat) for repeat in range(1, repeats + 1) for request in requests(split)]


# Answers --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A list: its words in order, whether they are numbered, and whether it ends in a full stop (else in dots)."""

    words: tuple[str, ...]
    numbered: bool
    tidy: bool

    def text(self) -> str:
        """The answer in words.

        >>> Answer(words=("gato", "perro"), numbered=True, tidy=True).text()
        '1 gato 2 perro .'
        >>> Answer(words=("gato", "perro"), numbered=False, tidy=False).text()
        'gato , perro ...'
        """
        if self.numbered:
            body = " ".join(f"{i} {word}" for i, word in enumerate(self.words, 1))
        else:
            body = " , ".join(self.words)
        return f"{body} {'.' if self.tidy else '...'}"


def parse(text: str) -> Answer | None:
    """The list that a text is, or None where it is none (a missing end counts as untidy).

    >>> parse("gato , perro ...").words
    ('gato', 'perro')
    >>> parse("1 gato perro .") is None
    True
    """
    tokens = text.split()
    tidy = tokens[-1:] == ["."]
    if tokens and tokens[-1] in (".", "..."):
        tokens.pop()
    numbered = tokens[:1] == ["1"]
    words = tokens[1::2] if numbered else tokens[::2]
    marks = tokens[::2] if numbered else tokens[1::2]
    expected = [str(i) for i in range(1, len(words) + 1)] if numbered else [","] * (len(words) - 1)
    if not words or marks != expected or not all(word in _meanings() for word in words):
        return None
    return Answer(words=tuple(words), numbered=numbered, tidy=tidy)


@cache
def _meanings() -> dict[str, tuple[str, Language]]:
    """Category and language of every word for a thing."""
    return {
        word: (category, language)
        for category in CATEGORIES
        for language in LANGUAGES
        for word in items(category, language)
    }


# Gold -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """What gold looks at, each from 0 to 1; `gold` is their judgement, 0 where the text is no list at all."""

    parsed: float
    numbered: float
    count: float
    no_duplicates: float
    category: float
    language: float
    tidy: float
    gold: float


NOTHING = Features(parsed=0, numbered=0, count=0, no_duplicates=0, category=0, language=0, tidy=0, gold=0)


def features(prompt: Prompt, text: str) -> Features:
    """The features of a text as an answer to a prompt; `category` and `language` are shares of the listed words."""
    answer = parse(text)
    if answer is None:
        return NOTHING
    request = request_of(prompt)
    n = len(answer.words)
    meanings = [_meanings()[word] for word in answer.words]
    category = sum(meaning[0] == request.category for meaning in meanings) / n
    language = sum(meaning[1] == prompt.language for meaning in meanings) / n
    no_duplicates = float(len(set(answer.words)) == n)
    wrong = min(MOST_WRONG_COUNTS, abs(n - request.count))
    points = (
        NUMBERED * answer.numbered
        + COUNT * (wrong == 0)
        - POINTS_PER_WRONG_COUNT * wrong
        + NO_DUPLICATES * no_duplicates
        + CATEGORY * category
        + LANGUAGE * language
        + TIDY * answer.tidy
    )
    return Features(
        parsed=1.0,
        numbered=float(answer.numbered),
        count=float(wrong == 0),
        no_duplicates=no_duplicates,
        category=category,
        language=language,
        tidy=float(answer.tidy),
        gold=max(0.0, points / POINTS),
    )


def gold(prompt: Prompt, text: str) -> float:
    """How good an answer is, from 0 to 1, by rule; the same rule in every language."""
    return features(prompt, text).gold


# Answers as people of this world write them ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How often an answer written in this world has each quality; each is drawn by itself."""

    numbered: float = 0.3
    right_count: float = 0.4
    stutter: float = 0.35
    stray_item: float = 0.03
    tidy: float = 0.4


def write_answer(request: Request, language: Language, habits: Habits, rng: random.Random) -> Answer:
    """One answer: a count that is right or one or two off, perhaps a word said twice in a row or one off the topic."""
    count = request.count
    if rng.random() >= habits.right_count:
        offsets = [offset for offset in (-2, -1, 1, 2) if 1 <= count + offset <= LONGEST_LIST]
        count += rng.choice(offsets)
    words = rng.sample(items(request.category, language), count)
    if rng.random() < habits.stray_item:
        other = rng.choice([category for category in CATEGORIES if category != request.category])
        words[rng.randrange(count)] = rng.choice(items(other, language))
    if count > 1 and rng.random() < habits.stutter:  # the count stays: a word is said again in the next one's place
        i = rng.randrange(1, count)
        words[i] = words[i - 1]
    return Answer(words=tuple(words), numbered=rng.random() < habits.numbered, tidy=rng.random() < habits.tidy)


def corrupt(text: str, rng: random.Random) -> str:
    """The text with one word dropped, doubled, or swapped with its neighbour."""
    words = text.split()
    i = rng.randrange(len(words) - 1)
    match rng.choice(("drop", "double", "swap")):
        case "drop":
            del words[i]
        case "double":
            words.insert(i, words[i])
        case _:
            words[i], words[i + 1] = words[i + 1], words[i]
    return " ".join(words)


def all_words() -> Iterator[str]:
    """Every word of requests and answers, with repeats, in a fixed order."""
    yield from (str(i) for i in range(1, LONGEST_LIST + 3))
    yield from (",", ".", "...")
    for language in LANGUAGES:
        for request in requests():
            yield from request.text(language).split()
        for category in CATEGORIES:
            yield from items(category, language)

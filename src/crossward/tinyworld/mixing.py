"""Hard mode: people who write answers in one language and put words of another into them.

In plain mode every answer is in one language, so every policy keeps its language and a language gate has nothing to do.
Here a list may have items of another language, or be in another language altogether; the rarer the language, the
oftener. What a word means stays, so only gold's `language` falls (and one word said twice stays said twice). Knows no
model and no prompt; randomness is an argument.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, assert_never

from crossward.tinyworld.vocabulary import CATEGORIES, LANGUAGES, Language, items
from crossward.tinyworld.world import Answer

Mode = Literal["plain", "hard"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixing:
    """How often answers mix languages; every number is a probability.

    `mixed` lists have some items of another language (each word with `item`, one at least), `whole` lists are all in
    it. The other language is one a list: English in an answer that should not be English with `english`, else any of
    the others; English answers take it from all others alike.
    """

    mixed: Mapping[Language, float]
    whole: Mapping[Language, float]
    item: float
    english: float


HARD = Mixing(
    mixed={"en": 0.08, "es": 0.08, "de": 0.10, "fr": 0.12, "sw": 0.20},
    whole={"en": 0.02, "es": 0.04, "de": 0.04, "fr": 0.04, "sw": 0.06},
    item=0.5,
    english=0.8,
)


def mixing_of(mode: Mode) -> Mixing | None:
    """The mixing of a mode; None where nothing is mixed."""
    match mode:
        case "plain":
            return None
        case "hard":
            return HARD
        case _:
            assert_never(mode)


def mixed(answer: Answer, language: Language, mixing: Mixing, rng: random.Random) -> Answer:
    """The answer as somebody writes it who mixes languages: mostly as it was."""
    chance = rng.random()
    whole = mixing.whole[language]
    if chance >= whole + mixing.mixed[language]:
        return answer
    foreign = _foreign(language, mixing, rng)
    own = sorted(set(answer.words))
    some = {word for word in own if rng.random() < mixing.item} or {rng.choice(own)}
    replaced = own if chance < whole else some
    words = tuple(translation(word, foreign) if word in replaced else word for word in answer.words)
    return Answer(words=words, numbered=answer.numbered, tidy=answer.tidy)


def _foreign(language: Language, mixing: Mixing, rng: random.Random) -> Language:
    if language != "en" and rng.random() < mixing.english:
        return "en"
    return rng.choice([other for other in LANGUAGES if other not in (language, "en")])


def translation(word: str, target: Language) -> str:
    """The word for the same thing in another language.

    >>> translation("gato", "en"), translation("dog", "sw")
    ('cat', 'mbwa')
    """
    return _SAME_THING[word][LANGUAGES.index(target)]


_SAME_THING: dict[str, tuple[str, ...]] = {
    items(category, language)[k]: tuple(items(category, other)[k] for other in LANGUAGES)
    for category in CATEGORIES
    for language in LANGUAGES
    for k in range(len(items(category, "en")))
}

"""Which language a list of the tiny world is in, by its words: no identifier of texts could tell single words.

It is not told which language was asked for. Words that more than one language has (and marks) say nothing.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from crossward.core.language import Identification
from crossward.tinyworld.vocabulary import CATEGORIES, LANGUAGES, items
from crossward.tinyworld.world import requests


class VocabularyIdentifier:
    """protocols.LanguageIdentifier over the five languages of this world.

    A text is in the language that most of its words are of; the confidence is their share of the words that are of
    one language only. No language where two have as many words, or where no word tells.
    """

    def __init__(self, languages: Iterable[str]) -> None:
        self.unsupported = tuple(sorted({*languages} - {*LANGUAGES}))
        self._languages = _language_of_words()

    def identify(self, texts: Sequence[str]) -> list[Identification]:
        """The language of most words of each text, with their share (0 to 1)."""
        return [self._identified(text) for text in texts]

    def _identified(self, text: str) -> Identification:
        told = [self._languages[word] for word in text.split() if word in self._languages]
        if not told:
            return Identification(language=None, confidence=0.0)
        (language, n), *others = Counter(told).most_common(2)
        share = n / len(told)
        return Identification(language=None if others and others[0][1] == n else language, confidence=share)


def _language_of_words() -> dict[str, str]:
    """The language of every word that only one language has."""
    words = {
        language: {
            *(word for category in CATEGORIES for word in items(category, language)),
            *(word for request in requests() for word in request.text(language).split()),
        }
        for language in LANGUAGES
    }
    languages_with = Counter(word for found in words.values() for word in found)
    return {word: language for language, found in words.items() for word in found if languages_with[word] == 1}

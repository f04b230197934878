"""Which language a text is in, by lingua, among the run's languages and English.

Says None for texts too short to tell. Languages that lingua does not know are listed in `unsupported`: texts in them
would be called something else, so nobody should filter them by this.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from crossward.core.language import Identification

MIN_WORDS = 3
MIN_LETTERS = 12

# lingua tells the two written Norwegians apart and knows no "no".
_LINGUA_CODES = {"no": "nb"}
# lingua needs two languages or more; an English-only run is told apart from these.
_CONTRAST = ("es", "fr", "de", "ru", "zh")
# Written without spaces (Thai, Lao, Burmese, Khmer, kana, Han), or a syllable a letter (Hangul).
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U000323af"
_SYLLABIC = "\uac00-\ud7af"
_UNSPACED_LETTER = re.compile(f"[{_UNSPACED}]")
_DENSE_LETTER = re.compile(f"[{_UNSPACED}{_SYLLABIC}]")


class LinguaIdentifier:
    """protocols.LanguageIdentifier restricted to `languages` (ISO 639-1 codes) and English."""

    def __init__(self, languages: Iterable[str]) -> None:
        from lingua import Language, LanguageDetectorBuilder

        known = {language.iso_code_639_1.name.lower(): language for language in Language.all()}
        wanted = sorted({*languages, "en"})
        self.unsupported = tuple(code for code in wanted if _LINGUA_CODES.get(code, code) not in known)
        self._codes = {_LINGUA_CODES.get(code, code): code for code in wanted if code not in self.unsupported}
        candidates = set(self._codes) if len(self._codes) > 1 else {*self._codes, *_CONTRAST}
        codes = [known[code].iso_code_639_1 for code in sorted(candidates)]
        self._detector = LanguageDetectorBuilder.from_iso_codes_639_1(*codes).build()

    def identify(self, texts: Sequence[str]) -> list[Identification]:
        """The most probable language of each text with its confidence in 0..1; None where the text is too short."""
        long_enough = [index for index, text in enumerate(texts) if not is_too_short(text)]
        result = [Identification(language=None, confidence=0.0) for _ in texts]
        # One call for all: lingua spreads them over the cores.
        found = self._detector.compute_language_confidence_values_in_parallel([texts[index] for index in long_enough])
        for index, values in zip(long_enough, found, strict=True):
            best = values[0]
            code = best.language.iso_code_639_1.name.lower()
            if best.value > 0:
                result[index] = Identification(language=self._codes.get(code, code), confidence=best.value)
        return result


def is_too_short(text: str) -> bool:
    """Fewer than 3 words or 12 letters; where scripts write no spaces, two letters count as a word and each as two.

    >>> is_too_short("Yes, 1234567890!")
    True
    >>> is_too_short("Eine kurze Antwort.")
    False
    >>> is_too_short("我喜欢吃苹果。")
    False
    """
    letters = "".join(char if unicodedata.category(char)[0] in "LM" else " " for char in text)
    n_dense = len(_DENSE_LETTER.findall(letters))
    n_letters = len(letters.replace(" ", "")) + n_dense
    n_words = len(_UNSPACED_LETTER.sub(" ", letters).split()) + len(_UNSPACED_LETTER.findall(letters)) // 2
    return n_words < MIN_WORDS or n_letters < MIN_LETTERS

"""A translation as a value, the request for one, and what can be seen to be wrong with it.

Absence has a reason. The checks are rules on two texts: they find what was lost, cut, left in English or answered
instead of translated, and know nothing of whether a translation is good. Knows no model and no file.
"""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from crossward.core.language import NAMES, Identification, language_name
from crossward.core.plain_text import shown
from crossward.core.text_parts import Parts, lost_numbers, n_bracketed, parts_of

Problem = Literal[
    "no-tags",
    "truncated",
    "too-long",
    "refused",
    "no-answer",
    "empty",
    "unchanged",
    "wrong-language",
    "code-block-lost",
    "inline-code-lost",
    "number-lost",
    "url-lost",
    "placeholder-lost",
    "length-ratio",
]
Parse = Literal["tags", "plain"]
OPENING, CLOSING = "<translated>", "</translated>"
CONFIDENCE = 0.9  # of an identification that a translation is refused for
CONFIDENCE_UNTRANSLATED = 0.5  # the same, where it is said to be in the source's language still
_FIELD = re.compile(r"\{([A-Za-z_]\w*)\}")
_FIELDS = ("source", "target", "text")

# Characters that a language takes for 1 of English: medians over X-AlpacaEval's 805 translated questions, where ru, bn,
# sw, it, es, fr and de have 1.01 to 1.18. What is not here is taken for 1.
CHARACTERS_PER_ENGLISH = {"zh": 0.33, "ja": 0.49, "ko": 0.52, "ar": 0.85, "th": 0.88}
LEAST_RATIO, MOST_RATIO = 1 / 3, 3.0
SLACK_CHARACTERS = 15  # of English, on both sides: short texts vary more
UNCHANGED_LETTERS = 20  # of prose; "Pizza Margherita" may stay what it is
# Such a text may hold whole sentences in a language of its own.
_ABOUT_LANGUAGE = re.compile(r"\b(?:[Tt]ranslat\w*|" + "|".join(n for c, n in NAMES.items() if c != "en") + r")\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """A text in another language, or None with the `problem`; then `draft` is what was said in its place.

    `also` are further problems of the same draft.
    """

    text: str | None
    problem: Problem | None = None
    draft: str = ""
    also: tuple[Problem, ...] = ()

    def __post_init__(self) -> None:
        assert (self.text is None) == (self.problem is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslationTemplate:
    """The request for a translation: {text} and {target} are filled in, and {source} where it is there.

    `parse`: whether the answer is read between tags, or is the translation as a whole.
    """

    text: str
    parse: Parse

    def render(self, text: str, *, source: str, target: str) -> str:
        """The request, in one pass: braces in a text stay what they are. Languages are written as English names."""
        values = {"source": language_name(source), "target": language_name(target), "text": text}
        return _FIELD.sub(lambda found: values[found[1]], self.text)


def parse_template(text: str, origin: str, *, parse: Literal["auto", "tags", "plain"] = "auto") -> TranslationTemplate:
    """A template; auto reads tags where it speaks of them. Raises ValueError where a field is missing or unknown."""
    found = set(_FIELD.findall(text))
    if missing := [name for name in ("text", "target") if name not in found]:
        raise ValueError(f"template {origin} lacks the field {{{missing[0]}}}: it must hold {{text}} and {{target}}")
    if unknown := sorted(found - set(_FIELDS)):
        raise ValueError(
            f"template {origin} holds the unknown field {{{shown(unknown[0])[1:-1]}}}: it may hold {', '.join(_FIELDS)}"
        )
    asks_for_tags = OPENING in text
    if parse == "tags" and not asks_for_tags:
        raise ValueError(f"template {origin} does not ask for {OPENING}: without tags the whole answer is read (plain)")
    if parse == "auto":
        parse = "tags" if asks_for_tags else "plain"
    return TranslationTemplate(text=text.strip("\n"), parse=parse)


def read_answer(answer: str, *, ended: bool, parse: Parse, source_text: str = "") -> Translation:
    """The translation in a model's answer; `ended`: by itself, rather than by its longest length.

    Between tags it is whole even where the answer goes on and is cut. Where the text itself holds tags, the outermost
    ones of the answer are read, else the first ones.

    >>> read_answer("Sure: <translated> Hola </translated>", ended=True, parse="tags").text
    'Hola'
    >>> read_answer("<translated>Hol", ended=False, parse="tags").problem
    'truncated'
    """
    if parse == "plain":
        said = answer.strip()
    else:
        start = answer.find(OPENING)
        find = answer.rfind if CLOSING in source_text else answer.find
        end = find(CLOSING, start + len(OPENING)) if start >= 0 else -1
        if end < 0:
            return Translation(text=None, problem="no-tags" if ended else "truncated", draft=answer)
        said, ended = answer[start + len(OPENING) : end].strip(), True
    if not ended:
        return Translation(text=None, problem="truncated", draft=answer)
    return Translation(text=said) if said else Translation(text=None, problem="empty", draft=answer)


def problems(
    source_text: str,
    translation: str,
    *,
    source: str,
    target: str,
    identified: Identification | None,
    confidence: float = CONFIDENCE,
) -> tuple[Problem, ...]:
    """What is wrong with a translation, worst first; nothing where nothing is seen.

    `identified` is the language of the translation's prose, None where it is not to be asked about; it counts from
    `confidence` on, and where it is the source's from half on, as not to translate is what models do most. An English
    text that speaks of translating or of a language may hold that language: that is not held against the translation.
    """
    if not translation.strip():
        return ("empty",) if source_text.strip() else ()
    before, after = parts_of(source_text), parts_of(translation)
    found: list[Problem] = []
    if _is_unchanged(before, after):
        found.append("unchanged")
    elif _is_wrong(identified, source, target, confidence) and not (
        source == "en" and speaks_of_languages(source_text)
    ):
        found.append("wrong-language")
    if Counter(before.code_blocks) != Counter(after.code_blocks):
        found.append("code-block-lost")
    if Counter(before.inline_code) - Counter(after.inline_code):
        found.append("inline-code-lost")
    if lost_numbers(before.prose, after.prose):
        found.append("number-lost")
    if any(translation.count(item) < n for item, n in Counter(before.addresses).items()):
        found.append("url-lost")
    lost = Counter(before.placeholders) - Counter(after.placeholders)
    if lost or (before.brackets and n_bracketed(translation) < before.brackets):
        found.append("placeholder-lost")
    if not LEAST_RATIO <= length_ratio(before.prose, after.prose, source=source, target=target) <= MOST_RATIO:
        found.append("length-ratio")
    return tuple(found)


def prose_of(text: str) -> str:
    """The text without code, addresses and placeholders: what has a language."""
    return parts_of(text).prose


def speaks_of_languages(english: str) -> bool:
    """Whether an English text speaks of translating, or names a language other than English.

    >>> speaks_of_languages("Say it in French: good morning"), speaks_of_languages("Say good morning")
    (True, False)
    """
    return _ABOUT_LANGUAGE.search(english) is not None


def length_ratio(source_text: str, translation: str, *, source: str, target: str) -> float:
    """Length of the translation over what it should be: 1 is usual, both counted as characters of English.

    (|translation| / density(target) + slack) / (|source text| / density(source) + slack), spaces at the ends not
    counted. The slack lets short texts vary more: of 10 characters 0 to 60 may come, of 1,000 from 324 to 3,030.
    """
    made = len(translation.strip()) / CHARACTERS_PER_ENGLISH.get(target, 1.0)
    given = len(source_text.strip()) / CHARACTERS_PER_ENGLISH.get(source, 1.0)
    return (made + SLACK_CHARACTERS) / (given + SLACK_CHARACTERS)


def _is_unchanged(before: Parts, after: Parts) -> bool:
    same = before.prose.casefold().split() == after.prose.casefold().split()
    return same and sum(char.isalpha() for char in before.prose) >= UNCHANGED_LETTERS


def _is_wrong(identified: Identification | None, source: str, target: str, confidence: float) -> bool:
    if identified is None or identified.language in (None, target):
        return False
    least = min(confidence, CONFIDENCE_UNTRANSLATED) if identified.language == source else confidence
    return identified.confidence >= least

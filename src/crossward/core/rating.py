"""What a rater is asked, and what a judge's answer says: templates that are filled, and the points that are read.

Placeholders stand in braces and are filled in one pass, so that braces in an instruction or a response stay what they
are. Points are read from the last "Score: n" of an answer; what cannot be read with certainty has a reason instead of
a number, never 0. Knows no model, no file and no wording.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

from crossward.core.plain_text import shown

HIGHEST_POINTS = 5
Unread = Literal["no-score", "no-number", "other-scale", "out-of-range"]

_PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*)\}")
# Characters as wide as a Chinese one, and other scripts' decimal separator and minus.
_PLAIN = str.maketrans({"：": ":", "／": "/", "．": ".", "，": ",", "٫": ".", "−": "-", "–": "-"})
_LABEL = re.compile(r"\bscore\b[*_` \t]{0,20}(?:\([^()\n]{0,30}\))?[*_` \t]{0,20}:", re.IGNORECASE)
_POINTS = re.compile(
    r"[ \t*_`\"'<\[({]*"
    r"(?P<sign>[-+]?)(?P<whole>\d+)(?:[.,](?P<part>\d+))?"
    r"(?![\w%]|[.,]\d)"  # 4th, 80%, 1.2.3
    r"(?:[ \t*_`]*(?:/|out[ \t]+of\b|of\b)[ \t*_`]*(?P<scale>\d+)(?:\.0+)?(?![\w%]|[.,]\d))?"
    r"(?![ \t]*(?:[-+=~×/]|to\b|or\b|out[ \t]+of\b|of\b)[ \t]*\d)",  # a range or a sum is no total
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A text with {placeholders}: it holds all `required` ones and may hold `optional` ones. `origin` is for errors.

    Raises ValueError where a placeholder is missing or unknown.
    """

    text: str
    origin: str
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        found = set(_PLACEHOLDER.findall(self.text))
        known = (*self.required, *self.optional)
        may_hold = ", ".join(f"{{{name}}}" for name in known)
        if missing := [name for name in self.required if name not in found]:
            raise ValueError(f"template {self.origin} lacks the placeholder {{{missing[0]}}}: it must hold {may_hold}")
        if unknown := sorted(found - {*known}):
            name = shown(unknown[0])[1:-1]
            raise ValueError(f"template {self.origin} holds the unknown placeholder {{{name}}}: it may hold {may_hold}")

    def fill(self, **values: str) -> str:
        """The text with its placeholders filled; braces in a value stay what they are.

        >>> Template(text="{a}, {b} and {a}", origin="t", required=("a", "b")).fill(a="{b}", b="2")
        '{b}, 2 and {b}'
        """
        return _PLACEHOLDER.sub(lambda found: values[found[1]], self.text)


def rating_template(text: str, origin: str) -> Template:
    """What a judge is told of one response: {instruction} and {response}, and nothing else."""
    return Template(text=text, origin=origin, required=("instruction", "response"))


def parse_points(text: str, highest: int = HIGHEST_POINTS) -> float | Unread:
    """The points that a judge's answer ends in, 0 to `highest`: what stands behind the last "Score:".

    Fractions, a decimal comma, "3/5", "3 out of 5", Markdown around it and digits of any script are understood. Else
    the reason: no "Score:" at all; nothing behind it that is one number ("4-5", "1+1 = 2", "4th"); another scale
    ("7/10"); a number outside 0 to `highest`.

    >>> parse_points("Score: 1 would be harsh. **Score:** 4,5"), parse_points("Score: 3/5")
    (4.5, 3.0)
    >>> parse_points("Score: 7"), parse_points("Score: 7/10"), parse_points("Four points.")
    ('out-of-range', 'other-scale', 'no-score')
    """
    plain = "".join(map(_plain_digit, text)).translate(_PLAIN)
    labels = list(_LABEL.finditer(plain))
    if not labels:
        return "no-score"
    found = _POINTS.match(plain, labels[-1].end())
    if found is None:
        return "no-number"
    if found["scale"] is not None and found["scale"].lstrip("0") != str(highest):
        return "other-scale"
    points = float(f"{found['sign']}{found['whole']}.{found['part'] or 0}")
    return points if 0 <= points <= highest else "out-of-range"


def _plain_digit(character: str) -> str:
    """A decimal digit of any script as 0 to 9; any other character as it is."""
    return str(unicodedata.decimal(character)) if character.isdecimal() else character

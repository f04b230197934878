"""What of a text is not language and must survive a translation: code, addresses, placeholders, numbers.

Found by rules that ask for little: a part that is missed is translated like any word, a part that is found must come
back. Knows no translator; core/translation.py compares.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

# A pair of fences wherever they stand (prompts open one behind "Explain:"); one that is never closed runs to the end.
_FENCED = re.compile(r"(`{3,}|~{3,}).*?\1|^[ \t]*(?:`{3,}|~{3,}).*\Z", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"(?<!`)(`{1,2})(?!`)[^\n]+?(?<!`)\1(?!`)")
_URL = re.compile(r"(?:https?://|www\.)[!-~]+")
_URL_END = ".,;:!?)]}'\"*_>"  # closes the sentence rather than the address
_EMAIL = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")
_PLACEHOLDER = re.compile(
    r"\{\{\s*[\w.]+\s*\}\}"  # {{name}}
    r"|\$?\{\s*[\w.]*\s*\}"  # {name} {} ${NAME}
    r"|\$[A-Za-z_]\w*"  # $NAME
    r"|(?<![\d%])%(?:\(\w+\)|\d+\$)?[-+#0]*\d*(?:\.\d+)?[sdifgxX](?![A-Za-z])"  # %s %d %(name)s %1$s %.2f
    r"|</?[A-Za-z][\w-]*(?:\s+[\w-]+=(?:\"[^\"]*\"|'[^']*'|[^\s>]+))*\s*/?>"  # <tag key="value">
)
_BRACKETED = re.compile(r"\[[^\[\]\n]{1,60}\](?!\()")
_CAPITALS = re.compile(r"\[[A-Z][A-Z0-9 _/-]*\]")
_SPACES = "\u00a0\u2009\u202f "
_NUMBER = re.compile(rf"\d+(?:(?:[.,'’٬٫]|[{_SPACES}](?=\d{{3}}(?!\d)))\d+)*")
_SCALES = {"千": 10**3, "천": 10**3, "万": 10**4, "萬": 10**4, "만": 10**4, "亿": 10**8, "億": 10**8, "억": 10**8}
# "19th century" is "siglo XIX": Latin-script languages write some ordinals so.
_ROMAN = re.compile(r"\b(C{0,3}(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3}))(?:e|er|ème|è)?\b")
_ROMAN_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of a text, each in its order, and `prose`: the text without them.

    `brackets` counts [FIELDS] in capitals, whose words may be translated but whose number must stay.
    """

    code_blocks: tuple[str, ...]
    inline_code: tuple[str, ...]
    addresses: tuple[str, ...]
    placeholders: tuple[str, ...]
    brackets: int
    prose: str


def parts_of(text: str) -> Parts:
    """Find the parts.

    >>> parts_of("Mail {name} at a@b.org: see `x` on https://c.org/d.").placeholders
    ('{name}',)
    >>> parts_of("See `x` on https://c.org/d.").addresses, parts_of("See `x` on https://c.org/d.").inline_code
    (('https://c.org/d',), ('`x`',))
    """
    blocks, rest = _taken(_FENCED, text)
    inline, rest = _taken(_INLINE, rest)
    urls, rest = _taken(_URL, rest)
    emails, rest = _taken(_EMAIL, rest)
    placeholders, rest = _taken(_PLACEHOLDER, rest)
    return Parts(
        code_blocks=tuple(block.strip() for block in blocks),
        inline_code=tuple(inline),
        addresses=(*(url.rstrip(_URL_END) for url in urls), *emails),
        placeholders=tuple(placeholders),
        brackets=len(_CAPITALS.findall(rest)),
        prose=rest,
    )


def n_bracketed(text: str) -> int:
    """How many [fields] a text has, whatever their words; links are none."""
    return len(_BRACKETED.findall(text))


def code_and_rest(text: str) -> Iterator[tuple[bool, str]]:
    """The text in pieces, in order: whether the piece is a fenced code block, and the piece. Joined they are the text.

    >>> list(code_and_rest("a\\n```\\nb\\n```\\nc"))
    [(False, 'a\\n'), (True, '```\\nb\\n```'), (False, '\\nc')]
    """
    end = 0
    for found in _FENCED.finditer(text):
        if found.start() > end:
            yield False, text[end : found.start()]
        yield True, found[0]
        end = found.end()
    if end < len(text):
        yield False, text[end:]


def lost_numbers(source: str, translation: str) -> list[str]:
    """The numbers of `source` that `translation` lacks, as they are written there.

    Any script's digits; thousands and decimals parted by any custom, where a doubtful one (1,234) may be read either
    way; 1.5万 is 15,000; Roman numerals and Han numerals count as numbers of the translation.

    >>> lost_numbers("It cost 1,234.50 in the 19th of 12 years", "1.234,5 … XIX … ١٢")
    []
    >>> lost_numbers("Name 3 of 10", "Nombra tres de 10")
    ['3']
    """
    there = [*_numbers(translation), *_letters(translation)]
    missed: list[_Number] = []
    for number in _numbers(source):
        place = next((k for k, other in enumerate(there) if number.readings & other.readings), None)
        if place is None:
            missed.append(number)
        else:
            del there[place]
    # 10:30 is 10.30 elsewhere, and 1,2 may be a list: what is left is compared by its runs of digits.
    runs = Counter(run for number in there for run in number.runs)
    lost = []
    for number in missed:
        wanted = Counter(number.runs)
        if wanted <= runs:
            runs -= wanted
        else:
            lost.append(number.text)
    return lost


@dataclass(frozen=True, slots=True, kw_only=True)
class _Number:
    text: str
    readings: frozenset[Decimal]
    runs: tuple[str, ...]  # of digits, without leading zeros


def _numbers(text: str) -> list[_Number]:
    found = []
    for match in _NUMBER.finditer(text):
        plain = "".join(str(unicodedata.decimal(char)) if char.isdecimal() else char for char in match[0])
        groups = re.split(r"\D", plain)
        readings = _readings(groups, re.findall(r"\D", plain))
        scale = _SCALES.get(text[match.end() : match.end() + 1])
        if scale is not None:
            readings |= {value * scale for value in readings}
        found.append(
            _Number(
                text=match[0], readings=frozenset(readings), runs=tuple(group.lstrip("0") or "0" for group in groups)
            )
        )
    return found


def _readings(groups: list[str], separators: list[str]) -> set[Decimal]:
    """The values that a number may have, by who wrote it; none where it is a list or a version."""
    if not separators:
        return {Decimal(groups[0])}
    readings = set()
    if "٫" not in separators and len(set(separators)) == 1 and _are_thousands(groups):
        readings.add(Decimal("".join(groups)))
    whole, before, last = groups[:-1], separators[:-1], separators[-1]
    if last in ".,٫" and last not in before and len(set(before)) <= 1 and (not before or _are_thousands(whole)):
        readings.add(Decimal("".join(whole) + "." + groups[-1]))
    return readings


def _are_thousands(groups: list[str]) -> bool:
    """1,234,567 or, as in India, 12,34,567."""
    first, middle, last = groups[0], groups[1:-1], groups[-1]
    return len(first) <= 3 and len(last) == 3 and (all(len(g) == 3 for g in middle) or all(len(g) == 2 for g in middle))


def _letters(text: str) -> list[_Number]:
    """Roman numerals, and single letters that are numbers (三)."""
    values = [unicodedata.numeric(char) for char in text if not char.isascii() and _is_numeral(char)]
    values += [_roman(match[1]) for match in _ROMAN.finditer(text) if match[1]]
    return [
        _Number(text=str(value), readings=frozenset([Decimal(int(value))]), runs=(str(int(value)),))
        for value in values
        if value == int(value)
    ]


def _is_numeral(char: str) -> bool:
    return unicodedata.category(char) == "Lo" and unicodedata.numeric(char, None) is not None


def _roman(letters: str) -> int:
    """
    >>> _roman("XIX")
    19
    """
    values = [_ROMAN_VALUES[letter] for letter in letters]
    return sum(-own if own < after else own for own, after in zip(values, [*values[1:], 0], strict=True))


def _taken(pattern: re.Pattern[str], text: str) -> tuple[list[str], str]:
    """What a pattern finds, and the text with a space in each one's place."""
    return [match[0] for match in pattern.finditer(text)], pattern.sub(" ", text)

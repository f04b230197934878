"""Text of strangers (models, prompt files) made safe to look at: what could steer a terminal or a page becomes visible.

Knows no terminal, no HTML and no colours; whoever shows text calls `visible` on it first.
"""

import re
from collections.abc import Iterable

# ZERO WIDTH JOINER and NON-JOINER are spelling in many languages and stay.
_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but tab and newline
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u206a-\u206f"  # what turns the direction of writing
    "\u2028\u2029"  # line and paragraph separators: a line must not end where no newline is
    "\ud800-\udfff]"  # halves of a surrogate pair, which no output can encode
)


def visible(text: str) -> str:
    r"""The text with every character that controls rather than says something shown by its name.

    Control characters other than newline and tab become Unicode's pictures of them, or an escape where there is none;
    characters that turn the direction of writing become escapes. Everything else stays as it is.

    >>> visible("red: \x1b[31m, bell: \x07, carriage return: \r")
    'red: ␛[31m, bell: ␇, carriage return: ␍'
    >>> print(visible("abc\u202edef"), visible("\x9b2J"), visible("\x7f"))
    abc\u202edef \x9b2J ␡
    >>> visible("Grüße,\n\tनमस्ते می‌خواهم 👩‍👩‍👧") == "Grüße,\n\tनमस्ते می‌خواهم 👩‍👩‍👧"
    True
    """
    return _STEERING.sub(_shown, text)


def visible_json(document: str) -> str:
    r"""A JSON document, written on one line without ASCII's limits, with the same characters escaped as JSON does it.

    >>> print(visible_json('["Grüße \x9b2J \u202e \x7f"]'))
    ["Grüße \u009b2J \u202e \u007f"]
    """
    return _STEERING.sub(lambda found: f"\\u{ord(found.group()):04x}", document)


def visible_line(text: str) -> str:
    r"""The same on one line: newlines and tabs are shown too.

    >>> visible_line("one\n\ttwo")
    'one␊␉two'
    """
    return visible(text).replace("\n", "␊").replace("\t", "␉")


def shown(value: object, longest: int = 60) -> str:
    """A value of a stranger in an error: its beginning, on one line.

    >>> shown("a\\nb"), shown([1] * 50, 10), shown(16**5000)
    ("'a\\\\nb'", '[1, 1, ...', 'a value too large to show')
    """
    try:
        text = visible_line(repr(value[: 2 * longest] if isinstance(value, str) else value))
    except (RecursionError, ValueError):  # nested without end; more digits than Python writes
        return "a value too large to show"
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def listed(names: Iterable[object], most: int = 12) -> str:
    """Names of a stranger in an error: the first, each cut, and how many more there are.

    >>> listed(["id", "x" * 100, "\\x1b"], 2)
    'id, xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx..., and 1 more'
    """
    told = [visible_line(str(name)[:80]) for name in names]
    cut = [name if len(name) <= 40 else f"{name[:37]}..." for name in told[:most]]
    return ", ".join([*cut, f"and {len(told) - most} more"] if len(told) > most else cut)


def _shown(found: re.Match[str]) -> str:
    code = ord(found.group())
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"

"""Foreign text inside Markdown and YAML, so that it shows as text and as nothing else. Knows no page and no card."""

import re
import unicodedata

_UNSEEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")  # controls, direction marks, half characters, line separators


def one_line(text: str) -> str:
    r"""The text on one line: white space joined, and what would not be seen, or would turn the line round, spelled out.

    >>> one_line("a\n---\nb"), one_line("x\u202ey")
    ('a --- b', 'x\\u202ey')
    """
    joined = " ".join(text.split())
    return "".join(
        _spelled(character) if unicodedata.category(character) in _UNSEEN else character for character in joined
    )


def code(text: str) -> str:
    """The text as a code span, in which Markdown and HTML mean nothing.

    >>> code("a`b"), code("<b>")
    ('``a`b``', '`<b>`')
    """
    line = one_line(text) or "(empty)"
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    inner = f" {line} " if line.startswith("`") or line.endswith("`") else line
    return f"{fence}{inner}{fence}"


def _spelled(character: str) -> str:
    point = ord(character)
    return f"\\u{point:04x}" if point <= 0xFFFF else f"\\U{point:08x}"

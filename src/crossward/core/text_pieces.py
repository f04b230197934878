"""A text cut into what a sentence translator can take, and put together again.

Code blocks, line breaks, indents and lines without a letter stay as they are. A line is one piece; a longer one is cut
behind sentences. Knows no translator: how long a piece is, the caller counts.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from crossward.core.text_parts import code_and_rest

_SENTENCE_END = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？।])\s*")
_UNSPACED = frozenset(("ja", "km", "lo", "my", "th", "zh"))  # no space between sentences, or none that is missed


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of a text; `verbatim` is not translated. `joined`: with the piece before it, it was one line."""

    text: str
    verbatim: bool
    joined: bool = False


def pieces_of(text: str, *, limit: int, length: Callable[[str], int]) -> list[Piece]:
    """The pieces, none longer than `limit` unless it is one sentence; `length` counts (tokens).

    >>> [piece.text for piece in pieces_of("Hi.\\n  - Go. Stop!", limit=4, length=len) if not piece.verbatim]
    ['Hi.', '- Go.', 'Stop!']
    """
    pieces: list[Piece] = []
    for is_code, part in code_and_rest(text):
        if is_code:
            pieces.append(Piece(text=part, verbatim=True))
            continue
        for line in re.split(r"(\n)", part):
            body = line.strip()
            if not any(char.isalpha() for char in body):
                pieces.append(Piece(text=line, verbatim=True))
                continue
            start = line.index(body)
            pieces.append(Piece(text=line[:start], verbatim=True))
            pieces += [
                Piece(text=sentences, verbatim=False, joined=k > 0)
                for k, sentences in enumerate(_cut(body, limit, length))
            ]
            pieces.append(Piece(text=line[start + len(body) :], verbatim=True))
    return [piece for piece in pieces if piece.text]


def put_together(pieces: Sequence[Piece], translations: Mapping[str, str], *, target: str) -> str:
    """The text of the pieces' translations, each under its piece's text."""
    space = "" if target in _UNSPACED else " "
    return "".join(
        piece.text if piece.verbatim else (space if piece.joined else "") + translations[piece.text] for piece in pieces
    )


def _cut(line: str, limit: int, length: Callable[[str], int]) -> Iterator[str]:
    """The line, or as many of its sentences at once as fit."""
    if length(line) <= limit:
        yield line
        return
    start = end = 0
    for stop in [*(found.start() for found in _SENTENCE_END.finditer(line)), len(line)]:
        if end > start and length(line[start:stop].strip()) > limit:
            yield line[start:end].strip()
            start = end
        end = stop
    if line[start:].strip():
        yield line[start:].strip()

"""The longest of many prompts in tokens, without tokenising all of them: a text has no more tokens than bytes.

Bytes of the decomposed text, as some tokenizers decompose first. Knows no limits.
"""

import unicodedata
from collections.abc import Iterable, Iterator
from itertools import islice

from crossward.engines.protocols import Advance, no_progress
from crossward.engines.tokens import ChatTokens

CHUNK = 4096  # texts that are looked at together, those of most bytes first
MARGIN = 8  # tokens that a text may have beside those of its bytes and its template: a space before it, say


def longest_prompt(
    tokens: ChatTokens, texts: Iterable[str], *, longest: int = 0, advance: Advance = no_progress
) -> int:
    """Tokens of the longest text with its template, or `longest` where none has more."""
    template = len(tokens.prompt_ids("a")) + MARGIN
    left = iter(texts)
    while chunk := list(islice(left, CHUNK)):
        for n_bytes, text in sorted(_sized(chunk), reverse=True):
            if n_bytes + template <= longest:
                break
            longest = max(longest, len(tokens.prompt_ids(text)))
        advance(len(chunk))
    return longest


def _sized(texts: Iterable[str]) -> Iterator[tuple[int, str]]:
    return ((len(unicodedata.normalize("NFKD", text).encode("utf-8", "surrogatepass")), text) for text in set(texts))

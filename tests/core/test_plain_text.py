"""Nothing that reaches the terminal through visible() can control it."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from crossward.core.plain_text import visible, visible_line

TURNING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}  # of UAX 9
ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))


@given(ANY_TEXT)
def test_no_control_character_and_no_turn_of_direction_is_left(text: str):
    shown = visible(text)
    for character in shown:
        assert character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")
        assert unicodedata.bidirectional(character) not in TURNING
    assert visible(shown) == shown
    shown.encode("utf-8")


def test_every_turning_character_of_unicode_is_shown():
    turning = [c for c in map(chr, range(0x110000)) if unicodedata.bidirectional(c) in TURNING]
    assert len(turning) == 9
    for character in turning:
        assert visible(f"a{character}b") == f"a\\u{ord(character):04x}b"


def test_one_line_is_one_line():
    assert visible_line("a\r\nb\u2028c").splitlines() == ["a␍␊b\\u2028c"]

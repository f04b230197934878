"""A text cut for a sentence translator is put together as it was, and code is never touched."""

from hypothesis import given
from hypothesis import strategies as st

from crossward.core.text_pieces import pieces_of, put_together

TEXT = "Fix this. Please!\n\n  1. run\n```\nprint('Hello.')\n```\n---\nIs it done? Tell me. Thanks."


def upper(text: str, limit: int, target: str = "es") -> str:
    pieces = pieces_of(text, limit=limit, length=lambda piece: len(piece.split()))
    return put_together(pieces, {piece.text: piece.text.upper() for piece in pieces}, target=target)


def test_layout_code_and_lines_without_letters_stay():
    assert upper(TEXT, 100) == (
        "FIX THIS. PLEASE!\n\n  1. RUN\n```\nprint('Hello.')\n```\n---\nIS IT DONE? TELL ME. THANKS."
    )


def test_long_lines_are_cut_behind_sentences_and_no_piece_is_longer_unless_it_is_one_sentence():
    pieces = pieces_of("One two. Three four. Five.\nSix seven eight nine.", limit=3, length=lambda x: len(x.split()))
    assert [piece.text for piece in pieces if not piece.verbatim] == [
        "One two.",
        "Three four. Five.",
        "Six seven eight nine.",
    ]
    assert upper("One two. Three four. Five.", 3) == "ONE TWO. THREE FOUR. FIVE."
    assert upper("One two. Three four. Five.", 3, "zh") == "ONE TWO.THREE FOUR. FIVE."
    chinese = pieces_of("我来了。你呢？好", limit=4, length=len)
    assert [piece.text for piece in chinese] == ["我来了。", "你呢？好"]


@given(st.text(alphabet="aB. \n`~!?。x1", max_size=60), st.integers(1, 6))
def test_the_identity_translator_changes_nothing_but_spaces_between_sentences(text: str, limit: int):
    pieces = pieces_of(text, limit=limit, length=lambda piece: len(piece.split()))
    joined = put_together(pieces, {piece.text: piece.text for piece in pieces}, target="es")
    assert joined.split() == text.split() or "。" in text
    if not any(piece.joined for piece in pieces):
        assert joined == text

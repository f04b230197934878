"""What must survive a translation is found in prompts as people write them, and nothing else is."""

import pytest

from crossward.core.text_parts import code_and_rest, lost_numbers, n_bracketed, parts_of


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("Explain:\n```python\nx = 1\n```\nThanks", ["```python\nx = 1\n```"]),
        ("Explain ```x = 1``` and ```y```", ["```x = 1```", "```y```"]),
        ("~~~\na\n~~~\n````\n```\nb\n```\n````", ["~~~\na\n~~~", "````\n```\nb\n```\n````"]),
        ("Go on:\n```\nnever closed\n\nstill code", ["```\nnever closed\n\nstill code"]),
        ("Put it between ``` signs.", []),
        ("`x` and ``y``", []),
    ],
)
def test_fenced_blocks(text: str, blocks: list[str]):
    assert list(parts_of(text).code_blocks) == blocks
    pieces = list(code_and_rest(text))
    assert "".join(piece for _, piece in pieces) == text
    assert [piece.strip() for is_code, piece in pieces if is_code] == blocks


def test_inline_code_stays_within_a_line_and_keeps_its_backticks():
    assert parts_of("Use `a b` or ``c`d``, not ` this\nline `.").inline_code == ("`a b`", "``c`d``")


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("See https://a.org/b?c=1&d=(e). Or www.x.de!", ["https://a.org/b?c=1&d=(e", "www.x.de"]),
        ("请看https://a.org/b。谢谢", ["https://a.org/b"]),
        ("Write to a.b+c@d-e.org, or a@b.", ["a.b+c@d-e.org"]),
    ],
)
def test_addresses_end_where_the_sentence_goes_on(text: str, addresses: list[str]):
    assert list(parts_of(text).addresses) == addresses


def test_placeholders_of_many_kinds_and_what_only_looks_like_one():
    text = 'Dear {name}, {{ user.id }} ${HOME} $USER %s %d %(x)s %1$s %.2f <br/> </b> <a href="u v">'
    assert list(parts_of(text).placeholders) == [
        "{name}", "{{ user.id }}", "${HOME}", "$USER", "%s", "%d", "%(x)s", "%1$s", "%.2f", "<br/>", "</b>",
        '<a href="u v">',
    ]  # fmt: skip
    for plain in ("It costs $5 or 100% discount", "50% sure, 5 %", '{"a": 1}', "a < b and c > d", "<your name here>"):
        assert parts_of(plain).placeholders == (), plain


def test_fields_in_brackets_are_counted_whatever_their_words():
    text = "Dear [NAME], I am [INSERT X] and [your job], see [this](http://a.b)."
    assert parts_of(text).brackets == 2
    assert n_bracketed("Querido [NOMBRE], soy [INSERTE X] y [su trabajo], vea [esto](http://a.b).") == 3


def test_prose_is_what_is_left():
    prose = parts_of("Mail `x` to a@b.org or {you}: ```\ncode\n``` now").prose
    assert prose.split() == ["Mail", "to", "or", ":", "now"]


@pytest.mark.parametrize(
    ("source", "translation"),
    [
        ("1,234.50 and 1,234,567", "1.234,50 und 1.234.567"),
        ("12,34,567 people", "1 234 567 personnes"),
        ("1,234", "1234"),
        ("3.14", "3,14"),
        ("2024-01-05 at 10:30", "05.01.2024, 10.30"),
        ("version 1.2.3", "versión 1.2.3"),
        ("1,2,3", "1, 2, 3"),
        ("in 1999", "১৯৯৯ সালে"),
        ("12 and 3.5", "١٢ و ٣٫٥"),
        ("15 of 60", "๑๕ จาก ๖๐"),
        ("the 19th and the 4th", "siglo XIX, IVe"),
        ("2 or 3", "二或三"),
        ("15,000 and 200 million", "1.5万 200"),
        ("05", "5"),
        ("no number", "12"),
    ],
)
def test_numbers_are_found_in_any_writing(source: str, translation: str):
    assert lost_numbers(source, translation) == []


@pytest.mark.parametrize(
    ("source", "translation", "lost"),
    [
        ("3 of 10", "tres de 10", ["3"]),
        ("1 and 1", "1 y uno", ["1"]),
        ("1,234.5", "1.234", ["1,234.5"]),
        ("10:30", "10", ["30"]),
        ("1.5", "15", ["1.5"]),
        ("21", "siglo XX", ["21"]),
        ("1,234", "1.5", ["1,234"]),
    ],
)
def test_lost_numbers_are_named(source: str, translation: str, lost: list[str]):
    assert lost_numbers(source, translation) == lost


def test_a_run_of_digits_without_end_is_compared_too():
    """A translation that loops: Python turns no more than 4,300 digits into a number."""
    loop = "7" * 9000
    assert lost_numbers("Name 3", loop) == ["3"]
    assert lost_numbers(f"10:0{loop}", f"10.{loop}") == []

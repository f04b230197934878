"""Foreign text in Markdown and YAML: one visible line, a span that nothing ends, front matter that reads back."""

import unicodedata

import yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from crossward.core.plain_markdown import code, one_line
from crossward.pipeline.exports.cards import front_matter, table

NASTY = st.text(alphabet=st.sampled_from("ab`|<>[]()*_\\\n\r\t -#:!&\u202e\u200b\x00\x85\u2028é"), max_size=30)


@given(text=NASTY)
def test_one_line_is_one_line_that_is_seen(text: str):
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    assert all(unicodedata.category(character) not in ("Cc", "Cf", "Zl", "Zp") for character in line)
    assert one_line(line) == line


@given(text=NASTY)
def test_a_span_is_rendered_as_its_text_alone(text: str):
    (paragraph, inline, _) = MarkdownIt().parse(f"x {code(text)} y")
    assert paragraph.type == "paragraph_open"
    before, span, after = inline.children or []
    assert (before.content, span.type, after.content) == ("x ", "code_inline", " y")
    assert span.content == (one_line(text) or "(empty)")


@given(text=NASTY)
def test_a_cell_is_one_cell_and_shows_its_text(text: str):
    tokens = MarkdownIt().enable("table").parse(table(["a", "b"], [[code(text), 1]]))
    cells = [token for token in tokens if token.type == "inline"]
    assert [cell.content for cell in cells[:2]] == ["a", "b"]
    assert len(cells) == 4
    (span,) = cells[2].children or []
    assert (span.type, span.content) == ("code_inline", one_line(text) or "(empty)")


@given(key=NASTY, value=NASTY)
def test_front_matter_ends_where_it_should_and_reads_back(key: str, value: str):
    head = front_matter({"known": [value], "key": key})
    first, *lines, last, end = head.split("\n")
    assert (first, last, end) == ("---", "---", "")
    assert not any(line.startswith("---") for line in lines)
    assert yaml.safe_load("\n".join(lines)) == {"known": [one_line(value)], "key": one_line(key)}

"""A report as Markdown: its words and tables, for a terminal, a diff or an issue. Charts are left to the page."""

from crossward.core.plain_text import visible
from crossward.pipeline.report.blocks import (
    Advice,
    Block,
    Browser,
    Bullets,
    Code,
    Figure,
    Report,
    Section,
    Table,
    Words,
)
from crossward.pipeline.report.tables import escaped, table


def markdown(report: Report) -> str:
    """The whole report; the pair browser is named only."""
    return "\n\n".join([f"# {_plain(report.title)}", *map(section_markdown, report.sections)]) + "\n"


def section_markdown(section: Section) -> str:
    """One section with its heading."""
    return "\n\n".join([f"## {section.title}", *(text for block in section.blocks if (text := _block(block)))])


def _block(block: Block) -> str:
    match block:
        case Words():
            return _words(block)
        case Bullets():
            return "\n".join(f"- {_words(item)}" for item in block.items)
        case Table():
            return _table(block)
        case Figure():
            return "\n\n".join(part for part in (_table(block.table, block.chart.title), _plain(block.note)) if part)
        case Advice():
            told = f"{block.seen}. Why it matters: {block.why}. To try: {block.advice}. More: {block.page}"
            return f"**{_plain(block.title)}**: {_plain(told)}"
        case Code():
            fence = "`" * max(3, 1 + max((len(run) for run in _backticks(block.text)), default=0))
            return f"{fence}{block.language}\n{visible(block.text)}\n{fence}"
        case Browser():
            return f"{_plain(block.note)} They are in report.html."


def _table(found: Table, caption: str = "") -> str:
    rows = [
        [f"**{cell}**" if k in found.loud and column == 1 else cell for column, cell in enumerate(row)]
        for k, row in enumerate(found.rows)
    ]
    title = found.caption or caption
    return (f"{_plain(title)}:\n\n" if title else "") + table(found.header, rows)


def _words(words: Words) -> str:
    return f"**{_plain(words.text)}**" if words.tone == "bad" else _plain(words.text)


def _plain(text: str) -> str:
    """Text on one line that Markdown cannot take for HTML, a link or a picture."""
    return escaped(text)


def _backticks(text: str) -> list[str]:
    runs, length = [], 0
    for character in text + " ":
        if character == "`":
            length += 1
        elif length:
            runs.append("`" * length)
            length = 0
    return runs

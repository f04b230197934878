"""Cells as text, and Markdown tables of them."""

from collections.abc import Iterable, Sequence

from crossward.core.plain_text import visible_line


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; numbers to the right."""
    body = [[escaped(cell(value)) for value in row] for row in rows]
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [[*map(escaped, header)], rule, *body])


def cell(value: object) -> str:
    """A value as a cell: two decimals, three digits where it is small, a dash where there is none."""
    match value:
        case None:
            return "–"
        case float():
            return f"{value:.3g}" if abs(value) < 0.1 and value else f"{value:.2f}"
        case dict():
            return ", ".join(f"{key} {count}" for key, count in value.items()) or "none"
        case _:
            return str(value)


def escaped(text: str) -> str:
    """Text on one line that Markdown cannot take for HTML, a link, a picture, or the end of a cell."""
    text = visible_line(text.replace("\n", " "))
    return text.replace("|", "\\|").replace("<", "&lt;").replace("](", "]\\(")

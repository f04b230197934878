"""Markdown tables: cells that text cannot break, numbers to the right."""

from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; numbers to the right."""
    body = [[cell(value) for value in row] for row in rows]
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [list(header), rule, *body])


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
            return str(value).replace("|", "\\|").replace("\n", " ")

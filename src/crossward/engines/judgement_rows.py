"""A judge's answer as the row that is kept of it: the verdict, what it was read from, and the words. For all judges."""

from typing import Any

from crossward.core.judging import Answer


def row_of(answer: Answer, *, text: str, name: str) -> dict[str, Any]:
    """An answer as a row; `text` is what the judge wrote, `name` of which question."""
    return {
        "question": name,
        "second_better": answer.second_better,
        "source": answer.source,
        "first": answer.first,
        "second": answer.second,
        "text": text.encode("utf-8", "replace").decode("utf-8")[:200],
    }


def answer_of(row: dict[str, Any]) -> Answer:
    """The answer of a row."""
    return Answer(second_better=row["second_better"], source=row["source"], first=row["first"], second=row["second"])

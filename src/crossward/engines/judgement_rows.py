"""A judge's answer as the row that is kept of it: the verdict, what it was read from, and the words. For all judges."""

from typing import Any, cast, get_args

from crossward.core.judging import Answer, Source


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


def answer_of(row: dict[str, Any] | None) -> Answer | None:
    """The answer of a row; None where there is none, or it is not what was written: the question is asked again."""
    match row:
        case {"second_better": float() | int() as better, "source": str() as source, "first": first, "second": second}:
            shares = [share for share in (better, first, second) if share is not None]
            whole = all(isinstance(share, float | int) and not isinstance(share, bool) for share in shares)
            if whole and source in get_args(Source) and all(0 <= share <= 1 for share in shares):
                return Answer(second_better=better, source=cast(Source, source), first=first, second=second)
    return None

"""Where in a response its log-ratio lies: tokens and their terms, one line a response, of a few prompts of a language.

The rows are joined to groups by prompt id and place of the response.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from crossward.store.json_lines import read_json_lines, write_json_lines


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTerms:
    """The pieces of a response's text, and log π − log π_ref of each (nats); the end of turn is an empty piece."""

    id: str
    place: int
    pieces: tuple[str, ...]
    log_ratios: tuple[float, ...]


_TERMS = TypeAdapter(TokenTerms)


def write_token_terms(path: Path, rows: Iterable[TokenTerms]) -> None:
    """Write them in their order."""
    write_json_lines(
        path,
        ({"id": r.id, "place": r.place, "pieces": list(r.pieces), "log_ratios": list(r.log_ratios)} for r in rows),
    )


def read_token_terms(path: Path) -> dict[tuple[str, int], TokenTerms]:
    """By prompt id and place; none where there is no file. Raises ValueError for a line that holds something else."""
    if not path.exists():
        return {}
    found: dict[tuple[str, int], TokenTerms] = {}
    for number, row in read_json_lines(path):
        try:
            terms = _TERMS.validate_python(row)
        except ValidationError:
            terms = None
        if terms is None or len(terms.pieces) != len(terms.log_ratios):
            raise ValueError(f"{path}, line {number} holds no tokens with their terms: delete it and run again")
        found[terms.id, terms.place] = terms
    return found

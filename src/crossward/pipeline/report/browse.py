"""The groups that a report lets a person look through, as plain values: prompts by lot until their room is used.

The lot falls on ids, so a prompt is there in every language and iteration, or in none. Long texts are cut, which is
said in them. Everything is data: nothing here is HTML.
"""

import hashlib
import json
import math
from typing import Any

from crossward.core.plain_text import visible, visible_line
from crossward.core.records import PreferencePair, Ranked, RankedResponse, ScoredPrompt, ScoredResponse, Skipped
from crossward.pipeline.report.slices import Seen, Slice
from crossward.store.token_file import TokenTerms

ROOM_BYTES = 12_000_000  # of the page's JSON for all groups
LONGEST_TEXT = 6_000  # characters of one text
MOST = 6_000  # groups: more are no longer quick to search
Terms = dict[tuple[str, int], TokenTerms]


class Browsed:
    """Collects groups as slices pass by; `n_slices` share the room equally."""

    def __init__(self, n_slices: int, *, room_bytes: int = ROOM_BYTES, most: int = MOST) -> None:
        self._room = room_bytes // max(1, n_slices)
        self._most = most // max(1, n_slices)
        self._groups: list[dict[str, Any]] = []
        self._passed = 0

    def add(self, found: Slice, terms: Terms) -> None:
        """Take what fits of a slice, in the order of the lot; kept in the slice's own order."""
        self._passed += len(found.seen)
        drawn = sorted(range(len(found.seen)), key=lambda k: _lot(found.seen[k].prompt.id))
        taken: dict[int, dict[str, Any]] = {}
        room = self._room
        for k in drawn[: self._most]:
            group = as_values(found.iteration, found.language, found.seen[k], terms)
            room -= len(json.dumps(group, ensure_ascii=False).encode("utf-8", "surrogatepass"))
            if room < 0:
                break
            taken[k] = group
        self._groups += [taken[k] for k in sorted(taken)]

    @property
    def groups(self) -> tuple[dict[str, Any], ...]:
        return tuple(self._groups)

    def note(self, *, whole: bool) -> str:
        """How many are there, of how many, chosen how."""
        if len(self._groups) == self._passed and whole:
            return f"All {self._passed} groups (prompts × languages × iterations) are here."
        of = f"{self._passed}" if whole else f"the first {self._passed}"
        return (
            f"{len(self._groups)} of {of} groups are here: prompts by lot, the same ones in every language and "
            "iteration where they fit. crossward show RUN --prompt ID shows any."
        )


def as_values(iteration: int, language: str, seen: Seen, terms: Terms) -> dict[str, Any]:
    """One group with short keys; the page's script knows them (templates/report/report.js)."""
    prompt, outcome = seen.prompt, seen.outcome
    group: dict[str, Any] = {
        "i": iteration,
        "l": language,
        "id": visible_line(prompt.id),
        "p": _cut(prompt.instruction),
    }
    if language != "en":
        group["e"] = _cut(prompt.english_instruction)
    match outcome:
        case PreferencePair():
            group |= {"o": "pair", "m": _rounded(outcome.margin), "a": _rounded(outcome.alpha)}
        case Skipped():
            group["o"] = outcome.reason
        case None:
            group["o"] = "not paired yet"
    if seen.ranked is None:
        sides = (
            (("chosen", outcome.chosen), ("rejected", outcome.rejected)) if isinstance(outcome, PreferencePair) else ()
        )
        group["r"] = [_response(side, k, mark, None) for k, (mark, side) in enumerate(sides)]
        return group
    group |= _judged(seen.ranked)
    marks: dict[RankedResponse, str] = {}
    if isinstance(outcome, PreferencePair):
        marks = {outcome.rejected: "rejected", outcome.chosen: "chosen"}
    ordered = sorted(enumerate(seen.ranked.responses), key=lambda item: -item[1].score)
    group["r"] = [
        _response(response, place, marks.pop(response, ""), terms.get((prompt.id, place)))
        for place, response in ordered
    ]
    return group


def _judged(ranked: Ranked) -> dict[str, Any]:
    by = ranked.view if isinstance(ranked, ScoredPrompt) else ranked.rated_by
    line = ranked.judged_under.removesuffix(ranked.prompt.english_instruction).strip()
    if line == ranked.judged_under.strip():  # not the English twin: the whole is needed, unless it is the prompt
        line = "" if ranked.judged_under == ranked.prompt.instruction else ranked.judged_under
    return {"v": by, "u": _cut(line)}


def _response(response: RankedResponse, place: int, mark: str, terms: TokenTerms | None) -> dict[str, Any]:
    own = response.response
    found: dict[str, Any] = {"t": _cut(own.text), "s": _rounded(response.score), "c": response.n_chars, "n": place + 1}
    if mark:
        found["k"] = mark
    if own.finish_reason != "stop":
        found["f"] = own.finish_reason
    if response.n_response_tokens:
        found["w"] = response.n_response_tokens
    if isinstance(response, ScoredResponse):
        found |= {"lp": _rounded(response.policy_logprob), "lr": _rounded(response.reference_logprob)}
        if response.penalty:
            found["x"] = _rounded(response.penalty)
        if response.judged is not None:
            found["j"] = _cut(response.judged.text)
    judged = response.judged if isinstance(response, ScoredResponse) and response.judged is not None else own
    if terms is not None and len(judged.text) <= LONGEST_TEXT:  # of the text that was judged
        found["g"] = [
            [visible(piece), _rounded(value)] for piece, value in zip(terms.pieces, terms.log_ratios, strict=True)
        ]
    return found


def _cut(text: str) -> str:
    if len(text) <= LONGEST_TEXT:
        return visible(text)
    return f"{visible(text[:LONGEST_TEXT])} […{len(text) - LONGEST_TEXT} more characters]"


def _rounded(value: float) -> float | None:
    """Short; None for what is no number, which JSON cannot say."""
    return float(f"{value:.5g}") if math.isfinite(value) else None


def _lot(prompt_id: str) -> str:
    return hashlib.sha256(prompt_id.encode("utf-8", "surrogatepass")).hexdigest()

"""The reference's log-probabilities for training: pairs that do not fit are left out, told and counted."""

from collections.abc import Sequence

import pytest

from crossward.core.records import Response, ResponseLogprob
from crossward.engines.protocols import Advance, Judged, no_progress
from crossward.pipeline.progress import Silent
from crossward.pipeline.training import counting_left_out, with_reference


class Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


class ShortContext:
    """Scores texts of at most three characters."""

    def score(
        self, groups: Sequence[Judged], *, per_token: bool = False, advance: Advance = no_progress
    ) -> list[tuple[ResponseLogprob | None, ...]]:
        return [tuple(self._one(response.text) for response in group.responses) for group in groups]

    def _one(self, text: str) -> ResponseLogprob | None:
        return ResponseLogprob(logprob=-float(len(text)), n_tokens=1) if len(text) <= 3 else None

    def close(self) -> None:
        return None


def pair(chosen: str, rejected: str) -> Judged:
    return Judged(instruction="Di.", responses=(Response(text=chosen), Response(text=rejected)))


def test_pairs_that_do_not_fit_are_left_out_and_told():
    heard = Heard()
    ready = with_reference(
        [pair("a", "bb"), pair("long", "b"), pair("a", "long")], ShortContext(), heard, title="iteration-1/train: "
    )
    assert [(p.chosen.text, p.reference_chosen_logprob, p.reference_rejected_logprob) for p in ready] == [("a", -1, -2)]
    assert heard.lines == ["iteration-1/train: 2 of 3 pairs are too long for the reference's context and are left out"]
    assert counting_left_out({"pairs": 1, "dropped_too_long": 3}, 2) == {"pairs": 1, "dropped_too_long": 5}


def test_nothing_left_is_an_error():
    with pytest.raises(ValueError, match="1 of 1 pairs are too long for the reference's context: none is left"):
        with_reference([pair("long", "b")], ShortContext(), Heard())

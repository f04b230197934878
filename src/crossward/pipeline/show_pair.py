"""A pair as it was made: chosen and rejected with scores, lengths and their ranks among all N responses."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossward.core.records import PreferencePair, RankedResponse, SampledPrompt
from crossward.pipeline.show import Life, lives, plain_pair, plain_place, plain_response


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFound:
    """A pair of a run; ranks count from 1, the best by the score alone, of `n` responses (None: nothing was scored)."""

    life: Life
    pair: PreferencePair
    chosen_rank: int | None
    rejected_rank: int | None
    n: int

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        sides = (("chosen", self.pair.chosen, self.chosen_rank), ("rejected", self.pair.rejected, self.rejected_rank))
        return {
            **plain_place(self.life),
            **plain_pair(self.pair),
            "n": self.n,
            **{name: plain_response(side) | {"rank": rank} for name, side, rank in sides},
        }

    def rows(self) -> list[tuple[str, str, str]]:
        """What stands beside what: a name, then the chosen's and the rejected's."""
        chosen, rejected = self.pair.chosen, self.pair.rejected
        rows = [
            ("score", f"{chosen.score:+.3f}", f"{rejected.score:+.3f}"),
            ("score − α·length", f"{self.pair.chosen_score:+.3f}", f"{self.pair.rejected_score:+.3f}"),
        ]
        if self.chosen_rank is not None:
            rows.append(("rank by score", f"{self.chosen_rank} of {self.n}", f"{self.rejected_rank} of {self.n}"))
        rows += [
            ("length", _length(chosen), _length(rejected)),
            ("ended", _ended(chosen), _ended(rejected)),
            ("response", chosen.response.text, rejected.response.text),
        ]
        return rows


def pairs_of(run: Path, prompt_id: str, language: str | None, iteration: int | None) -> list[PairFound]:
    """The pairs of a prompt. Raises ValueError where there is none, with the reason of each that was skipped."""
    found: list[PairFound] = []
    reasons: list[str] = []
    for life in lives(run, prompt_id, language, iteration):
        for outcome in life.outcomes:
            if isinstance(outcome, PreferencePair):
                found.append(_found(life, outcome))
            else:
                reasons.append(f"iteration {life.iteration}, {life.prompt.language}: {outcome.reason}")
    if not found:
        told = "; ".join(reasons) or "it is not paired yet"
        raise ValueError(f"{run}: the prompt {prompt_id!r} has no pair: {told}")
    return found


def _found(life: Life, pair: PreferencePair) -> PairFound:
    group = life.group
    if isinstance(group, SampledPrompt):  # lidr: pairs by direction have no score to rank by
        return PairFound(life=life, pair=pair, chosen_rank=None, rejected_rank=None, n=len(group.responses))
    scores = [response.score for response in group.responses]

    def rank(response: RankedResponse) -> int:
        return 1 + sum(score > response.score for score in scores)

    return PairFound(
        life=life, pair=pair, chosen_rank=rank(pair.chosen), rejected_rank=rank(pair.rejected), n=len(scores)
    )


def _length(response: RankedResponse) -> str:
    tokens = f", {response.n_response_tokens} tokens" if response.n_response_tokens else ""
    return f"{response.n_chars} characters{tokens}"


def _ended(response: RankedResponse) -> str:
    return "by itself" if response.response.finish_reason == "stop" else "cut"

"""The score stage's pieces: a shard's log-probabilities under the policy, then under the reference, then its rows.

Each model is a step of its own (engines/workers.py), so that where there are several processes neither waits for the
other's weights; every step reads the shard itself, and only numbers go from one to the next.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from crossward.core.instructions import Steering
from crossward.core.records import ResponseLogprob, SampledPrompt, ScoredPrompt, View
from crossward.core.surprisal import SurprisalPenalty
from crossward.engines.protocols import Advance, Scorer, Work
from crossward.engines.workers import Piece, Step
from crossward.pipeline.noise import OpenScorer
from crossward.pipeline.stage_files import stream_translated
from crossward.pipeline.streams import scored_groups, to_judge, windows
from crossward.store import tables
from crossward.store.run_dir import StageDir

Logprobs = Sequence[Sequence[ResponseLogprob | None]]  # of each group of a shard, of each response


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """Under which instruction the responses of `sampled` are judged; `translated` holds their English translations."""

    sampled: StageDir
    view: View
    steering: Steering
    translated: StageDir | None = None
    penalty: SurprisalPenalty | None = None

    def windows(self, piece: Piece) -> Iterator[tuple[list[SampledPrompt], list[Any]]]:
        """Groups of a shard with what is judged of each, in the windows that are scored together."""
        translations: Iterable[SampledPrompt] = ()
        if self.translated is not None:
            translations = stream_translated(self.translated, self.sampled, piece.made_from)
        translated = windows(translations)
        for groups in windows(tables.stream_sampled(piece.made_from)):
            inner = None if self.translated is None else next(translated, [])
            yield groups, to_judge(groups, self.view, self.steering, inner)

    def rows(self, piece: Piece, by_policy: Logprobs, by_reference: Logprobs) -> Iterator[ScoredPrompt]:
        """The shard's groups with what both models gave them."""
        ours, theirs = iter(by_policy), iter(by_reference)
        for groups, asked in self.windows(piece):
            own, base = ([next(values) for _ in groups] for values in (ours, theirs))
            yield from scored_groups(groups, asked, own, base, view=self.view, penalty=self.penalty)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What the steps so far gave to a shard: the policy's values, behind them the reference's; and their work."""

    values: tuple[Logprobs, ...] = ()
    work: tuple[Work, ...] = ()


def score_steps(judging: Judging, open_scorers: tuple[OpenScorer, OpenScorer]) -> list[Step]:
    """Policy and reference, each a step; surprisal reads the reference's single tokens."""
    tokens = (False, judging.penalty is not None)
    return [
        Step(name=name, open=opened, do=partial(_score_piece, judging, per_token))
        for name, opened, per_token in zip(("policy", "reference"), open_scorers, tokens, strict=True)
    ]


def _score_piece(
    judging: Judging, per_token: bool, scorer: Scorer, piece: Piece, before: Scores | None, advance: Advance
) -> Scores:
    found: list[tuple[ResponseLogprob | None, ...]] = []
    was = replace(scorer.work)
    for _, asked in judging.windows(piece):
        found += scorer.score([judged for judged, _ in asked], per_token=per_token, advance=advance)
    done = before or Scores()
    return Scores(values=(*done.values, found), work=(*done.work, scorer.work.since(was)))

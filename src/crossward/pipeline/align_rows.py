"""From what a file of preferences holds to what a trainer takes: what fits, in which order, with log π_ref beside.

The reference is π_I itself, scored once before training, as in a run. For KTO every answer also gets an answer to
another prompt of its micro-batch, from which the loss estimates how far the policy has moved (core/direct_losses.py).
"""

import random
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from crossward.core.records import Response
from crossward.engines.protocols import Judged, Scorer, TrainingAnswer, TrainingPair
from crossward.engines.tokens import ChatTokens
from crossward.pipeline.progress import Progress
from crossward.store.pair_rows import PairRow
from crossward.store.preference_file import AnswerRow

Rows = list[PairRow] | list[AnswerRow]


def as_answers(pairs: Sequence[PairRow]) -> list[AnswerRow]:
    """Each pair as two answers: the chosen one desirable, the rejected one not."""
    return [
        AnswerRow(
            id=pair.id,
            language=pair.language,
            instruction=pair.instruction,
            response=response,
            desirable=desirable,
        )
        for pair in pairs
        for response, desirable in ((pair.chosen, True), (pair.rejected, False))
    ]


def with_own_ids(
    rows: Sequence[PairRow] | Sequence[AnswerRow], tokens: ChatTokens, progress: Progress
) -> list[PairRow] | list[AnswerRow]:
    """The rows without the token ids that are another tokenizer's: those texts are encoded anew, and that is said."""
    own: list[Any] = []
    for row in rows:
        sides = ("chosen", "rejected") if isinstance(row, PairRow) else ("response",)
        own.append(replace(row, **{side: tokens.own(getattr(row, side)) for side in sides}))
    if n := sum(before != after for before, after in zip(rows, own, strict=True)):
        progress.say(f"{n} of {len(own)} rows hold token ids of another tokenizer: their texts are encoded anew")
    return own


def fitting(
    rows: Sequence[PairRow] | Sequence[AnswerRow], tokens: ChatTokens, *, max_length: int, positions: int | None
) -> tuple[Rows, Counter[str]]:
    """The rows of which prompt and every answer fit into `max_length` and into the model, and what was left out why.

    `positions` is how many tokens the model takes, where that is known.
    """
    left_out: Counter[str] = Counter()

    def reason(row: PairRow | AnswerRow) -> str | None:
        sides = (row.chosen, row.rejected) if isinstance(row, PairRow) else (row.response,)
        try:
            longest = max(len(tokens.response_ids(side)) for side in sides)
        except ValueError:  # tokens.py refuses a text that comes out as a special token
            if any(side.token_ids is not None for side in sides):
                raise
            return "special token in an answer"
        total = len(tokens.prompt_ids(row.instruction)) + longest
        if total > max_length:
            return "longer than max_length"
        return "longer than the model's context" if positions is not None and total > positions else None

    kept = []
    for row in rows:
        why = reason(row)
        if why is None:
            kept.append(row)
        else:
            left_out[why] += 1
    return kept, left_out


def pairs_with_reference(rows: Sequence[PairRow], reference: Scorer | None, progress: Progress) -> list[TrainingPair]:
    """Pairs for DPO, with log π_ref of both sides; without a reference (SimPO, ORPO read none) 0 stands there.

    Closes the reference.
    """
    if reference is None:
        scores = [(0.0, 0.0)] * len(rows)
    else:
        scores = _scored([(row.instruction, row.chosen, row.rejected, row.id) for row in rows], reference, progress)
    return [
        TrainingPair(
            instruction=row.instruction,
            chosen=row.chosen,
            rejected=row.rejected,
            reference_chosen_logprob=chosen,
            reference_rejected_logprob=rejected,
        )
        for row, (chosen, rejected) in zip(rows, scores, strict=True)
    ]


def answers_with_reference(
    rows: Sequence[AnswerRow],
    reference: Scorer,
    tokens: ChatTokens,
    *,
    micro_batch_size: int,
    longest: int,
    seed: int,
    progress: Progress,
) -> list[TrainingAnswer]:
    """Answers for KTO, shuffled once, in the order in which every epoch takes them. Closes the reference.

    A mismatched answer that would make more than `longest` tokens is cut to them: it is not trained on, and what is
    left of it tells of the policy's movement as well as the whole.
    """
    ordered = list(rows)
    random.Random(seed).shuffle(ordered)
    mismatched = [
        _cut(ordered[other].response, longest - len(tokens.prompt_ids(row.instruction)), tokens)
        for row, other in zip(ordered, partners(len(ordered), micro_batch_size), strict=True)
    ]
    asked = [(row.instruction, row.response, other, row.id) for row, other in zip(ordered, mismatched, strict=True)]
    return [
        TrainingAnswer(
            instruction=row.instruction,
            response=row.response,
            desirable=row.desirable,
            mismatched=other,
            reference_logprob=own,
            mismatched_reference_logprob=others,
        )
        for row, other, (own, others) in zip(ordered, mismatched, _scored(asked, reference, progress), strict=True)
    ]


def partners(n: int, micro_batch_size: int) -> list[int]:
    """Whose answer stands for the mismatched one of each row: that of the row before, in a ring within a micro-batch.

    A last micro-batch of one row takes the row before it.

    >>> partners(5, 2)
    [1, 0, 3, 2, 3]
    >>> partners(4, 4)
    [3, 0, 1, 2]
    """
    found: list[int] = []
    for start in range(0, n, micro_batch_size):
        size = min(micro_batch_size, n - start)
        found += [start + (place - 1) % size for place in range(size)] if size > 1 else [max(start - 1, 0)]
    return found


def _cut(response: Response, room: int, tokens: ChatTokens) -> Response:
    ids = tokens.response_ids(response)
    return response if len(ids) <= room else replace(response, token_ids=ids[:room], finish_reason="length")


def _scored(
    asked: Sequence[tuple[str, Response, Response, str]], reference: Scorer, progress: Progress
) -> list[tuple[float, float]]:
    """log π_ref of two responses to each instruction; everything is known to fit."""
    groups = [Judged(instruction=text, responses=(one, two), name=f"row {id!r}") for text, one, two, id in asked]
    with closing(reference), progress.task("reference log-probabilities", 2 * len(groups)) as advance:
        scored = reference.score(groups, advance=advance)
    found: list[tuple[float, float]] = []
    for group, (one, two) in zip(groups, scored, strict=True):
        assert one is not None, f"{group.name} does not fit into the model"
        assert two is not None, f"{group.name} does not fit into the model"
        found.append((one.logprob, two.logprob))
    return found

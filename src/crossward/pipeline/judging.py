"""Two answers to every instruction become verdicts: asks the judge, in one order or both, and counts what it could not.

What a verdict is made of stands beside it, and so does why there is none. A question that was answered before is read
from the journal (store/keyed_lines.py); one that failed is asked again. Nothing here knows a server or a statistic.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from crossward.core.judging import (
    Answer,
    Comparison,
    NoAnswer,
    Order,
    PairTemplate,
    Question,
    estimated_tokens,
    orders,
)
from crossward.core.verdicts import Verdict
from crossward.engines.protocols import Judge
from crossward.pipeline.progress import Progress

MANY = 20  # questions before a share of them is told as a bias
LEAST_FIRST = 0.25  # shares of first-shown answers from here to 1 minus it are not told
LEAST_MASS = 0.5
VerdictRow = tuple[Verdict, Mapping[str, Any]]


@dataclass(slots=True, kw_only=True)
class JudgeTally:
    """What a judge did with the comparisons of one model in one language.

    Of `n`, `nulls` by reason have no verdict. `first` of `asked` questions were decided for the answer shown first
    (ties half): half where the judge has no bias of position. `mass` sums the probability of both names, near
    1 where the judge does what it is asked. `disagreed`: each of both orders named another answer.
    """

    n: int = 0
    nulls: Counter[str] = field(default_factory=Counter)
    why: str = ""
    asked: int = 0
    first: float = 0.0
    mass: float = 0.0
    letters: int = 0
    equal: int = 0
    both: int = 0
    disagreed: int = 0

    def counts(self) -> dict[str, Any]:
        """As plain values; shares 0 to 1, None of nothing."""
        return {
            "n": self.n,
            "n_null": sum(self.nulls.values()),
            "nulls": dict(sorted(self.nulls.items())),
            "first_shown_preferred": round(self.first / self.asked, 4) if self.asked else None,
            "named_mass": round(self.mass / (self.asked - self.letters), 4) if self.asked > self.letters else None,
            "letters_only": self.letters,
            "equal_answers": self.equal,
            "orders_disagreed": round(self.disagreed / self.both, 4) if self.both else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Verdicts in the order of the comparisons, with what they are made of, and counts by (language, model)."""

    rows: tuple[VerdictRow, ...]
    tallies: Mapping[tuple[str, str], JudgeTally]

    @property
    def verdicts(self) -> list[Verdict]:
        return [verdict for verdict, _ in self.rows]


def questions_of(
    comparisons: Sequence[Comparison], template: PairTemplate, *, order: Order, seed: int
) -> dict[tuple[int, bool], Question]:
    """Every question by comparison and by whether the model's answer is shown first. Equal answers need none."""
    return {
        (index, model_first): Question(
            messages=template.render(comparison, model_first=model_first),
            name=f"instruction {comparison.id!r} ({comparison.language}, {comparison.model})",
        )
        for index, comparison in enumerate(comparisons)
        if comparison.model_answer != comparison.baseline_answer
        for model_first in orders(comparison.instruction, order, seed)
    }


def estimate(questions: Mapping[Any, Question]) -> int:
    """About how many tokens the questions have together (core/judging.estimated_tokens)."""
    return sum(estimated_tokens(question.messages) for question in questions.values())


def judge_comparisons(
    comparisons: Sequence[Comparison],
    judge: Judge,
    template: PairTemplate,
    *,
    order: Order = "seeded",
    seed: int = 0,
    progress: Progress,
) -> Judged:
    """A verdict for every comparison: null, with its reason, where the judge gave none."""
    questions = questions_of(comparisons, template, order=order, seed=seed)
    with progress.task(f"verdicts by {judge.name}", len(questions)) as advance:
        answers = dict(zip(questions, judge.ask(list(questions.values()), advance=advance), strict=True))
    tallies: dict[tuple[str, str], JudgeTally] = {}
    rows: list[VerdictRow] = []
    for index, comparison in enumerate(comparisons):
        tally = tallies.setdefault((comparison.language, comparison.model), JudgeTally())
        given = {first: answers[index, first] for first in (False, True) if (index, first) in answers}
        preference, more = _combined(given, tally)
        verdict = Verdict(
            id=comparison.id,
            language=comparison.language,
            model=comparison.model,
            baseline=comparison.baseline,
            preference=preference,
            model_length=len(comparison.model_answer),
            baseline_length=len(comparison.baseline_answer),
        )
        rows.append((verdict, {"judge": judge.name, **more}))
    return Judged(rows=tuple(rows), tallies=tallies)


def remarks(judged: Judged) -> list[str]:
    """What a reader must know of the judge: a bias of position, and answers that hardly name a model."""
    lines = []
    for (language, model), tally in judged.tallies.items():
        found = tally.counts()
        first, mass = found["first_shown_preferred"], found["named_mass"]
        if first is not None and tally.asked >= MANY and not LEAST_FIRST <= first <= 1 - LEAST_FIRST:
            which = "first" if first > 0.5 else "second"
            lines.append(
                f"{model} ({language}): the judge prefers the answer shown {which} in {max(first, 1 - first):.0%} of "
                "questions, which a drawn order cancels on average only: ask in both orders, or another judge"
            )
        if 0 < tally.letters < tally.asked:
            lines.append(
                f"{model} ({language}): {tally.letters} of {tally.asked} answers are the letter alone, the others are "
                "weighted: judge in a new folder to have one kind"
            )
        if nulls := tally.nulls.total():
            reason = tally.nulls.most_common(1)[0][0]
            lines.append(f"{model} ({language}): {nulls} of {tally.n} without a verdict, mostly {reason}: {tally.why}")
        if mass is not None and mass < LEAST_MASS:
            lines.append(
                f"{model} ({language}): the judge names a model with probability {mass:.2f} only: it does not do what "
                "the template asks"
            )
    return lines


def _combined(given: Mapping[bool, Answer | NoAnswer], tally: JudgeTally) -> tuple[float | None, dict[str, Any]]:
    """The preference for the model of one comparison, and what it is made of. One missing order makes it null."""
    tally.n += 1
    if not given:
        tally.equal += 1
        return 0.5, {"source": "equal"}
    found = {first: answer for first, answer in given.items() if isinstance(answer, Answer)}
    for answer in found.values():
        tally.asked += 1
        tally.first += 0.5 if answer.second_better == 0.5 else float(answer.second_better < 0.5)
        tally.letters += answer.source == "letter"
        tally.mass += (answer.first or 0.0) + (answer.second or 0.0)
    missing = [answer for answer in given.values() if isinstance(answer, NoAnswer)]
    if missing:
        tally.nulls[missing[0].reason] += 1
        tally.why = tally.why or missing[0].detail[:200]
        return None, {"null_reason": missing[0].reason, "null_detail": missing[0].detail[:300]}
    preferences = {first: 1 - a.second_better if first else a.second_better for first, a in found.items()}
    if len(preferences) == 2:
        tally.both += 1
        tally.disagreed += (preferences[False] - 0.5) * (preferences[True] - 0.5) < 0
    shown = [
        {"model_first": first, "second_better": answer.second_better, "source": answer.source}
        for first, answer in found.items()
    ]
    return sum(preferences.values()) / len(preferences), {"asked": shown}

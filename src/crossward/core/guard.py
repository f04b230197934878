"""Did something get worse? Two policies on the same prompts, measure by measure, the drops beyond their interval.

Every measure here is one where higher is better, given as one number per prompt, so that a judge's win rates or a gold
score are tested like what the answers show by themselves. Each interval is at 95 % for its own measure; several are
tested, so `false_alarms` says how many drops chance alone would show. Not in the paper.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

from crossward.core.answer_measures import MEASURES, AnswerMeasures
from crossward.core.intervals import Interval, clustered_mean, paired_differences

TAIL = 0.025  # of a 95 % interval, on the side of drops
# Intervals by resampling fewer prompts are too narrow: with nothing changed but the draws of a normal value, 400 tests
# each, 5 prompts showed a drop in 9.5 % of them, 10 in 6.0 %, 20 in 2.8 %, 50 in 2.0 %, 100 in 1.3 %.
FEW_PROMPTS = 20

# The shares, 0 to 1, that the guard watches, turned so that higher is better: (measure, whether it is turned round).
_WATCHED = {
    "fidelity": ("fidelity", False),
    "no code-switching": ("code_switching", True),
    "not empty": ("empty", True),
    "not truncated": ("truncated", True),
    "not looping": ("looping", True),
}
Values = Mapping[str, Mapping[str, float]]  # of every measure, of every prompt (by id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One measure under two policies, on the `n_prompts` prompts that have it under both.

    `before` and `after` are means over those prompts, `difference` is after − before with its 95 % interval (prompts
    resampled, paired). `n_left_out` prompts have the measure under one policy only. `share`: the measure lies between
    0 and 1.
    """

    measure: str
    before: float
    after: float
    difference: Interval
    n_prompts: int
    n_left_out: int
    share: bool

    @property
    def dropped(self) -> bool:
        """Whether the whole interval lies below 0."""
        return self.difference.high < 0

    @property
    def smallest_shown(self) -> float | None:
        """About the smallest drop that so many prompts could have shown: half the interval's width.

        A share has a floor: a change that befalls a part q of all prompts befalls none of n with probability
        (1 − q)ⁿ, so parts up to 1 − 0.025^(1/n) may go unseen even where no prompt changed (n = 100: 0.036). None for
        other measures where no prompt changed.
        """
        half = (self.difference.high - self.difference.low) / 2
        if self.share:
            return max(half, 1 - TAIL ** (1 / self.n_prompts))
        return half or None


def guard_values(before: Values, after: Values, *, shares: Iterable[str] = ()) -> list[Change]:
    """The change of every measure that both policies have for some prompt; `shares` names those between 0 and 1.

    {"win rate": {"prompt 1": 0.5, ...}} for both policies is all that a judge has to bring.
    """
    bounded = set(shares)
    found = (change_of(name, before[name], after[name], share=name in bounded) for name in before if name in after)
    return [change for change in found if change is not None]


def change_of(measure: str, before: Mapping[str, float], after: Mapping[str, float], *, share: bool) -> Change | None:
    """The change of one measure over the prompts that both have; None where there are none.

    >>> found = change_of("x", {"1": 1.0, "2": 0.5}, {"1": 0.0, "2": 0.5, "3": 0.0}, share=True)
    >>> (found.before, found.after, found.difference.estimate, found.n_prompts, found.n_left_out)
    (0.75, 0.25, -0.5, 2, 1)
    """
    both = before.keys() & after.keys()
    if not both:
        return None
    ours, base = {id: after[id] for id in sorted(both)}, {id: before[id] for id in sorted(both)}
    return Change(
        measure=measure,
        before=fmean(base.values()),
        after=fmean(ours.values()),
        difference=clustered_mean(paired_differences(ours, base)),
        n_prompts=len(both),
        n_left_out=len(before.keys() | after.keys()) - len(both),
        share=share,
    )


def watched_values(rows: Iterable[AnswerMeasures]) -> dict[str, dict[str, float]]:
    """The watched shares of each prompt, means over its answers; prompts where a measure is not known are left out."""
    answers = list(rows)
    return {
        name: {id: 1 - value if turned else value for id, value in prompt_means(answers, measure).items()}
        for name, (measure, turned) in _WATCHED.items()
    }


def prompt_means(rows: Iterable[AnswerMeasures], measure: str) -> dict[str, float]:
    """One of MEASURES for each prompt: the mean over those of its answers that have it."""
    values: dict[str, list[float]] = {}
    for row in rows:
        if (value := MEASURES[measure](row)) is not None:
            values.setdefault(row.prompt_id, []).append(value)
    return {id: fmean(found) for id, found in values.items()}


WATCHED = tuple(_WATCHED)


def false_alarms(n_tests: int) -> float:
    """How many drops so many tests would show by chance alone if nothing changed: one in forty each."""
    return TAIL * n_tests

"""What a reward rewards: its accuracy where truth is known, its link with length, where in a response it lies.

Everything is within prompts: a prompt that makes all its responses long, or all log-ratios high, says nothing of which
response is preferred. Numbers in, numbers out; None where nothing can be said (no spread, no pair). Not in the paper,
which shows its reward by what is trained on it.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from crossward.core.exact_sums import ExactSum
from crossward.core.intervals import Interval, clustered_ratio, ranked_pairs
from crossward.core.records import ScoredPrompt, ScoredResponse

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
PARTS = ("first_token", "body_1", "body_2", "body_3", "body_4", "end_of_turn")
Values = Sequence[float]


# Accuracy -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Share of pairs of one prompt's responses that the reward ranks as the truth does; chance is 0.5.

    `interval` is the share with its 95 % interval over prompts (0 to 1), `n_pairs` how many pairs the truth ranks.
    """

    n_pairs: int
    interval: Interval


def accuracy(groups: Iterable[tuple[str, Values, Values]]) -> Accuracy | None:
    """Over (prompt, rewards, truths): Σ rightly ranked pairs / Σ pairs whose truths differ; equal rewards count half.

    A pair of chosen and rejected is the case of two truths, 1 and 0. None where the truth ranks no pair.
    """
    counted = [(prompt, *ranked_pairs(rewards, truths)) for prompt, rewards, truths in groups]
    total = sum(n for _, _, n in counted)
    return Accuracy(n_pairs=total, interval=clustered_ratio(counted)) if total else None


# Correlation ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlation:
    """Within-prompt correlations, −1 to 1: of the values (Pearson) and of their ranks (Spearman)."""

    pearson: float | None
    spearman: float | None


class WithinCorrelation:
    """Gathers groups one by one in any order, in constant memory, and tells the correlation of x and y within them.

    Pearson: Σ_g Σ_k (x_k − x̄_g)(y_k − ȳ_g) / √(Σ_g Σ_k (x_k − x̄_g)² · Σ_g Σ_k (y_k − ȳ_g)²), the correlation of the
    deviations from each prompt's own means. Spearman: the same over ranks within the prompt, ties at their mean rank.
    """

    def __init__(self) -> None:
        # Σxy, Σxx, Σyy of the deviations
        self._values, self._ranks = ([ExactSum() for _ in range(3)] for _ in range(2))

    def add(self, x: Values, y: Values) -> None:
        """One group; x and y are parallel."""
        _gather(self._values, x, y)
        _gather(self._ranks, ranks(x), ranks(y))

    def result(self) -> Correlation:
        """None for a correlation whose x or y never differ within a group."""
        return Correlation(pearson=_quotient(self._values), spearman=_quotient(self._ranks))


def length_correlation(groups: Iterable[ScoredPrompt]) -> dict[str, Correlation]:
    """Correlation of log-ratio and length within prompts, with length in "characters" and in "tokens"."""
    characters, tokens = WithinCorrelation(), WithinCorrelation()
    for group in groups:
        ratios = [response.log_ratio for response in group.responses]
        characters.add(ratios, [float(response.n_chars) for response in group.responses])
        tokens.add(ratios, [float(response.n_response_tokens) for response in group.responses])
    return {"characters": characters.result(), "tokens": tokens.result()}


def ranks(values: Values) -> list[float]:
    """Ranks from 1, ties at the mean of their places.

    >>> ranks([3.0, 1.0, 3.0])
    [2.5, 1.0, 2.5]
    """
    order = sorted(range(len(values)), key=values.__getitem__)
    found = [0.0] * len(values)
    start = 0
    while start < len(order):
        stop = start
        while stop < len(order) and values[order[stop]] == values[order[start]]:
            stop += 1
        for place in order[start:stop]:
            found[place] = (start + 1 + stop) / 2
        start = stop
    return found


def _gather(sums: Sequence[ExactSum], x: Values, y: Values) -> None:
    if not x:
        return
    mean_x, mean_y = _mean(x), _mean(y)
    xy = xx = yy = 0.0
    for a, b in zip(x, y, strict=True):
        xy += (a - mean_x) * (b - mean_y)
        xx += (a - mean_x) ** 2
        yy += (b - mean_y) ** 2
    for total, own in zip(sums, (xy, xx, yy), strict=True):
        total.add(own)


def _mean(values: Values) -> float:
    """The mean; equal values are exactly their own mean, which a rounded sum may miss."""
    return values[0] if min(values) == max(values) else math.fsum(values) / len(values)


def _quotient(sums: Sequence[ExactSum]) -> float | None:
    xy, xx, yy = (total.value for total in sums)
    return max(-1.0, min(1.0, xy / math.sqrt(xx) / math.sqrt(yy))) if xx > 0 and yy > 0 else None


# Margins --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Margins:
    """Best minus worst log-ratio of each prompt with two responses or more (nats, 0 or more).

    `quantiles` by name ("p5" to "p95"); `under_noise` is the share of prompts under the noise floor's margin, None
    where it is not known.
    """

    n_groups: int
    quantiles: dict[str, float]
    under_noise: float | None


def margins(spreads: Values, *, noise_margin: float | None = None) -> Margins | None:
    """The distribution of the prompts' spreads; a quantile between two values is interpolated. None without any."""
    if not spreads:
        return None
    ordered = sorted(spreads)
    under = None if noise_margin is None else sum(spread < noise_margin for spread in spreads) / len(spreads)
    found = {f"p{round(100 * q)}": _quantile(ordered, q) for q in QUANTILES}
    return Margins(n_groups=len(spreads), quantiles=found, under_noise=under)


def _quantile(ordered: Values, q: float) -> float:
    place = q * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


# Agreement of views ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How alike two views judge the same groups.

    Shares (0 to 1) of groups whose best and whose worst response is the same one, and the mean over groups of the rank
    correlation (Spearman, −1 to 1; groups where a view ranks nothing are left out, None where all are).
    """

    n_groups: int
    same_best: float
    same_worst: float
    rank_correlation: float | None


def agreement(first: Sequence[ScoredPrompt], second: Sequence[ScoredPrompt]) -> Agreement | None:
    """Two views of the same groups, in the same order; groups of one response are left out. None where all are.

    Two responses with the same text and ids are one choice.
    """
    best = worst = 0
    n = 0
    correlations: list[float] = []
    for one, other in zip(first, second, strict=True):
        assert [r.response for r in one.responses] == [r.response for r in other.responses], "the same groups"
        if len(one.responses) < 2:
            continue
        n += 1
        best += max(one.responses, key=_log_ratio).response == max(other.responses, key=_log_ratio).response
        worst += min(one.responses, key=_log_ratio).response == min(other.responses, key=_log_ratio).response
        within = WithinCorrelation()
        within.add([r.log_ratio for r in one.responses], [r.log_ratio for r in other.responses])
        if (spearman := within.result().spearman) is not None:
            correlations.append(spearman)
    if not n:
        return None
    mean = fmean(correlations) if correlations else None
    return Agreement(n_groups=n, same_best=best / n, same_worst=worst / n, rank_correlation=mean)


def _log_ratio(response: ScoredResponse) -> float:
    return response.log_ratio


# Where the reward lies ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one part of the responses contributes to the log-ratio.

    `mean`: log-ratio summed over the part, mean over responses (nats). `per_token`: the same per token of the part
    (nats; None without tokens). `share_of_size`: |term| of the part over |term| of all (0 to 1; adds up to 1).
    `share_of_choice`: its share of the variance within prompts, which decides best and worst (adds up to 1; negative
    where the part works against the rest).
    """

    n_tokens: int
    mean: float
    per_token: float | None
    share_of_size: float | None
    share_of_choice: float | None


def token_profile(groups: Iterable[Sequence[tuple[Values, bool]]]) -> dict[str, Part]:
    """Where in the responses the log-ratio lies, over groups of (token log-ratios, ended by itself).

    The first token, four quarters of the body, and the end of turn (there where the response ended by itself; it is
    none of the others). Token j of a body of m falls into quarter ⌊4j/m⌋.

    With s_kp the log-ratio of part p in response k, s_k = Σ_p s_kp, and deviations from the prompt's mean,
    share_of_choice(p) = Σ_g Σ_k (s_kp − s̄_p)(s_k − s̄) / Σ_g Σ_k (s_k − s̄)²: covariances with the whole add up to its
    variance, so these shares add up to 1.
    """
    zero = dict.fromkeys(PARTS, 0.0)
    sums, sizes, choice = dict(zero), dict(zero), dict(zero)
    counts = dict.fromkeys(PARTS, 0)
    responses, variance = 0, 0.0
    for group in groups:
        split = [_parts(values, ended) for values, ended in group]
        responses += len(split)
        totals = [sum(sum(part) for part in parts.values()) for parts in split]
        mean_total = fmean(totals) if totals else 0.0
        variance += sum((total - mean_total) ** 2 for total in totals)
        for name in PARTS:
            terms = [sum(parts[name]) for parts in split]
            mean = fmean(terms) if terms else 0.0
            sums[name] += sum(terms)
            sizes[name] += sum(abs(value) for parts in split for value in parts[name])
            counts[name] += sum(len(parts[name]) for parts in split)
            choice[name] += sum((s - mean) * (t - mean_total) for s, t in zip(terms, totals, strict=True))
    size = sum(sizes.values())
    return {
        name: Part(
            n_tokens=counts[name],
            mean=sums[name] / responses if responses else 0.0,
            per_token=sums[name] / counts[name] if counts[name] else None,
            share_of_size=sizes[name] / size if size else None,
            share_of_choice=choice[name] / variance if variance else None,
        )
        for name in PARTS
    }


def _parts(values: Values, ended: bool) -> dict[str, Values]:
    """A response's token log-ratios by part; a response of its end of turn alone has no first token."""
    own = values[:-1] if ended else values
    body = own[1:]
    edges = [math.ceil(len(body) * quarter / 4) for quarter in range(5)]  # ⌊4j/m⌋ = q  ⇔  mq/4 ≤ j < m(q+1)/4
    quarters = [body[low:high] for low, high in pairwise(edges)]
    return dict(zip(PARTS, (own[:1], *quarters, values[len(own) :]), strict=True))

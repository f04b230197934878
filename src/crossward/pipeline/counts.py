"""What each stage says of itself in stage.json: plain numbers per language, read by the report.

Groups may come in any order, as the shards of a stage do that many replicas made: the counts are the same.
"""

import math
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from itertools import chain
from typing import Any

from crossward.core.diagnostics import WithinCorrelation, margins
from crossward.core.exact_sums import ExactSum
from crossward.core.length_control import LengthControl
from crossward.core.pairing import Survey
from crossward.core.records import PreferencePair, SampledPrompt, ScoredPrompt, Skipped


class Mean:
    """A running mean, in whatever order the `add`s come; None over nothing."""

    def __init__(self) -> None:
        self._n, self._total = 0, ExactSum()

    def add(self, *values: float) -> None:
        self._n += len(values)
        self._total.add(math.fsum(values))

    @property
    def value(self) -> float | None:
        return self._total.value / self._n if self._n else None


class SampledTally:
    """Prompts, responses, how many were cut, tokens and mean length of one language."""

    def __init__(self) -> None:
        self._prompts = self._responses = self._truncated = self._tokens = self._chars = 0

    def add(self, *groups: SampledPrompt) -> None:
        self._prompts += len(groups)
        for response in chain.from_iterable(group.responses for group in groups):
            self._responses += 1
            self._truncated += response.finish_reason == "length"
            self._tokens += len(response.token_ids or ())
            self._chars += len(response.text)

    def counts(self) -> dict[str, Any]:
        return {
            "prompts": self._prompts,
            "responses": self._responses,
            "truncated": self._truncated,
            "tokens": self._tokens,
            "mean_chars": round(self._chars / self._responses, 2) if self._responses else 0.0,
        }


def sampled_counts(groups: Iterable[SampledPrompt]) -> dict[str, Any]:
    """The tally of a stream of groups."""
    tally = SampledTally()
    for group in groups:
        tally.add(group)
    return tally.counts()


class ScoredTally:
    """Mean log-ratio and spread (best minus worst of a group, nats) of one language, and the reward's link with length.

    The spread's mean and quantiles; correlations of log-ratio and length within prompts (core/diagnostics.py).
    """

    def __init__(self) -> None:
        self._prompts = self._responses = self._empty = self._tokens = 0
        self._log_ratio = Mean()
        self._spreads = array("d")
        self._lengths = {"characters": WithinCorrelation(), "tokens": WithinCorrelation()}

    def add(self, *groups: ScoredPrompt) -> None:
        for group in groups:
            ratios = [response.log_ratio for response in group.responses]
            self._prompts += 1
            self._responses += len(ratios)
            self._empty += sum(not response.response.text.strip() for response in group.responses)
            self._tokens += sum(response.n_tokens for response in group.responses)
            self._log_ratio.add(*ratios)
            if ratios:
                self._spreads.append(max(ratios) - min(ratios))
            self._lengths["characters"].add(ratios, [float(response.n_chars) for response in group.responses])
            self._lengths["tokens"].add(ratios, [float(response.n_response_tokens) for response in group.responses])

    @property
    def n_responses(self) -> int:
        """How many responses were scored so far."""
        return self._responses

    def counts(self, n_sampled: int) -> dict[str, Any]:
        """`n_sampled` responses were there to score: those left out are too long for the model's context."""
        distribution = margins(self._spreads)
        return {
            "prompts": self._prompts,
            "responses": self._responses,
            "too_long": n_sampled - self._responses,
            "empty": self._empty,
            "tokens": self._tokens,
            "mean_log_ratio": self._log_ratio.value,
            "mean_spread": math.fsum(self._spreads) / len(self._spreads) if self._spreads else None,
            "spread_quantiles": distribution.quantiles if distribution else None,
            "length_correlation": {unit: asdict(found.result()) for unit, found in self._lengths.items()},
        }


def scored_counts(groups: Iterable[ScoredPrompt], *, n_sampled: int) -> dict[str, Any]:
    """The tally of a stream of groups."""
    tally = ScoredTally()
    for group in groups:
        tally.add(group)
    return tally.counts(n_sampled)


class PairTally:
    """Pairs and skips of one language, counted as they pass."""

    def __init__(self) -> None:
        self._pairs = self._gap = 0
        self._margin = Mean()
        self._skipped: Counter[str] = Counter()

    def counted(self, outcome: PreferencePair | Skipped) -> PreferencePair | Skipped:
        """The outcome itself, counted."""
        match outcome:
            case PreferencePair():
                self._pairs += 1
                self._gap += outcome.chosen.n_chars - outcome.rejected.n_chars
                self._margin.add(outcome.margin)
            case Skipped():
                self._skipped[outcome.reason] += 1
        return outcome

    def counts(self, found: Survey, control: LengthControl | None) -> dict[str, Any]:
        """The summary of one language, as `crossward pair --json` prints it."""
        gap = self._gap / self._pairs if self._pairs else None
        return {
            "n_groups": found.n_groups,
            "n_pairs": self._pairs,
            "alpha": control.alpha if control else 0.0,
            "length_gap_before": control.gap_before if control else gap,
            "length_gap_after": control.gap_after if control else gap,
            "skipped": dict(self._skipped),
            "removed_responses": dict(found.removed),
            "mean_margin": self._margin.value,
            "curve": control.curve() if control else [],
        }

"""From scored groups of one language to preference pairs: best against worst, with length control (paper, section 3.3).

Responses are filtered first (empty, truncated, wrong language, duplicate), α is found over what remains, then every
prompt gives one PreferencePair or one Skipped with its reason: nothing is dropped without being counted. The groups
are gone through twice, once for α (`Survey.add`) and once for the choice (`Survey.outcomes`), and never held: between
the two, 17 bytes a response are kept. The published code filters nothing; `published_rules()` reproduces it.
"""

import math
import random
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import compress
from statistics import median
from typing import Literal, get_args

import numpy as np

from crossward.core.language import Identification
from crossward.core.length_control import Groups, LengthControl, exact_alpha, grid_alpha
from crossward.core.records import (
    PreferencePair,
    Ranked,
    RankedResponse,
    RatedResponse,
    ScoredResponse,
    Skipped,
    SkipReason,
)

LengthUnit = Literal["characters", "tokens", "none"]
AlphaSearch = Literal["exact", "published-grid"]
Choice = Literal["reward", "random", "mean-2sd"]
# Of so many numbers the lowest is always the one nearest to mean − 2 sd. For another to be nearer, the two lowest must
# stand more than 4 sd below the mean together: a + b > 4, where a² + b² + (a + b)²/(n − 2) ≤ n needs n > 10.
NEAREST_IS_WORST = 10
_REASONS: tuple[SkipReason, ...] = get_args(SkipReason)
_NONE = len(_REASONS)  # the code of a group that no filter stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class PairingRules:
    """What makes a pair.

    `upper_bound` forbids choosing a response whose score (log-ratio − α·length, nats) reaches it, as in the published
    code (100 in the paper's runs). `min_margin` (nats) skips pairs whose scores are closer. Responses of fewer than
    `min_characters` or more than `max_characters` are left out (DICE: 4 and 6,699). `language_confidence` is
    how sure the identifier must be (0 to 1) before a response counts as written in the wrong language. `choice`
    "reward" takes best and worst; "mean-2sd" the best and, of those below it, the one whose score is nearest to the
    group's mean − 2 standard deviations (CroCo, arXiv 2605.26293); "random" two by lot, as a control. `agreement`
    skips pairs of an ensemble that not every view would order so. `gate`: surprisal penalties are not taken off scores;
    instead only responses with no more penalty a token than the group's median may be chosen (any may be rejected).
    α is found without the gate.
    """

    length_unit: LengthUnit
    alpha_search: AlphaSearch = "exact"
    choice: Choice = "reward"
    seed: int = 42
    upper_bound: float | None = None
    min_margin: float = 0.0
    min_responses: int = 2
    min_characters: int = 1
    max_characters: int | None = None
    language_confidence: float = 0.9
    filter_responses: bool = True
    agreement: bool = False
    gate: bool = False


def published_rules(length_unit: LengthUnit = "characters", upper_bound: float | None = None) -> PairingRules:
    """# paper: grid α over characters, no filter, ties kept (chosen may equal rejected)."""
    return PairingRules(
        length_unit=length_unit, alpha_search="published-grid", upper_bound=upper_bound, filter_responses=False
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """The outcome for one language: pairs and skipped prompts in the groups' order, and what was removed and why."""

    outcomes: tuple[PreferencePair | Skipped, ...]
    removed_responses: dict[str, int]
    control: LengthControl | None

    @property
    def pairs(self) -> list[PreferencePair]:
        return [outcome for outcome in self.outcomes if isinstance(outcome, PreferencePair)]

    @property
    def skipped(self) -> dict[str, int]:
        """Prompts without a pair, counted by reason."""
        return dict(Counter(outcome.reason for outcome in self.outcomes if isinstance(outcome, Skipped)))


def pair_groups(
    groups: Sequence[Ranked],
    rules: PairingRules,
    *,
    languages: Sequence[Sequence[Identification]] | None = None,
) -> Pairing:
    """One pair or one reason per group; the groups are of one language, since α is found per language.

    `languages[i][k]` says in which language response k of group i is written; without it nothing is filtered by
    language.
    """
    survey = Survey(rules)
    for i, group in enumerate(groups):
        survey.add(group, languages[i] if languages is not None else None)
    return survey.pairing(groups)


@dataclass(slots=True)
class Survey:
    """What the first pass over the groups of one language keeps: no group and no text, only numbers.

    `add` every group, find α with `control`, then go through the same groups in the same order again with `outcomes`.
    """

    rules: PairingRules
    removed: Counter[str] = field(default_factory=Counter)
    n_groups: int = 0
    # Of every response, whether it stays; of every group, its size and why it has no pair whatever α may be.
    _stays: bytearray = field(default_factory=bytearray)
    _sizes: array = field(default_factory=lambda: array("q"))
    _early: bytearray = field(default_factory=bytearray)
    # Of the responses among which α is found: log-ratios and lengths, end to end, and how many of each group.
    _scores: array = field(default_factory=lambda: array("d"))
    _lengths: array = field(default_factory=lambda: array("d"))
    _kept_sizes: array = field(default_factory=lambda: array("q"))

    def add(self, group: Ranked, languages: Sequence[Identification] | None = None) -> None:
        """Filter one group's responses and keep their numbers; `languages[k]` says in which response k is written."""
        unit = self.rules.length_unit
        if unit == "tokens" and any(r.n_response_tokens == 0 for r in group.responses if r.n_chars):
            raise ValueError(
                "length unit 'tokens' needs the number of tokens of every response, got scores without 'n_tokens'"
            )
        reasons = _removal_reasons(group, self.rules, languages)
        self.removed.update(reason for reason in reasons if reason is not None)
        kept = [response for response, reason in zip(group.responses, reasons, strict=True) if reason is None]
        early = _too_few(kept, reasons, self.rules.min_responses)
        self.n_groups += 1
        self._stays.extend(reason is None for reason in reasons)
        self._sizes.append(len(reasons))
        self._early.append(_NONE if early is None else _REASONS.index(early))
        if early is None and unit != "none" and self.rules.choice != "random":
            self._scores.extend(_score(response, self.rules) for response in kept)
            self._lengths.extend(_length(response, unit) for response in kept)
            self._kept_sizes.append(len(kept))

    def control(self) -> LengthControl | None:
        """α over all groups added; None where no length is controlled."""
        if not self._kept_sizes:
            return None
        groups = Groups(
            scores=np.frombuffer(self._scores, np.float64),
            lengths=np.frombuffer(self._lengths, np.float64),
            sizes=np.frombuffer(self._kept_sizes, np.int64),
        )
        return exact_alpha(groups) if self.rules.alpha_search == "exact" else grid_alpha(groups)

    def pairing(self, groups: Iterable[Ranked]) -> Pairing:
        """All outcomes at once."""
        control = self.control()
        outcomes = tuple(self.outcomes(groups, control.alpha if control else 0.0))
        return Pairing(outcomes=outcomes, removed_responses=dict(self.removed), control=control)

    def outcomes(self, groups: Iterable[Ranked], alpha: float) -> Iterator[PreferencePair | Skipped]:
        """One pair or one reason per group; the groups are those that were added, in the same order."""
        first = 0
        for group, size, early in zip(groups, self._sizes, self._early, strict=True):
            if len(group.responses) != size:
                raise ValueError(
                    f"prompt {group.prompt.id!r} ({group.prompt.language}) has {len(group.responses)} responses, had "
                    f"{size} when α was found: the groups were changed meanwhile, so pair them again"
                )
            if early != _NONE:
                yield Skipped(prompt=group.prompt, reason=_REASONS[early])
            else:
                kept = list(compress(group.responses, self._stays[first : first + size]))
                yield _choose(group, kept, alpha, self.rules)
            first += size


def _removal_reasons(
    group: Ranked, rules: PairingRules, languages: Sequence[Identification] | None
) -> list[SkipReason | None]:
    """Why each response is left out, or None where it stays."""
    if not rules.filter_responses:
        return [None] * len(group.responses)
    seen: set[str] = set()
    reasons: list[SkipReason | None] = []
    for k, scored in enumerate(group.responses):
        text = scored.response.text
        if not text.strip():
            reasons.append("empty")
        elif scored.response.finish_reason == "length":
            reasons.append("truncated")
        elif scored.n_chars < rules.min_characters:
            reasons.append("too-short")
        elif rules.max_characters is not None and scored.n_chars > rules.max_characters:
            reasons.append("too-long")
        elif languages is not None and _is_wrong(languages[k], group.prompt.language, rules.language_confidence):
            reasons.append("wrong-language")
        elif text in seen:
            reasons.append("duplicate")
        else:
            seen.add(text)
            reasons.append(None)
    return reasons


def _is_wrong(identified: Identification, language: str, confidence: float) -> bool:
    return identified.language not in (None, language) and identified.confidence >= confidence


def _too_few(
    kept: Sequence[RankedResponse], reasons: Sequence[SkipReason | None], min_responses: int
) -> SkipReason | None:
    """Why a group has no pair before any score is looked at; the filter's reason where one filter alone emptied it."""
    if len(kept) >= max(min_responses, 1):
        return None
    causes: set[SkipReason] = {reason for reason in reasons if reason is not None}
    if len(reasons) >= min_responses and len(causes) == 1:
        return causes.pop()
    return "too-few-responses"


def _length(response: RankedResponse, unit: LengthUnit) -> float:
    match unit:
        case "characters":
            return float(response.n_chars)
        case "tokens":
            return float(response.n_response_tokens)
        case "none":
            return 0.0


def _score(response: RankedResponse, rules: PairingRules) -> float:
    """What a response is ranked by, before its length: with the gate, the bare log-ratio."""
    return response.log_ratio if rules.gate and isinstance(response, ScoredResponse) else response.score


def _plausible(kept: Sequence[RankedResponse]) -> list[bool]:
    """Which responses have no more penalty a token than the median of them; all where none was measured."""
    costs = [
        response.penalty / max(1, response.n_tokens) if isinstance(response, ScoredResponse) else 0.0
        for response in kept
    ]
    middle = median(costs)
    return [cost <= middle for cost in costs]


def _choose(
    group: Ranked, kept: Sequence[RankedResponse], alpha: float, rules: PairingRules
) -> PreferencePair | Skipped:
    """Best and worst of the kept responses by score, or the reason why there is no pair. Ties go to the first."""
    scores = [_score(response, rules) - alpha * _length(response, rules.length_unit) for response in kept]
    if rules.choice == "random":
        lot = random.Random(f"{rules.seed}/{group.prompt.language}/{group.prompt.id}")
        best, worst = lot.sample(range(len(kept)), 2)
        return _pair(group, kept, scores, best, worst, alpha)
    bound = float("inf") if rules.upper_bound is None else rules.upper_bound
    allowed = [k for k, score in enumerate(scores) if score < bound]
    if rules.gate:
        plausible = _plausible(kept)
        allowed = [k for k in allowed if plausible[k]]
    worst = min(range(len(kept)), key=scores.__getitem__)
    if not rules.filter_responses:  # paper: with every score over the bound the published argmax falls on the first
        best = max(allowed, key=scores.__getitem__) if allowed else 0
        return _pair(group, kept, scores, best, worst, alpha)
    if not allowed:
        return Skipped(prompt=group.prompt, reason="above-upper-bound")
    best = max(allowed, key=scores.__getitem__)
    if scores[best] == scores[worst]:
        return Skipped(prompt=group.prompt, reason="tie")
    if rules.choice == "mean-2sd":
        worst = _nearest_below(scores, best)
    if scores[best] - scores[worst] < rules.min_margin:
        return Skipped(prompt=group.prompt, reason="below-margin")
    if rules.agreement and not _agreed(kept[best], kept[worst]):
        return Skipped(prompt=group.prompt, reason="views-disagree")
    return _pair(group, kept, scores, best, worst, alpha)


def _nearest_below(scores: Sequence[float], best: int) -> int:
    """Of the responses below the best, the one whose score is nearest to mean − 2·sd of all (sd over n). Ties: first.

    >>> _nearest_below([4.0, 1.0, 0.0, -9.0], 0)  # mean −1, sd 4.85: −10.7 is wanted
    3
    """
    mean = sum(scores) / len(scores)
    wanted = mean - 2.0 * math.sqrt(sum((score - mean) ** 2 for score in scores) / len(scores))
    below = (k for k in range(len(scores)) if scores[k] < scores[best])
    return min(below, key=lambda k: abs(scores[k] - wanted))


def _agreed(chosen: RankedResponse, rejected: RankedResponse) -> bool:
    """Whether every view of an ensemble puts the chosen above the rejected; what is not an ensemble agrees."""
    if not isinstance(chosen, RatedResponse) or not isinstance(rejected, RatedResponse):
        return True
    return all(above > below for above, below in zip(chosen.parts, rejected.parts, strict=True))


def _pair(
    group: Ranked,
    kept: Sequence[RankedResponse],
    scores: Sequence[float],
    best: int,
    worst: int,
    alpha: float,
) -> PreferencePair:
    return PreferencePair(
        prompt=group.prompt,
        chosen=kept[best],
        rejected=kept[worst],
        alpha=alpha,
        chosen_score=scores[best],
        rejected_score=scores[worst],
    )

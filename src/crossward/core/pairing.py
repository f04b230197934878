"""From scored groups of one language to preference pairs: best against worst, with length control (paper, section 3.3).

Responses are filtered first (empty, truncated, wrong language, duplicate), α is found over what remains, then every
prompt gives one PreferencePair or one Skipped with its reason: nothing is dropped without being counted. The published
code filters nothing; `published_rules()` reproduces it.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from crossward.core.language import Identification
from crossward.core.length_control import LengthControl, choose_alpha, published_grid_alpha
from crossward.core.records import PreferencePair, ScoredPrompt, ScoredResponse, Skipped, SkipReason

LengthUnit = Literal["characters", "tokens", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairingRules:
    """What makes a pair.

    `upper_bound` forbids choosing a response whose score (log-ratio − α·length, nats) reaches it, as in the published
    code (100 in the paper's runs). `min_margin` (nats) skips pairs whose scores are closer. `language_confidence` is
    how sure the identifier must be (0 to 1) before a response counts as written in the wrong language. `choice`
    "random" takes two responses by lot, as a control.
    """

    length_unit: LengthUnit
    alpha_search: Literal["exact", "published-grid"] = "exact"
    choice: Literal["reward", "random"] = "reward"
    seed: int = 42
    upper_bound: float | None = None
    min_margin: float = 0.0
    min_responses: int = 2
    language_confidence: float = 0.9
    filter_responses: bool = True


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
    groups: Sequence[ScoredPrompt],
    rules: PairingRules,
    *,
    languages: Sequence[Sequence[Identification]] | None = None,
) -> Pairing:
    """One pair or one reason per group; the groups are of one language, since α is found per language.

    `languages[i][k]` says in which language response k of group i is written; without it nothing is filtered by
    language.
    """
    if rules.length_unit == "tokens" and any(r.n_tokens == 0 for group in groups for r in group.responses if r.n_chars):
        raise ValueError(
            "length unit 'tokens' needs the number of tokens of every response, got scores without 'n_tokens'"
        )
    usable: list[list[ScoredResponse]] = []
    early: list[SkipReason | None] = []
    removed: Counter[str] = Counter()
    for i, group in enumerate(groups):
        reasons = _removal_reasons(group, rules, languages[i] if languages is not None else None)
        kept = [response for response, reason in zip(group.responses, reasons, strict=True) if reason is None]
        removed.update(reason for reason in reasons if reason is not None)
        usable.append(kept)
        early.append(_too_few(kept, reasons, rules.min_responses))
    alive = [kept for kept, reason in zip(usable, early, strict=True) if reason is None]
    control = _length_control(alive, rules)
    alpha = control.alpha if control else 0.0
    outcomes = tuple(
        Skipped(prompt=group.prompt, reason=reason) if reason is not None else _choose(group, kept, alpha, rules)
        for group, kept, reason in zip(groups, usable, early, strict=True)
    )
    return Pairing(outcomes=outcomes, removed_responses=dict(removed), control=control)


def _removal_reasons(
    group: ScoredPrompt, rules: PairingRules, languages: Sequence[Identification] | None
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
    kept: Sequence[ScoredResponse], reasons: Sequence[SkipReason | None], min_responses: int
) -> SkipReason | None:
    """Why a group has no pair before any score is looked at; the filter's reason where one filter alone emptied it."""
    if len(kept) >= max(min_responses, 1):
        return None
    causes: set[SkipReason] = {reason for reason in reasons if reason is not None}
    if len(reasons) >= min_responses and len(causes) == 1:
        return causes.pop()
    return "too-few-responses"


def _length_control(groups: Sequence[Sequence[ScoredResponse]], rules: PairingRules) -> LengthControl | None:
    if rules.length_unit == "none" or rules.choice == "random" or not groups:
        return None
    scores = [[response.log_ratio for response in group] for group in groups]
    lengths = [[_length(response, rules.length_unit) for response in group] for group in groups]
    search = choose_alpha if rules.alpha_search == "exact" else published_grid_alpha
    return search(scores, lengths)


def _length(response: ScoredResponse, unit: LengthUnit) -> float:
    match unit:
        case "characters":
            return float(response.n_chars)
        case "tokens":
            return float(response.n_tokens)
        case "none":
            return 0.0


def _choose(
    group: ScoredPrompt, kept: Sequence[ScoredResponse], alpha: float, rules: PairingRules
) -> PreferencePair | Skipped:
    """Best and worst of the kept responses by score, or the reason why there is no pair. Ties go to the first."""
    scores = [response.log_ratio - alpha * _length(response, rules.length_unit) for response in kept]
    if rules.choice == "random":
        lot = random.Random(f"{rules.seed}/{group.prompt.language}/{group.prompt.id}")
        best, worst = lot.sample(range(len(kept)), 2)
        return _pair(group, kept, scores, best, worst, alpha)
    bound = float("inf") if rules.upper_bound is None else rules.upper_bound
    allowed = [k for k, score in enumerate(scores) if score < bound]
    worst = min(range(len(kept)), key=scores.__getitem__)
    if not rules.filter_responses:  # paper: with every score over the bound the published argmax falls on the first
        best = max(allowed, key=scores.__getitem__) if allowed else 0
        return _pair(group, kept, scores, best, worst, alpha)
    if not allowed:
        return Skipped(prompt=group.prompt, reason="above-upper-bound")
    best = max(allowed, key=scores.__getitem__)
    if scores[best] == scores[worst]:
        return Skipped(prompt=group.prompt, reason="tie")
    if scores[best] - scores[worst] < rules.min_margin:
        return Skipped(prompt=group.prompt, reason="below-margin")
    return _pair(group, kept, scores, best, worst, alpha)


def _pair(
    group: ScoredPrompt,
    kept: Sequence[ScoredResponse],
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

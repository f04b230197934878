"""What each stage says of itself in stage.json: plain numbers per language, read by the report."""

from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from crossward.core.pairing import Pairing
from crossward.core.records import SampledPrompt, ScoredPrompt
from crossward.engines.protocols import LanguageIdentifier


def sampled_counts(groups: Sequence[SampledPrompt]) -> dict[str, Any]:
    """Prompts, responses, how many were cut, tokens and mean length of one language."""
    responses = [response for group in groups for response in group.responses]
    return {
        "prompts": len(groups),
        "responses": len(responses),
        "truncated": sum(response.finish_reason == "length" for response in responses),
        "tokens": sum(len(response.token_ids or ()) for response in responses),
        "mean_chars": round(fmean(len(response.text) for response in responses), 2) if responses else 0.0,
    }


def scored_counts(groups: Sequence[ScoredPrompt]) -> dict[str, Any]:
    """Mean log-ratio and mean spread (best minus worst of a group, nats) of one language."""
    responses = [response for group in groups for response in group.responses]
    ratios = [response.log_ratio for response in responses]
    spreads = [
        max(r.log_ratio for r in group.responses) - min(r.log_ratio for r in group.responses)
        for group in groups
        if group.responses
    ]
    return {
        "prompts": len(groups),
        "responses": len(responses),
        "tokens": sum(response.n_tokens for response in responses),
        "mean_log_ratio": fmean(ratios) if ratios else None,
        "mean_spread": fmean(spreads) if spreads else None,
    }


def answer_counts(groups: Sequence[SampledPrompt], identifier: LanguageIdentifier | None) -> dict[str, Any]:
    """Lengths of one language's answers and the languages they are written in.

    `fidelity` is the share of answers in the language of their prompt among those whose language could be told.
    """
    texts = [(group.prompt.language, response.text) for group in groups for response in group.responses]
    counts: dict[str, Any] = {
        "prompts": len(groups),
        "answers": len(texts),
        "truncated": sum(response.finish_reason == "length" for group in groups for response in group.responses),
        "mean_chars": round(fmean(len(text) for _, text in texts), 2) if texts else 0.0,
    }
    if identifier is None or any(language in identifier.unsupported for language, _ in texts):
        return counts
    found = identifier.identify([text for _, text in texts])
    named = Counter(identified.language or "unsure" for identified in found)
    sure = sum(count for language, count in named.items() if language != "unsure")
    right = sum(identified.language == language for identified, (language, _) in zip(found, texts, strict=True))
    return counts | {"identified_as": dict(sorted(named.items())), "fidelity": right / sure if sure else None}


def pairing_counts(n_groups: int, made: Pairing) -> dict[str, Any]:
    """The summary of one language, as `crossward pair --json` prints it."""
    control = made.control
    pairs = made.pairs
    gap = fmean(pair.chosen.n_chars - pair.rejected.n_chars for pair in pairs) if pairs else None
    return {
        "n_groups": n_groups,
        "n_pairs": len(pairs),
        "alpha": control.alpha if control else 0.0,
        "length_gap_before": control.gap_before if control else gap,
        "length_gap_after": control.gap_after if control else gap,
        "skipped": made.skipped,
        "removed_responses": made.removed_responses,
        "mean_margin": fmean(pair.margin for pair in pairs) if pairs else None,
        "curve": control.curve() if control else [],
    }

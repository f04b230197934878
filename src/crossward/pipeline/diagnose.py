"""`crossward diagnose`: score a file under one view or several, and say what the reward rewards.

Policy and reference are in memory one after the other. The statistics are in core/diagnostics.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from crossward.core.diagnostics import accuracy, agreement, length_correlation, margins, token_profile
from crossward.core.instructions import UNTRANSLATED, judged_under
from crossward.core.preference_sets import JudgedPair, section_accuracies, subset_accuracies
from crossward.core.records import ResponseLogprob, ScoredPrompt, ScoredResponse, View
from crossward.engines.hf_scorer import HfScorer
from crossward.engines.models import settle
from crossward.engines.protocols import Judged, ModelSpec
from crossward.engines.tokens import ChatTokens
from crossward.pipeline.comparable import comparable_tokens
from crossward.pipeline.progress import Progress
from crossward.store.labelled import Labelled, read_labelled
from crossward.store.noise_file import known_margins

Values = list[tuple[ResponseLogprob | None, ...]]  # of every group, of every response


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judgement:
    """A group under one view, too long responses left out; `tokens` are (token log-ratios, ended) of each response."""

    item: Labelled
    scored: ScoredPrompt
    truths: tuple[float, ...] | None
    tokens: tuple[tuple[tuple[float, ...], bool], ...]


def diagnose_file(
    input: Path,
    *,
    policy: ModelSpec,
    reference: ModelSpec,
    views: Sequence[str],
    english: Path | None = None,
    batch_tokens: int | None,
    progress: Progress,
) -> dict[str, Any]:
    """What the reward of every view does on a file of groups or pairs, by language; plain numbers, ready for JSON.

    `english`: where the English twins are, joined by id, if the rows do not hold them. A preference set (RewardBench,
    M-RewardBench) gives accuracies by subset and section too.
    """
    if wrong := [view for view in views if view not in UNTRANSLATED]:
        raise ValueError(f"--view must be one of {', '.join(UNTRANSLATED)}, got {wrong[0]!r}")
    settle()
    chosen: list[View] = [view for view in UNTRANSLATED if view in views]
    labelled = read_labelled(input, twin_needed="crosslingual" in chosen, english=english)
    tokens = comparable_tokens(policy, reference)
    asked: dict[View, list[Judged]] = {view: [_judged(item, view, input) for item in labelled] for view in chosen}
    total = 2 * len(chosen) * sum(len(item.group.responses) for item in labelled)
    with progress.task("log-probabilities", total) as advance:
        by_policy, by_reference = (_values(spec, tokens, asked, batch_tokens, advance) for spec in (policy, reference))
    languages = sorted({item.label for item in labelled})
    judged: dict[View, list[_Judgement]] = {
        view: [
            _judgement(item, view, group.instruction, ours, base, tokens)
            for item, group, ours, base in zip(labelled, asked[view], by_policy[view], by_reference[view], strict=True)
        ]
        for view in chosen
    }
    noise: dict[View, dict[str, float]] = {view: known_margins(input, view=view, dtype=policy.dtype) for view in chosen}
    return {"languages": {code: _language(code, labelled, judged, noise) for code in languages}}


def _language(
    code: str,
    labelled: Sequence[Labelled],
    judged: Mapping[View, Sequence[_Judgement]],
    noise: Mapping[View, Mapping[str, float]],
) -> dict[str, Any]:
    own = [item.group for item in labelled if item.label == code]
    found: dict[View, list[_Judgement]] = {
        view: [judgement for judgement in judgements if judgement.item.label == code]
        for view, judgements in judged.items()
    }
    responses = sum(len(group.responses) for group in own)
    return {
        "n_groups": len(own),
        "n_responses": responses,
        "views": {view: _view(items, responses, noise[view].get(code)) for view, items in found.items()},
        "agreement": {
            f"{one}/{other}": _as_dict(_agreement(found[one], found[other])) for one, other in combinations(found, 2)
        },
    }


def _view(judged: Sequence[_Judgement], responses: int, noise_margin: float | None) -> dict[str, Any]:
    scored = [judgement.scored for judgement in judged]
    ratios = [[response.log_ratio for response in group.responses] for group in scored]
    ranked = [
        (item.scored.prompt.id, values, item.truths)
        for item, values in zip(judged, ratios, strict=True)
        if item.truths is not None
    ]
    spreads = [max(values) - min(values) for values in ratios if len(values) > 1]
    return {
        "n_too_long": responses - sum(len(values) for values in ratios),
        "accuracy": _as_dict(accuracy(ranked)),
        "length_correlation": {unit: asdict(found) for unit, found in length_correlation(scored).items()},
        "margins": _as_dict(margins(spreads, noise_margin=noise_margin)),
        "profile": {name: asdict(part) for name, part in token_profile(item.tokens for item in judged).items()},
        **_in_sets(judged),
    }


def _in_sets(judged: Sequence[_Judgement]) -> dict[str, Any]:
    """Accuracies by subset and by section, where groups stand in subsets."""
    pairs = [
        JudgedPair(
            cluster=found.scored.prompt.instruction,
            subset=found.item.subset,
            section=found.item.section,
            rewards=[response.log_ratio for response in found.scored.responses],
            truths=found.truths,
        )
        for found in judged
        if found.item.subset is not None and found.truths is not None
    ]
    if not pairs:
        return {}
    return {
        "sections": {name: asdict(found) for name, found in section_accuracies(pairs).items()},
        "subsets": {name: asdict(found) for name, found in subset_accuracies(pairs).items()},
    }


def _agreement(first: Sequence[_Judgement], second: Sequence[_Judgement]) -> Any:
    """Over the groups of which both views could score the same responses."""
    both = [
        (one.scored, other.scored)
        for one, other in zip(first, second, strict=True)
        if [r.response for r in one.scored.responses] == [r.response for r in other.scored.responses]
    ]
    return agreement([one for one, _ in both], [other for _, other in both])


def _values(
    spec: ModelSpec,
    tokens: ChatTokens,
    asked: Mapping[View, Sequence[Judged]],
    batch_tokens: int | None,
    advance: Callable[[int], None],
) -> dict[View, Values]:
    scorer = HfScorer(spec, tokens, batch_tokens=batch_tokens)
    try:
        return {view: scorer.score(groups, per_token=True, advance=advance) for view, groups in asked.items()}
    finally:
        scorer.close()


def _judged(item: Labelled, view: View, input: Path) -> Judged:
    prompt = item.group.prompt
    try:
        instruction = judged_under(prompt, view)
    except ValueError as error:
        raise ValueError(f"{input}, id {prompt.id!r}: {error}; or take --view multilingual") from None
    name = f"prompt {prompt.id!r} in {prompt.language!r}"
    return Judged(instruction=instruction, responses=item.group.responses, name=name)


def _judgement(
    item: Labelled,
    view: View,
    instruction: str,
    ours: Sequence[ResponseLogprob | None],
    base: Sequence[ResponseLogprob | None],
    tokens: ChatTokens,
) -> _Judgement:
    responses: list[ScoredResponse] = []
    profiles: list[tuple[tuple[float, ...], bool]] = []
    kept: list[int] = []
    for k, (response, own, other) in enumerate(zip(item.group.responses, ours, base, strict=True)):
        if own is None or other is None:
            continue
        assert own.token_logprobs is not None
        assert other.token_logprobs is not None
        kept.append(k)
        responses.append(
            ScoredResponse(
                response=response,
                policy_logprob=own.logprob,
                reference_logprob=other.logprob,
                n_tokens=own.n_tokens,
            )
        )
        ids = tokens.response_ids(response)
        ratios = tuple(a - b for a, b in zip(own.token_logprobs, other.token_logprobs, strict=True))
        profiles.append((ratios, bool(ids) and ids[-1] in tokens.stop_ids))
    return _Judgement(
        item=item,
        scored=ScoredPrompt(prompt=item.group.prompt, view=view, judged_under=instruction, responses=tuple(responses)),
        truths=None if item.truths is None else tuple(item.truths[k] for k in kept),
        tokens=tuple(profiles),
    )


def _as_dict(value: Any) -> dict[str, Any] | None:
    return None if value is None else asdict(value)

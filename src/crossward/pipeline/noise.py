"""Measuring the noise floor: a sample of scored groups is scored again, in other batches and in float32.

The two answer different questions. Other batches show what is left to chance: rounding that another batch would do
differently. Float32 shows the whole error, what both batchings get wrong alike included. Where the first scoring was
float32 itself, only the first question is left. The arithmetic is in core/rewards.py.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import accumulate
from typing import Any

from crossward.core.records import ResponseLogprob, ScoredPrompt
from crossward.core.rewards import noise_floor
from crossward.engines.protocols import Advance, Judged, Scorer
from crossward.pipeline.progress import Progress
from crossward.store.manifest import StageManifest

OpenScorer = Callable[[], Scorer]
FILE_RESPONSES = 400  # of a file, rescored in all
Values = Sequence[Sequence[ResponseLogprob | None]]  # of each group, of each response
Keep = Callable[[Sequence[ScoredPrompt], Values, Values], None]  # groups, and their values by policy and reference


def measure_noise(
    sample: Mapping[str, Sequence[ScoredPrompt]],
    *,
    policy: Scorer,
    reference: Scorer,
    open_exact: Sequence[OpenScorer] | None,
    keep: Keep | None = None,
    progress: Progress,
    title: str,
) -> dict[str, dict[str, Any]]:
    """The noise floor of each language: `rebatched`, `float32` (None where not asked for), and the larger `margin`.

    `policy` and `reference` made the first scoring; both are closed before `open_exact` (policy, reference) opens the
    float32 ones, one after the other, so that no two models in float32 and none beside these are in memory. `keep` is
    shown the second scoring with its values token by token.
    """
    groups = [group for found in sample.values() for group in found]
    models = 2 if open_exact is None else 4
    with progress.task(f"{title}: noise floor", models * sum(len(group.responses) for group in groups)) as advance:
        per_token = keep is not None
        ours, theirs = (_in_halves(groups, scorer, per_token, advance) for scorer in (policy, reference))
        if keep is not None:
            keep(groups, ours, theirs)
        rebatched = rescored(groups, ours, theirs)
        policy.close()
        reference.close()
        exact = None
        if open_exact is not None:
            values = [_in_float32(groups, opened, advance) for opened in open_exact]
            exact = rescored(groups, *values)
    return {language: _floors(found, rebatched, exact) for language, found in sample.items()}


def noise_sample(groups: Iterable[ScoredPrompt], responses: int = FILE_RESPONSES) -> dict[str, list[ScoredPrompt]]:
    """The first prompts of each language, about as many responses of each and about `responses` in all."""
    found: dict[str, list[ScoredPrompt]] = {}
    counts: dict[str, int] = {}
    for group in groups:
        language = group.prompt.language
        if counts.setdefault(language, 0) < responses:
            found.setdefault(language, []).append(group)
            counts[language] += len(group.responses)
    each = responses / max(1, len(found))
    return {
        language: [
            group
            for group, before in zip(kept, accumulate((len(g.responses) for g in kept), initial=0), strict=False)
            if before < each
        ]
        for language, kept in found.items()
    }


def noise_margins(scored: StageManifest) -> dict[str, float]:
    """The margin under which a pair is noise, by language, as the score stage measured it.

    Raises ValueError where it measured none.
    """
    languages = scored.counts["languages"]
    if missing := sorted(language for language, counts in languages.items() if "noise" not in counts):
        raise ValueError(
            f"pair.min_margin is 'auto', but the score stage measured no noise floor for {', '.join(missing)}: set "
            "score.noise_sample to 1 or more and redo that stage, or give pair.min_margin as a number of nats"
        )
    return {language: counts["noise"]["margin"] for language, counts in languages.items()}


def rescored(groups: Sequence[ScoredPrompt], by_policy: Values, by_reference: Values) -> list[ScoredPrompt]:
    """The groups with other log-probabilities of the same responses."""
    return [
        replace(
            group,
            responses=tuple(
                replace(response, policy_logprob=_logprob(own), reference_logprob=_logprob(base))
                for response, own, base in zip(group.responses, ours, theirs, strict=True)
            ),
        )
        for group, ours, theirs in zip(groups, by_policy, by_reference, strict=True)
    ]


def _floors(
    groups: Sequence[ScoredPrompt], rebatched: Sequence[ScoredPrompt], exact: Sequence[ScoredPrompt] | None
) -> dict[str, Any]:
    by_batch = noise_floor(groups, rebatched, exact=False)
    if exact is None:
        return {"rebatched": asdict(by_batch), "float32": None, "margin": by_batch.margin}
    whole = noise_floor(groups, exact, exact=True)
    return {
        "rebatched": asdict(by_batch),
        "float32": asdict(whole),
        "margin": max(by_batch.margin, whole.margin),
    }


def _in_halves(groups: Sequence[ScoredPrompt], scorer: Scorer, per_token: bool, advance: Advance) -> Values:
    """Every group by itself and in two halves: batches as unlike the first ones as batches of these can be."""
    values: list[list[ResponseLogprob | None]] = []
    for group in groups:
        middle = (len(group.responses) + 1) // 2
        halves = [half for half in (group.responses[:middle], group.responses[middle:]) if half]
        found: list[ResponseLogprob | None] = []
        for half in halves:
            found += scorer.score([_judged(replace(group, responses=half))], per_token=per_token, advance=advance)[0]
        values.append(found)
    return values


def _in_float32(groups: Sequence[ScoredPrompt], open_scorer: OpenScorer, advance: Advance) -> Values:
    scorer = open_scorer()
    try:
        return scorer.score([_judged(group) for group in groups], advance=advance)
    finally:
        scorer.close()


def _judged(group: ScoredPrompt) -> Judged:
    return Judged(
        instruction=group.judged_under,
        responses=tuple(scored.judged or scored.response for scored in group.responses),
        name=f"prompt {group.prompt.id!r} in {group.prompt.language!r}",
    )


def _logprob(found: ResponseLogprob | None) -> float:
    assert found is not None, "a response that was scored once is not too long the second time"
    return found.logprob

"""Groups as streams: what a model or an identifier works on is a window of them, so that memory is one window's.

Windows begin at fixed places, which makes what is computed together, and with it every rounding, independent of where
a stop cut the work. Nothing is decided here: the maths is in core, the models are in engines.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from crossward.core.instructions import PAPERS, Steering, judged_under
from crossward.core.language import Identification
from crossward.core.pairing import Pairing, PairingRules, Survey
from crossward.core.records import Ranked, Response, ResponseLogprob, SampledPrompt, ScoredPrompt, ScoredResponse, View
from crossward.core.surprisal import SurprisalPenalty
from crossward.engines.protocols import Advance, Judged, LanguageIdentifier, Scorer, Work, no_progress

WINDOW = 126  # groups that are scored together; a multiple of 3, the published scorer's batch
SAMPLE_WINDOW = 64  # prompts that are sampled together
ENDPOINT_WINDOW = 1024  # prompts that a server is asked: its slots stand empty only at the end of a window
Item = TypeVar("Item")


def windows(items: Iterable[Item], size: int = WINDOW) -> Iterator[list[Item]]:
    """The items in lists of `size`, the last one shorter.

    >>> list(windows("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    left = iter(items)
    while window := list(islice(left, size)):
        yield window


def counted(items: Iterable[Item], advance: Advance) -> Iterator[Item]:
    """The items, counted as they pass."""
    for item in items:
        yield item
        advance(1)


def score_windows(
    groups: Iterable[SampledPrompt],
    view: View,
    policy: Scorer,
    reference: Scorer,
    *,
    steering: Steering = PAPERS,
    translations: Iterable[SampledPrompt] | None = None,
    penalty: SurprisalPenalty | None = None,
    size: int = WINDOW,
    advance: Advance = no_progress,
) -> Iterator[list[ScoredPrompt]]:
    """Score a stream of groups, window by window; `translations` are the same groups in English (translated view)."""
    translated = None if translations is None else windows(translations, size)
    for window in windows(groups, size):
        inner = None if translated is None else next(translated, [])
        yield score_groups(
            window, view, policy, reference, steering=steering, translations=inner, penalty=penalty, advance=advance
        )


def score_groups(
    groups: Sequence[SampledPrompt],
    view: View,
    policy: Scorer,
    reference: Scorer,
    *,
    steering: Steering = PAPERS,
    translations: Sequence[SampledPrompt] | None = None,
    penalty: SurprisalPenalty | None = None,
    advance: Advance = no_progress,
) -> list[ScoredPrompt]:
    """Score groups under both models; the same ids, instruction and order for both. `penalty` reads the reference.

    A response that is too long for either model's context is left out of its group, as is one without a translation
    where translations are judged: the group's size tells.
    """
    asked = to_judge(groups, view, steering, translations)
    by_policy = policy.score([judged for judged, _ in asked], advance=advance)
    by_reference = reference.score([judged for judged, _ in asked], per_token=penalty is not None, advance=advance)
    return scored_groups(groups, asked, by_policy, by_reference, view=view, penalty=penalty)


def scored_groups(
    groups: Sequence[SampledPrompt],
    asked: Sequence[tuple[Judged, tuple[Response, ...]]],
    by_policy: Sequence[Sequence[ResponseLogprob | None]],
    by_reference: Sequence[Sequence[ResponseLogprob | None]],
    *,
    view: View,
    penalty: SurprisalPenalty | None = None,
) -> list[ScoredPrompt]:
    """Groups with what both models gave to what was asked of each (`to_judge`)."""
    return [
        ScoredPrompt(
            prompt=group.prompt,
            view=view,
            judged_under=judged.instruction,
            responses=_scored(judged, own, ours, theirs, penalty),
        )
        for group, (judged, own), ours, theirs in zip(groups, asked, by_policy, by_reference, strict=True)
    ]


def to_judge(
    groups: Sequence[SampledPrompt],
    view: View,
    steering: Steering = PAPERS,
    translations: Sequence[SampledPrompt] | None = None,
) -> list[tuple[Judged, tuple[Response, ...]]]:
    """What is judged of each group under a view, and the responses that it stands for, in parallel.

    In the translated view English responses stand for themselves, others for their translation; those whose translation
    failed (an empty text) are left out. Raises ValueError where the translations are not those of the groups.
    """
    if view == "translated":
        if translations is None:
            raise ValueError("the translated view judges English translations: none were given")
        if [group.prompt for group in groups] != [group.prompt for group in translations]:
            raise ValueError("the translations are of other prompts than the responses: translate again")
    found = []
    for place, group in enumerate(groups):
        texts = group.responses
        own = group.responses
        if translations is not None and view == "translated" and group.prompt.language != "en":
            pairs = list(zip(group.responses, translations[place].responses, strict=True))
            own = tuple(response for response, text in pairs if text.text)
            texts = tuple(text for _, text in pairs if text.text)
        judged = Judged(
            instruction=judged_under(group.prompt, view, steering),
            responses=texts,
            name=f"prompt {group.prompt.id!r} ({group.prompt.language})",
        )
        found.append((judged, own))
    return found


def _scored(
    judged: Judged,
    own: Sequence[Response],
    ours: Sequence[ResponseLogprob | None],
    theirs: Sequence[ResponseLogprob | None],
    penalty: SurprisalPenalty | None,
) -> tuple[ScoredResponse, ...]:
    return tuple(
        ScoredResponse(
            response=response,
            policy_logprob=policy.logprob,
            reference_logprob=reference.logprob,
            n_tokens=policy.n_tokens,
            judged=None if text is response else text,
            penalty=0.0 if penalty is None else penalty.of(reference.token_logprobs or ()),
        )
        for response, text, policy, reference in zip(own, judged.responses, ours, theirs, strict=True)
        if policy is not None and reference is not None
    )


def told_work(done: Sequence[Work]) -> str:
    """What both models did, in words: tokens, how many were not needed, and how quick it was."""
    tokens, seconds = sum(work.processed_tokens for work in done), sum(work.seconds for work in done)
    needed = sum(work.unique_tokens for work in done)
    if not tokens:
        return "tokens were not counted"
    waste = 1 - needed / tokens
    return (
        f"{tokens} tokens through both models, {waste:.1%} of them padding or repeated prompts, "
        f"{tokens / max(seconds, 1e-9):.0f} tokens/s"
    )


def identified(
    groups: Iterable[Ranked], rules: PairingRules, identifier: LanguageIdentifier | None, *, size: int = WINDOW
) -> Iterator[tuple[Ranked, Sequence[Identification] | None]]:
    """Every group with the language of each response, or None where nobody asks or the identifier cannot tell."""
    if identifier is None or not rules.filter_responses:
        for group in groups:
            yield group, None
        return
    for window in windows(groups, size):
        asked = [group for group in window if group.prompt.language not in identifier.unsupported]
        found = iter(identifier.identify([r.response.text for group in asked for r in group.responses]))
        for group in window:
            known = group.prompt.language not in identifier.unsupported
            yield group, [next(found) for _ in group.responses] if known else None


def survey(groups: Iterable[Ranked], rules: PairingRules, identifier: LanguageIdentifier | None) -> Survey:
    """The first pass of pairing over the groups of one language."""
    found = Survey(rules)
    for group, languages in identified(groups, rules, identifier):
        found.add(group, languages)
    return found


def pair_language(groups: Sequence[Ranked], rules: PairingRules, identifier: LanguageIdentifier | None) -> Pairing:
    """Pair the groups of one language, held in memory; filters by language where there is an identifier."""
    return survey(groups, rules, identifier).pairing(groups)

"""Several views of one group as one rating: the mean of their log-ratios, each standardised within the group.

Views differ in scale and in what all responses of a prompt share; neither says which response is better, so each view
is brought to mean 0 and standard deviation 1 within the group first. Not in the paper, which compares views one by one.
"""

from collections.abc import Sequence
from math import sqrt

from crossward.core.records import RatedPrompt, RatedResponse, ScoredPrompt


def standardised(values: Sequence[float]) -> list[float]:
    """(v − mean) / standard deviation, over n (not n − 1); all 0 where the values are equal.

    >>> standardised([1.0, 3.0])
    [-1.0, 1.0]
    >>> standardised([2.0, 2.0])
    [0.0, 0.0]
    """
    if not values:
        return []
    mean = sum(values) / len(values)
    deviation = sqrt(sum((value - mean) ** 2 for value in values) / len(values))
    # Equal values may differ from their own mean by a rounding.
    if deviation <= 1e-12 * max(1.0, abs(mean)):
        return [0.0] * len(values)
    return [(value - mean) / deviation for value in values]


def ensemble(views: Sequence[ScoredPrompt]) -> RatedPrompt:
    """One group scored under several views, as one rated group: rating = mean over views of the standardised log-ratio.

    A response that a view lacks (too long under its instruction, or untranslated) has no rating and is left out.
    `parts` are the standardised log-ratios in the views' order. Raises ValueError for views of different prompts.
    """
    first = views[0]
    if any(view.prompt != first.prompt for view in views):
        raise ValueError(f"the views of prompt {first.prompt.id!r} are of different prompts: score them again")
    places = [_by_place(view) for view in views]
    shared = [key for key in places[0] if all(key in place for place in places)]
    columns = [
        standardised([view.responses[place[key]].score for key in shared])
        for view, place in zip(views, places, strict=True)
    ]
    return RatedPrompt(
        prompt=first.prompt,
        rated_by="ensemble",
        judged_under=first.judged_under,
        responses=tuple(
            RatedResponse(
                response=first.responses[places[0][key]].response,
                rating=sum(parts) / len(parts),
                n_tokens=first.responses[places[0][key]].n_response_tokens,
                parts=tuple(parts),
            )
            for key, *parts in zip(shared, *columns, strict=True)
        ),
    )


def _by_place(view: ScoredPrompt) -> dict[tuple[str, tuple[int, ...] | None, int], int]:
    """Where each response of a view stands, by what it says and how often that was said before."""
    seen: dict[tuple[str, tuple[int, ...] | None], int] = {}
    places = {}
    for place, scored in enumerate(view.responses):
        said = (scored.response.text, scored.response.token_ids)
        seen[said] = seen.get(said, 0) + 1
        places[*said, seen[said]] = place
    return places

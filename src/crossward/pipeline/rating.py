"""The rate stage: ratings in the place of one log-ratio, from several views together or from another rater.

What it leaves is what pairs are made from, as the score stage's scores are. A response that could not be rated is left
out of its group and counted by reason.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from crossward.core.ensembles import ensemble
from crossward.core.instructions import Steering
from crossward.core.records import RatedBy, RatedPrompt, RatedResponse, Response, SampledPrompt, View
from crossward.engines.protocols import Advance, Rater, ToRate
from crossward.pipeline.counts import Mean
from crossward.pipeline.progress import Progress
from crossward.pipeline.run_stage import Inputs, Made, run_stage
from crossward.pipeline.stage_files import in_place, prompts_of, stream_ranked, stream_sampled, stream_translated
from crossward.pipeline.streams import to_judge, windows
from crossward.store import tables
from crossward.store.manifest import StageManifest
from crossward.store.run_dir import StageDir
from crossward.store.shard_reasons import read_reasons, write_reasons


def rate_together(
    stage: StageDir, views: Sequence[StageDir], *, settings: Mapping[str, Any], inputs: Inputs, progress: Progress
) -> StageManifest:
    """The ensemble of several score stages of the same responses (core/ensembles.py)."""

    def work() -> Made:
        files = []
        for language, index, path in views[0].shards():
            groups = zip(
                tables.stream_scored(path),
                *(tables.stream_scored(view.shard(language, index)) for view in views[1:]),
                strict=True,
            )
            files.append(stage.shard(language, index))
            tables.write_rated(files[-1], map(ensemble, groups))
        return files, {"languages": _counts(stage)}

    return run_stage(stage, inputs, settings, work, progress=progress)


def rate(
    stage: StageDir,
    sampled: StageDir,
    *,
    source: RatedBy,
    view: View,
    steering: Steering,
    translated: StageDir | None,
    open_rater: Callable[[], Rater],
    count_tokens: Callable[[Response], int],
    settings: Mapping[str, Any],
    inputs: Inputs,
    progress: Progress,
) -> StageManifest:
    """A rater's number for every sampled response, judged under the view's instruction.

    `count_tokens` of the policy: for responses of a server that does not say them. What could not be rated is counted
    by reason, shard by shard on the disk, so that a stage that was cut forgets nothing.
    """

    def work() -> Made:
        shards = sampled.shards()
        missing = []
        for language, index, path in shards:
            there = stage.shard(language, index)
            if there.exists():
                deque(in_place(there, tables.stream_rated(there), prompts_of(path)), maxlen=0)
            else:
                missing.append((language, index, path))
        if missing:
            english = _english_answers(sampled)
            total = sum(tables.count_responses(path) for _, _, path in missing)
            with progress.task(f"{stage.title}: ratings", total) as advance, closing(open_rater()) as rater:
                for language, index, shard in missing:
                    translations = None if translated is None else stream_translated(translated, sampled, shard)
                    groups = _rated(shard, source, view, steering, translations, english, rater, count_tokens, advance)
                    noted = _with_reasons(groups, rater, stage.reasons_file(language, index))
                    tables.write_rated(stage.shard(language, index), noted)
        told = read_reasons((stage.reasons_file(*found[:2]) for found in shards), "failures", "left_out")
        if missing:
            _say(f"{stage.title}: responses without a rating", told["failures"], progress)
            _say(f"{stage.title}: left out of ratings", told["left_out"], progress)
        stage.answers.unlink(missing_ok=True)
        files = [stage.shard(*found[:2]) for found in shards]
        return files, {"languages": _counts(stage), **told}

    return run_stage(stage, inputs, {"source": source, "view": view, **settings}, work, progress=progress)


def _with_reasons(groups: Iterator[RatedPrompt], rater: Rater, path: Path) -> Iterator[RatedPrompt]:
    """The groups of a shard; behind the last one what the rater counted at them is written to `path`."""
    failures, left_out = Counter(rater.failures), Counter(rater.left_out)
    yield from groups
    write_reasons(path, {"failures": rater.failures - failures, "left_out": rater.left_out - left_out})


def _say(what: str, reasons: Mapping[str, int], progress: Progress) -> None:
    if reasons:
        progress.say(f"{what}: " + ", ".join(f"{reason} {n}" for reason, n in sorted(reasons.items())))


def _rated(
    shard: Path,
    source: RatedBy,
    view: View,
    steering: Steering,
    translations: Iterator[SampledPrompt] | None,
    english: Mapping[str, tuple[str, ...]],
    rater: Rater,
    count_tokens: Callable[[Response], int],
    advance: Advance,
) -> Iterator[RatedPrompt]:
    translated = None if translations is None else windows(translations)
    for window in windows(tables.stream_sampled(shard)):
        asked = to_judge(window, view, steering, None if translated is None else next(translated, []))
        to_rate = [
            ToRate(
                prompt=group.prompt,
                instruction=judged.instruction,
                responses=judged.responses,
                english_answers=english.get(group.prompt.id, ()),
                name=judged.name,
            )
            for group, (judged, _) in zip(window, asked, strict=True)
        ]
        for group, (judged, own), ratings in zip(window, asked, rater.rate(to_rate, advance=advance), strict=True):
            yield RatedPrompt(
                prompt=group.prompt,
                rated_by=source,
                judged_under=judged.instruction,
                responses=tuple(
                    RatedResponse(response=response, rating=rating, n_tokens=_n_tokens(response, count_tokens))
                    for response, rating in zip(own, ratings, strict=True)
                    if rating is not None
                ),
            )


def _n_tokens(response: Response, count_tokens: Callable[[Response], int]) -> int:
    """The response's length in tokens; 0 (not known) of a text that the policy's tokenizer refuses."""
    if response.token_ids is not None:
        return len(response.token_ids)
    try:
        return count_tokens(response)
    except ValueError:  # it holds a special token: no reason to lose the ratings of all others
        return 0


def _english_answers(sampled: StageDir) -> dict[str, tuple[str, ...]]:
    """The sampled English answers by prompt, which MAPO's rater compares the others with."""
    return {
        group.prompt.id: tuple(response.text for response in group.responses) for group in stream_sampled(sampled, "en")
    }


def _counts(stage: StageDir) -> dict[str, Any]:
    """Prompts, rated responses, and the mean rating of each language."""
    found: dict[str, Any] = {}
    for language in stage.languages():
        prompts, responses, mean = 0, 0, Mean()
        for group in stream_ranked(stage, language):
            prompts, responses = prompts + 1, responses + len(group.responses)
            mean.add(*(response.score for response in group.responses))
        found[language] = {"prompts": prompts, "responses": responses, "mean_rating": mean.value}
    return found

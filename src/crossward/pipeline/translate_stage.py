"""The translate stage: sampled responses in English for the translated view, English ones in the others for lidr.

Shard by shard beside the sampled ones, with the same prompts; a translation that failed is an empty text and is counted
by its reason. English prompts have no shards here.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from crossward.core.records import Response, SampledPrompt
from crossward.core.translation import Translation
from crossward.engines.protocols import KeptRows, LanguageIdentifier, Translator
from crossward.pipeline.progress import Progress
from crossward.pipeline.run_stage import Inputs, Made, run_stage
from crossward.pipeline.stage_files import stream_sampled
from crossward.pipeline.streams import SAMPLE_WINDOW
from crossward.pipeline.translating import translate_texts
from crossward.store import tables
from crossward.store.keyed_lines import KeyedLines
from crossward.store.manifest import StageManifest
from crossward.store.run_dir import StageDir
from crossward.store.shard_reasons import read_reasons, write_reasons

Shard = tuple[str, int, Path]  # of sampled responses: language, index, path
Twins = Mapping[str, Sequence[Response]]  # English responses by prompt id


def translate(
    stage: StageDir,
    sampled: StageDir,
    *,
    from_english: bool = False,
    open_translator: Callable[[KeptRows], AbstractContextManager[Translator]],
    open_identifier: Callable[[], LanguageIdentifier | None],
    attempts: int,
    checks: bool,
    window: int = SAMPLE_WINDOW,
    settings: Mapping[str, Any],
    inputs: Inputs,
    progress: Progress,
) -> StageManifest:
    """Translate what is missing: every prompt's own responses into English, or its twin's `from_english`.

    `window` texts are asked for together. A stage that was cut asks for no text again that was translated: they are
    kept in `stage.answers` until it is done. Languages whose every translation failed are told: nothing can be judged
    there.
    """

    def work() -> Made:
        shards = [found for found in sampled.shards() if found[0] != "en"]
        missing = [found for found in shards if not stage.shard(*found[:2]).exists()]
        if missing:
            total = sum(tables.count_responses(path) for _, _, path in missing)
            english = stream_sampled(sampled, "en")
            twins = {group.prompt.id: group.responses for group in english} if from_english else None
            identifier = open_identifier() if checks else None
            with (
                progress.task(f"{stage.title}: texts", total) as advance,
                KeyedLines(stage.answers) as kept,
                open_translator(kept) as translator,
            ):
                asked = partial(
                    translate_texts,
                    translator,
                    attempts=attempts,
                    identifier=identifier,
                    checks=checks,
                    kept=kept,
                    window=window,
                    advance=advance,
                )
                for shard in missing:
                    _translate_shard(stage, shard, twins, asked)
        stage.answers.unlink(missing_ok=True)
        counts = {language: _counts(stage, shards, language) for language in dict.fromkeys(code for code, *_ in shards)}
        for language, found in counts.items():
            if found["responses"] and not found["translated"]:
                progress.say(f"{stage.title}: no response of {language} could be translated: {found['problems']}")
        return [stage.shard(*found[:2]) for found in shards], {"languages": counts}

    made = {"from_english": from_english, "attempts": attempts, "checks": checks, **settings}
    return run_stage(stage, inputs, made, work, progress=progress)


def _translate_shard(
    stage: StageDir, shard: Shard, twins: Twins | None, asked: Callable[..., Sequence[Translation]]
) -> None:
    """Translate the responses of a shard into English, or those of its English `twins` into its language."""
    language, index, path = shard
    source, target = (language, "en") if twins is None else ("en", language)
    groups = tables.read_sampled(path)
    rows = [group.responses if twins is None else twins[group.prompt.id] for group in groups]
    found = iter(asked([response.text for row in rows for response in row], source=source, target=target))
    said = [[next(found) for _ in row] for row in rows]
    problems = Counter(one.problem for row in said for one in row if one.problem is not None)
    write_reasons(stage.reasons_file(language, index), {"problems": problems})
    tables.write_sampled(stage.shard(language, index), map(_as_group, groups, said))


def _as_group(group: SampledPrompt, said: Sequence[Translation]) -> SampledPrompt:
    return SampledPrompt(
        prompt=group.prompt, responses=tuple(Response(text=translation.text or "") for translation in said)
    )


def _counts(stage: StageDir, shards: Sequence[Shard], language: str) -> dict[str, Any]:
    said = [bool(response.text) for group in stream_sampled(stage, language) for response in group.responses]
    own = (stage.reasons_file(code, index) for code, index, _ in shards if code == language)
    return {"responses": len(said), "translated": sum(said), **read_reasons(own, "problems")}

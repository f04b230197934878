"""The translate stage: sampled responses in English for the translated view, English ones in the others for lidr.

Shard by shard beside the sampled ones, with the same prompts; a translation that failed is an empty text and is counted
by its reason. English prompts have no shards here.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from crossward.core.records import Response, SampledPrompt
from crossward.core.translation import Translation
from crossward.engines.protocols import KeptRows, LanguageIdentifier, Translator
from crossward.pipeline.progress import Progress
from crossward.pipeline.run_stage import Inputs, Made, run_stage
from crossward.pipeline.stage_files import stream_sampled
from crossward.pipeline.translating import translate_texts
from crossward.store import tables
from crossward.store.keyed_lines import KeyedLines
from crossward.store.manifest import StageManifest
from crossward.store.run_dir import StageDir


def translate(
    stage: StageDir,
    sampled: StageDir,
    *,
    from_english: bool = False,
    open_translator: Callable[[KeptRows], AbstractContextManager[Translator]],
    open_identifier: Callable[[], LanguageIdentifier | None],
    attempts: int,
    checks: bool,
    settings: Mapping[str, Any],
    inputs: Inputs,
    progress: Progress,
) -> StageManifest:
    """Translate what is missing: every prompt's own responses into English, or its twin's `from_english`.

    A stage that was cut asks for no text again that was translated: they are kept in `stage.answers` until it is done.
    Languages whose every translation failed are told: nothing can be judged there.
    """

    def work() -> Made:
        others = [found for found in sampled.shards() if found[0] != "en"]
        shards = [(language, stage.shard(language, i), path) for language, i, path in others]
        missing = [found for found in shards if not found[1].exists()]
        problems: dict[str, Counter[str]] = {}
        if missing:
            total = sum(tables.count_responses(path) for _, _, path in missing)
            twins = {group.prompt.id: group.responses for group in stream_sampled(sampled, "en") if from_english}
            identifier = open_identifier() if checks else None
            with (
                KeyedLines(stage.answers) as kept,
                open_translator(kept) as translator,
                progress.task(f"{stage.title}: texts", total) as advance,
            ):
                for language, path, shard in missing:
                    groups = tables.read_sampled(shard)
                    asked = [twins[group.prompt.id] if from_english else group.responses for group in groups]
                    found = iter(
                        translate_texts(
                            translator,
                            [response.text for responses in asked for response in responses],
                            source="en" if from_english else language,
                            target=language if from_english else "en",
                            attempts=attempts,
                            identifier=identifier,
                            checks=checks,
                            kept=kept,
                            advance=advance,
                        )
                    )
                    said = [[next(found) for _ in responses] for responses in asked]
                    problems.setdefault(language, Counter()).update(
                        translation.problem for row in said for translation in row if translation.problem is not None
                    )
                    tables.write_sampled(path, map(_as_group, groups, said))
        stage.answers.unlink(missing_ok=True)
        counts = {language: _counts(stage, language) for language in sampled.languages() if language != "en"}
        for language, found in counts.items():
            found["problems"] = dict(problems.get(language, {}))
            if found["responses"] and not found["translated"]:
                progress.say(f"{stage.title}: no response of {language} could be translated: {found['problems']}")
        return [path for _, path, _ in shards], {"languages": counts}

    made = {"from_english": from_english, "attempts": attempts, "checks": checks, **settings}
    return run_stage(stage, inputs, made, work)


def _as_group(group: SampledPrompt, said: Sequence[Translation]) -> SampledPrompt:
    return SampledPrompt(
        prompt=group.prompt, responses=tuple(Response(text=translation.text or "") for translation in said)
    )


def _counts(stage: StageDir, language: str) -> dict[str, Any]:
    said = [bool(response.text) for group in stream_sampled(stage, language) for response in group.responses]
    return {"responses": len(said), "translated": sum(said)}

"""The translate stage: sampled responses in English for the translated view, English ones in the others for lidr.

Shard by shard beside the sampled ones, with the same prompts; a translation that failed is an empty text and is counted
by its reason. English prompts have no shards here.
"""

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from crossward.core.records import Response, SampledPrompt
from crossward.core.translation import Translation
from crossward.engines.protocols import Advance, KeptRows, LanguageIdentifier, Translator
from crossward.engines.workers import IN_PROCESS, Piece, Step, Workers
from crossward.pipeline.progress import Progress
from crossward.pipeline.run_stage import Inputs, Made, run_stage
from crossward.pipeline.stage_files import in_place, prompts_of, stream_sampled
from crossward.pipeline.streams import SAMPLE_WINDOW
from crossward.pipeline.translating import translate_texts
from crossward.store import tables
from crossward.store.keyed_lines import KeyedLines
from crossward.store.manifest import StageManifest
from crossward.store.run_dir import StageDir
from crossward.store.shard_reasons import read_reasons, write_reasons


def translate(
    stage: StageDir,
    sampled: StageDir,
    *,
    from_english: bool = False,
    open_translator: Callable[[KeptRows | None], Translator],
    open_identifier: Callable[[], LanguageIdentifier | None],
    attempts: int,
    checks: bool,
    window: int = SAMPLE_WINDOW,
    settings: Mapping[str, Any],
    inputs: Inputs,
    workers: Workers = IN_PROCESS,
    progress: Progress,
) -> StageManifest:
    """Translate what is missing: every prompt's own responses into English, or its twin's `from_english`.

    `window` texts are asked for together. A stage that was cut asks for no text again that this process translated:
    they are kept in `stage.answers` until it is done. Languages whose every translation failed are told: nothing can be
    judged there.
    """

    def work() -> Made:
        shards = [
            Piece(language=language, index=index, source=path, target=stage.shard(language, index))
            for language, index, path in sampled.shards()
            if language != "en"
        ]
        opened = partial(
            _open_desk,
            open_translator,
            open_identifier if checks else None,
            kept=stage.answers if workers.here else None,
            twins=sampled if from_english else None,
        )
        asked = partial(_translate_piece, attempts, checks, window)
        missing = [piece for piece in shards if not _is_there(piece)]
        if missing:
            missing = [replace(piece, n=tables.count_responses(piece.made_from)) for piece in missing]
            _tell_damage(stage, progress)
            with (
                progress.task(f"{stage.title}: texts", sum(piece.n for piece in missing)) as advance,
                workers.crew([Step(name="translator", open=opened, do=asked)]) as crew,
            ):
                for piece, said in crew.stream(missing, advance_of=lambda piece: advance):
                    _write_shard(stage, piece, said)
        stage.answers.unlink(missing_ok=True)
        counts = {language: _counts(stage, shards, language) for language in dict.fromkeys(p.language for p in shards)}
        for language, found in counts.items():
            if found["responses"] and not found["translated"]:
                progress.say(f"{stage.title}: no response of {language} could be translated: {found['problems']}")
        return [piece.target for piece in shards], {"languages": counts}

    made = {"from_english": from_english, "attempts": attempts, "checks": checks, **settings}
    return run_stage(stage, inputs, made, work, progress=progress)


def _is_there(piece: Piece) -> bool:
    there = piece.target.exists()
    if there:
        deque(in_place(piece.target, tables.stream_sampled(piece.target), prompts_of(piece.made_from)), maxlen=0)
    return there


def _tell_damage(stage: StageDir, progress: Progress) -> None:
    """Say what of the kept answers is not as it was written."""
    if stage.answers.is_file():
        with KeyedLines(stage.answers) as kept:
            if kept.told is not None:
                progress.say(kept.told)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Desk:
    """What translates a shard. `twins`: English responses by prompt id, translated in the place of the shard's."""

    translator: Translator
    identifier: LanguageIdentifier | None
    kept: KeyedLines | None
    twins: Mapping[str, Sequence[Response]] | None

    def close(self) -> None:
        self.translator.close()
        if self.kept is not None:
            self.kept.close()


def _open_desk(
    open_translator: Callable[[KeptRows | None], Translator],
    open_identifier: Callable[[], LanguageIdentifier | None] | None,
    *,
    kept: Path | None,
    twins: StageDir | None,
) -> _Desk:
    rows = None if kept is None else KeyedLines(kept)
    english = None if twins is None else stream_sampled(twins, "en")
    return _Desk(
        translator=open_translator(rows),
        identifier=None if open_identifier is None else open_identifier(),
        kept=rows,
        twins=None if english is None else {group.prompt.id: group.responses for group in english},
    )


def _translate_piece(
    attempts: int, checks: bool, window: int, desk: _Desk, piece: Piece, nothing: None, advance: Advance
) -> list[list[Translation]]:
    """A shard's responses in English, or their English twins' in its language: a list a prompt."""
    source, target = (piece.language, "en") if desk.twins is None else ("en", piece.language)
    groups = tables.read_sampled(piece.made_from)
    rows = [group.responses if desk.twins is None else desk.twins[group.prompt.id] for group in groups]
    found = iter(
        translate_texts(
            desk.translator,
            [response.text for row in rows for response in row],
            source=source,
            target=target,
            attempts=attempts,
            identifier=desk.identifier,
            checks=checks,
            kept=desk.kept,
            window=window,
            advance=advance,
        )
    )
    return [[next(found) for _ in row] for row in rows]


def _write_shard(stage: StageDir, piece: Piece, said: Sequence[Sequence[Translation]]) -> None:
    problems = Counter(one.problem for row in said for one in row if one.problem is not None)
    write_reasons(stage.reasons_file(piece.language, piece.index), {"problems": problems})
    tables.write_sampled(piece.target, map(_as_group, tables.stream_sampled(piece.made_from), said))


def _as_group(group: SampledPrompt, said: Sequence[Translation]) -> SampledPrompt:
    return SampledPrompt(
        prompt=group.prompt, responses=tuple(Response(text=translation.text or "") for translation in said)
    )


def _counts(stage: StageDir, shards: Sequence[Piece], language: str) -> dict[str, Any]:
    said = [bool(response.text) for group in stream_sampled(stage, language) for response in group.responses]
    own = (stage.reasons_file(language, piece.index) for piece in shards if piece.language == language)
    return {"responses": len(said), "translated": sum(said), **read_reasons(own, "problems")}

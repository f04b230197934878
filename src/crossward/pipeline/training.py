"""The train stage: DPO + NLL on the pairs of all languages over an explicit reference."""

import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict

from crossward.engines.protocols import Judged, Scorer, Trainer, Training, TrainingPair
from crossward.pipeline.progress import Progress
from crossward.pipeline.replay import Replayed
from crossward.pipeline.run_stage import Inputs, Made, run_stage
from crossward.pipeline.stage_files import read_pairs
from crossward.store import manifest
from crossward.store.manifest import StageManifest
from crossward.store.run_dir import StageDir
from crossward.store.training_result import read_result, write_result


def train(
    stage: StageDir,
    paired: StageDir,
    *,
    open_reference: Callable[[], Scorer],
    open_trainer: Callable[[], Trainer],
    training: Training,
    replay: Replayed | None = None,
    inputs: Inputs,
    progress: Progress,
) -> StageManifest:
    """DPO + NLL on the pairs of all languages, on the prompts in their own language, over an explicit reference.

    `replay`: offline pairs that are mixed in (core/replay.py).

    The reference's log-probabilities are computed once, before training: any checkpoint may be the reference (with LoRA
    the previous adapter too) and it is never in memory beside the policy that trains.
    """

    def work() -> Made:
        pairs = read_pairs(paired)
        if not pairs:
            raise ValueError(f"{paired.path} holds no pairs to train on: look at its stage.json for the reasons")
        if not stage.checkpoint.exists():
            judged = [
                Judged(
                    instruction=pair.prompt.instruction,
                    responses=(pair.chosen.response, pair.rejected.response),
                    name=f"prompt {pair.prompt.id!r} ({pair.prompt.language})",
                )
                for pair in pairs
            ]
            offline = [] if replay is None else replay.draw([pair.prompt for pair in pairs], seed=training.seed)
            judged += offline
            with closing(open_reference()) as reference:
                ready = with_reference(judged, reference, progress, title=f"{stage.title}: ")
            with progress.task(f"{stage.title}: optimiser steps", training.steps(len(ready))) as advance:

                def stepped(n: int) -> None:
                    advance(n)
                    progress.trained(stage.title, stage.metrics)

                result = open_trainer().train(
                    ready, training, output=stage.checkpoint, metrics=stage.metrics, advance=stepped
                )
            result = counting_left_out(result, len(judged) - len(ready)) | {"replayed": len(offline)}
            write_result(stage.trained, result)
        elif (kept := read_result(stage.trained)) is not None:
            result = kept
        else:
            progress.say(
                f"{stage.title}: the checkpoint is there, what the trainer counted is lost: its last step is told"
            )
            result = manifest.last_metrics(stage)
        return [path for path in stage.checkpoint.rglob("*") if path.is_file()], {"training": result}

    mixed = {} if replay is None else {"replay_share": replay.share}
    origin = {} if replay is None else {"replay": replay.sha256}
    done = run_stage(stage, {**inputs, **origin}, asdict(training) | mixed, work, progress=progress)
    shutil.rmtree(stage.training_state, ignore_errors=True)  # a kill may have come between checkpoint and removal
    return done


def with_reference(
    pairs: Sequence[Judged], reference: Scorer, progress: Progress, *, title: str = ""
) -> list[TrainingPair]:
    """Attach log π_ref to (chosen, rejected) under the prompt that is trained (the prompt's own language).

    Pairs with a response that is too long for the reference are left out and told. ValueError where none is left.
    """
    with progress.task(f"{title}reference log-probabilities", 2 * len(pairs)) as advance:
        logprobs = reference.score(pairs, advance=advance)
    ready = [
        TrainingPair(
            instruction=pair.instruction,
            chosen=pair.responses[0],
            rejected=pair.responses[1],
            reference_chosen_logprob=chosen.logprob,
            reference_rejected_logprob=rejected.logprob,
        )
        for pair, (chosen, rejected) in zip(pairs, logprobs, strict=True)
        if chosen is not None and rejected is not None
    ]
    if len(ready) < len(pairs):
        said = f"{title}{len(pairs) - len(ready)} of {len(pairs)} pairs are too long for the reference's context"
        if not ready:
            raise ValueError(f"{said}: none is left to train on, so sample shorter responses")
        progress.say(f"{said} and are left out")
    return ready


def counting_left_out(result: dict[str, float], n_left_out: int) -> dict[str, float]:
    """What a trainer says of itself, with the pairs that never reached it among those dropped as too long."""
    return result | {"dropped_too_long": result.get("dropped_too_long", 0) + n_left_out}

"""The train stage: DPO + NLL on the pairs of all languages over an explicit reference."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict

from crossward.engines.protocols import Judged, Scorer, Trainer, Training, TrainingPair
from crossward.engines.workers import IN_PROCESS, Workers
from crossward.pipeline.progress import Progress
from crossward.pipeline.reference_windows import Windows, score_pairs, scored_pairs, tell_left_out
from crossward.pipeline.replay import Replayed
from crossward.pipeline.run_stage import Inputs, Made, run_stage
from crossward.pipeline.stage_files import stream_pairs
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
    workers: Workers = IN_PROCESS,
    progress: Progress,
) -> StageManifest:
    """DPO + NLL on the pairs of all languages, on the prompts in their own language, over an explicit reference.

    `replay`: offline pairs that are mixed in (core/replay.py).

    The reference's log-probabilities are computed once, before training: any checkpoint may be the reference (with LoRA
    the previous adapter too) and it is never in memory beside the policy that trains.
    """

    def work() -> Made:
        if not stage.checkpoint.exists():
            pieces = list(Windows().pieces(stage, paired))
            if not pieces:
                raise ValueError(f"{paired.path} holds no pairs to train on: look at its stage.json for the reasons")
            own = (pair.prompt for pair in stream_pairs(paired))
            windows = Windows(offline=() if replay is None else replay.draw(own, seed=training.seed))
            pieces += windows.pieces(stage)
            ready = score_pairs(
                pieces, windows, title=stage.title, open_reference=open_reference, workers=workers, progress=progress
            )
            with progress.task(f"{stage.title}: optimiser steps", training.steps(ready)) as advance:

                def stepped(n: int) -> None:
                    advance(n)
                    progress.trained(stage.title, stage.metrics)

                n_left_out = sum(piece.n for piece in pieces) // 2 - ready

                def counted(result: dict[str, float]) -> dict[str, float]:
                    return counting_left_out(result, n_left_out) | {"replayed": len(windows.offline)}

                trained = open_trainer().train(
                    scored_pairs(pieces, windows),
                    training,
                    output=stage.checkpoint,
                    metrics=stage.metrics,
                    advance=stepped,
                    keep=lambda result: write_result(stage.trained, counted(result)),
                )
            result = counted(trained)
        elif (kept := read_result(stage.trained)) is not None:
            result = kept
        else:
            progress.say(f"{stage.title}: what the trainer of this checkpoint counted is lost: its last step is told")
            result = manifest.last_metrics(stage)
        shutil.rmtree(stage.references, ignore_errors=True)
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
    tell_left_out(len(pairs), len(ready), title, progress)
    return ready


def counting_left_out(result: dict[str, float], n_left_out: int) -> dict[str, float]:
    """What a trainer says of itself, with the pairs that never reached it among those dropped as too long."""
    return result | {"dropped_too_long": result.get("dropped_too_long", 0) + n_left_out}

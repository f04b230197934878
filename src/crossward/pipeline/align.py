"""π_0 from π_I: one model, one file of preferences, one method (DPO, KTO, SimPO or ORPO).

For whoever has only an SFT model: what comes out, beside that model, is what `crossward run` starts from. Killed and
called again, it continues; called again when it is done, it says so.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

from crossward import __version__
from crossward.engines.protocols import Alignment, ModelSpec
from crossward.engines.tokens import ChatTokens, load_tokens
from crossward.pipeline.align_rows import (
    Rows,
    answers_with_reference,
    as_answers,
    fitting,
    pairs_with_reference,
    with_own_ids,
)
from crossward.pipeline.progress import Progress
from crossward.store.align_manifest import AlignManifest, begun, write_manifest
from crossward.store.json_lines import read_json_lines
from crossward.store.pair_rows import PairRow
from crossward.store.preference_file import AnswerRow, Preferences, read_preferences

Summary = dict[str, Any]


def align_file(
    model: ModelSpec,
    preferences: str,
    output: Path,
    *,
    alignment: Alignment,
    limit: int | None = None,
    split: str = "train",
    config: str | None = None,
    progress: Progress,
) -> Summary:
    """Train and write the checkpoint `output`, with its metrics and its align.json beside it; returns the summary."""
    from crossward.engines.models import model_fingerprint, settle

    _require_sound(alignment)
    settle()
    read = read_preferences(preferences, limit=limit, split=split, config=config)
    if read.unpaired and alignment.method != "kto":
        raise ValueError(
            f"{preferences} holds single answers with a verdict ({read.format}), which only kto trains: take "
            f"--method kto, or name a file of pairs for {alignment.method}"
        )
    inputs = {"model": model_fingerprint(model), "preferences": read.sha256}
    settings = _settings(alignment) | {"dtype": model.dtype, "limit": limit}
    known = begun(output, inputs, settings)
    if known is not None and known.training is not None:
        progress.say(f"{output} is done already, with these preferences and settings: nothing to do")
        return _summary(output, alignment, known)

    tokens = load_tokens(model)
    rows, longest, counts = _rows(read, model, tokens, alignment, progress)
    _tell(counts, rows, alignment, progress)
    manifest = AlignManifest(inputs=inputs, settings=settings, counts=counts, crossward=__version__)
    write_manifest(output, manifest)
    if output.exists():  # killed between the checkpoint's rename and the end of align.json
        training = _last_step(output)
    else:
        training = _train(model, tokens, rows, longest, alignment, output, progress)
    manifest = replace(manifest, training=training)
    write_manifest(output, manifest)
    return _summary(output, alignment, manifest)


def _require_sound(alignment: Alignment) -> None:
    training = alignment.training
    if training.batch_size % training.micro_batch_size:
        raise ValueError(
            f"batch_size must be a multiple of micro_batch_size, got {training.batch_size} and "
            f"{training.micro_batch_size}"
        )
    if alignment.method == "kto" and training.micro_batch_size < 2:
        raise ValueError(
            "kto measures how far the policy has moved on the answers of one micro-batch, exchanged among its prompts: "
            f"it needs a micro_batch_size of 2 or more, got {training.micro_batch_size}"
        )
    if training.beta <= 0:
        raise ValueError(f"beta must be above 0, got {training.beta:g}: at 0 preferences teach nothing")


def _settings(alignment: Alignment) -> dict[str, Any]:
    """All that decides the result, flat."""
    settings = asdict(alignment)
    return settings.pop("training") | settings


def _rows(
    read: Preferences, model: ModelSpec, tokens: ChatTokens, alignment: Alignment, progress: Progress
) -> tuple[Rows, int, dict[str, Any]]:
    """What is trained, the most tokens that a row may have, and the counts. For KTO a pair is two answers."""
    from crossward.engines.models import base_spec, max_positions, read_config

    kto, max_length = alignment.method == "kto", alignment.training.max_length
    positions = max_positions(read_config(base_spec(model)))
    # A pair fits as a whole, also where it becomes two answers: the longer kind must not be left out more often.
    rows = with_own_ids(read.unpaired or read.pairs, tokens, progress)
    rows, too_long = fitting(rows, tokens, max_length=max_length, positions=positions)
    if kto and not read.unpaired:
        rows = as_answers(cast(list[PairRow], rows))
    reasons = dict(Counter(read.left_out) + too_long)
    if not rows:
        raise ValueError(
            f"nothing is left to train on ({_told(reasons)}): raise --max-length (now {max_length}) or look at the file"
        )
    verdicts = {row.desirable for row in rows if isinstance(row, AnswerRow)}
    if kto and len(verdicts) == 1:
        raise ValueError(f"all {len(rows)} answers are {'' if verdicts.pop() else 'un'}desirable: kto needs both kinds")
    counts = {"rows": read.n_rows, "format": read.format, "answers" if kto else "pairs": len(rows), "left_out": reasons}
    return rows, min(max_length, positions or max_length), counts


def _tell(counts: Mapping[str, Any], rows: Rows, alignment: Alignment, progress: Progress) -> None:
    unit = "answers" if alignment.method == "kto" else "pairs"
    progress.say(
        f"{counts['rows']} rows read as {counts['format']}, {len(rows)} {unit} to train on; left out: "
        f"{_told(counts['left_out'])}"
    )
    if alignment.method != "kto":
        return
    n_desirable = sum(row.desirable for row in rows if isinstance(row, AnswerRow))
    ratio = alignment.desirable_weight * n_desirable / (alignment.undesirable_weight * (len(rows) - n_desirable))
    if not 0.99 <= ratio <= 4 / 3:
        progress.say(
            f"{n_desirable} of {len(rows)} answers are desirable: with these weights the ratio of both sides is "
            f"{ratio:.2f}, where KTO's authors advise 1 to 1.33 (--desirable-weight, --undesirable-weight)"
        )


def _train(
    model: ModelSpec,
    tokens: ChatTokens,
    rows: Rows,
    longest: int,
    alignment: Alignment,
    output: Path,
    progress: Progress,
) -> dict[str, float]:
    """Score what needs a reference under the model itself, then train."""
    from crossward.engines.hf_scorer import HfScorer
    from crossward.engines.trl_align import AlignTrainer

    training, metrics = alignment.training, _metrics(output)
    reads_reference = alignment.method in ("dpo", "kto")
    reference = HfScorer(model, tokens) if reads_reference else None
    trainer = AlignTrainer(model, tokens, alignment, say=progress.say)
    if alignment.method == "kto":
        assert reference is not None
        answers = answers_with_reference(
            cast(list[AnswerRow], rows),
            reference,
            tokens,
            micro_batch_size=training.micro_batch_size,
            longest=longest,
            seed=training.seed,
            progress=progress,
        )
        with progress.task("optimiser steps", training.steps(len(answers))) as advance:
            return trainer.train_answers(answers, output=output, metrics=metrics, advance=advance)
    pairs = pairs_with_reference(cast(list[PairRow], rows), reference, progress)
    with progress.task("optimiser steps", training.steps(len(pairs))) as advance:
        result = trainer.train(pairs, training, output=output, metrics=metrics, advance=advance)
    return {key: value for key, value in result.items() if key != "dropped_too_long"}  # counted before


def _metrics(output: Path) -> Path:
    return output.with_name(output.name + ".metrics.jsonl")


def _last_step(output: Path) -> dict[str, Any]:
    lines = [row for _, row in read_json_lines(_metrics(output))]
    last = {key: value for key, value in lines[-1].items() if key != "step"}
    return last | {"steps": lines[-1]["step"]}


def _summary(output: Path, alignment: Alignment, manifest: AlignManifest) -> Summary:
    return {"output": str(output), "method": alignment.method, **manifest.counts, **(manifest.training or {})}


def _told(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {n}" for reason, n in reasons.items()) or "nothing"

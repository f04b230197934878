"""OpenRLHF 0.11: conversational pairs, and the command that trains on them with the run's own settings.

Its reward dataset is told the columns' names and applies the chat template by itself. Nothing of it is imported.
"""

import shlex
from pathlib import Path

from crossward.pipeline.exports.exported_run import ExportedRun
from crossward.pipeline.exports.pairs_source import PairSource
from crossward.pipeline.exports.rows import TRAIN, Written, all_pairs, conversational, shown_path, whole
from crossward.store.files import write_text
from crossward.store.json_lines import write_json_lines

SCRIPT = "train.sh"
_SCHEDULERS = {"constant": "constant_with_warmup"}  # what transformers calls them


def write_openrlhf(
    folder: Path, source: PairSource, *, run: ExportedRun | None, iteration: int, output: Path
) -> Written:
    """train.jsonl, and for a run train.sh."""
    known = source.known
    write_json_lines(folder / TRAIN, (conversational(pair, known) for pair in all_pairs(source)))
    if run is None:
        command = "python -m openrlhf.cli.train_dpo " + shlex.join(_data(output))
        return Written(commands=(command,), notes=("a file of pairs names no model: add it, and the settings",))
    write_text(folder / SCRIPT, script(run, iteration, output))
    return Written(commands=(f"bash {shlex.quote(shown_path(output, SCRIPT))}",), notes=_notes(run))


def script(run: ExportedRun, iteration: int, output: Path) -> str:
    """The training of one iteration as OpenRLHF would do it."""
    train, policy = run.config.train, run.policy(iteration - 1)
    options = [
        *("--model.model_name_or_path", policy),
        *("--ref.model_name_or_path", run.training_reference(iteration) or policy),
        *("--model.beta", str(train.beta)),
        *("--model.nll_loss_coef", str(train.nll_weight)),
        *("--adam.lr", str(train.learning_rate), "--adam.weight_decay", str(train.weight_decay)),
        *("--adam.betas", "0.9", "0.999"),
        *(
            "--lr_scheduler",
            _SCHEDULERS.get(train.scheduler, train.scheduler),
            "--lr_warmup_ratio",
            str(train.warmup_ratio),
        ),
        *("--max_norm", str(train.max_grad_norm)),
        *("--train.max_epochs", str(max(1, round(train.epochs)))),
        *("--train.batch_size", str(train.batch_size), "--train.micro_batch_size", str(train.micro_batch_size)),
        *("--train.seed", str(run.config.seed % 2**32)),
        *("--ckpt.output_dir", shown_path(output, "checkpoint")),
        *_data(output),
        *("--data.max_len", str(train.max_length)),
    ]
    if train.gradient_checkpointing:
        options.append("--model.gradient_checkpointing_enable")
    if train.lora is not None:
        options += ["--ds.lora.rank", str(train.lora.rank), "--ds.lora.alpha", str(whole(train.lora.alpha))]
        options += ["--ds.lora.dropout", str(train.lora.dropout)]
    lines = " \\\n    ".join(_two_by_two(options))
    head = "#!/bin/sh\n# OpenRLHF 0.11; for more GPUs: deepspeed --module openrlhf.cli.train_dpo, and the same options"
    return f"{head}\npython -m openrlhf.cli.train_dpo \\\n    {lines}\n"


def _data(output: Path) -> list[str]:
    return [
        *("--data.dataset", shown_path(output, TRAIN)),
        *("--data.prompt_key", "prompt", "--data.chosen_key", "chosen", "--data.rejected_key", "rejected"),
        "--data.apply_chat_template",
    ]


def _two_by_two(options: list[str]) -> list[str]:
    """An option and its values a line, quoted for a shell."""
    lines: list[list[str]] = []
    for option in options:
        if option.startswith("--"):
            lines.append([option])
        else:
            lines[-1].append(option)
    return [shlex.join(line) for line in lines]


def _notes(run: ExportedRun) -> tuple[str, ...]:
    train, notes = run.config.train, []
    if train.epochs != round(train.epochs) or train.max_steps is not None:
        notes.append("OpenRLHF counts whole epochs and no steps: train.epochs is rounded, train.max_steps left out")
    if train.lora is not None:
        notes.append("train.sh starts a new adapter: over an iteration's own adapter merge that first")
        if train.lora.alpha != int(train.lora.alpha):
            notes.append(
                f"OpenRLHF takes whole numbers for --ds.lora.alpha and will refuse {train.lora.alpha}: change it in "
                "train.sh"
            )
    return tuple(notes)

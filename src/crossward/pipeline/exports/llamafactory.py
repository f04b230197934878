"""LLaMA-Factory 0.9.5: ranking data in its sharegpt form, dataset_info.json, and a training YAML of the run's settings.

One data set a language, so that its own mixing can weigh them. Nothing of it is imported.
"""

import json
import shlex
from pathlib import Path
from typing import Any

import yaml

from crossward.core.exported import ExportedPair
from crossward.core.plain_text import visible_line
from crossward.pipeline.exports.exported_run import ExportedRun
from crossward.pipeline.exports.pairs_source import PairSource, require_file_names
from crossward.pipeline.exports.rows import Row, Written, facts, shown_path, whole
from crossward.store.files import write_text
from crossward.store.json_lines import write_json_lines

INFO, TRAINING = "dataset_info.json", "dpo.yaml"
_HEAD = """\
# DPO + NLL with LLaMA-Factory 0.9.5, as crossward trains: llamafactory-cli train {path}
# Its pref_ftx is the mean over a response's own tokens, then over the batch: train.nll_normalisation sequence.
# `template` is left out: LLaMA-Factory then reads the model's own chat template. Name one of its templates where it
# cannot (template: llama3), and mind that some of them add a system prompt that crossward never showed the model.
"""
_DEVICES = """
# For one device. On n of them divide gradient_accumulation_steps by n: the batch of crossward's train.batch_size.
"""
_ADAPTER = """
# Without ref_model LLaMA-Factory takes the model with its adapter switched off for the reference; over a policy that is
# itself an adapter that is the bare base model, not the policy. Merge the adapter first, and name the merged folder.
"""


def dataset_name(language: str) -> str:
    """What a language's data set is called in dataset_info.json."""
    return f"crossward_{language}"


def write_llamafactory(
    folder: Path, source: PairSource, *, run: ExportedRun | None, iteration: int, output: Path
) -> Written:
    """<language>.jsonl, dataset_info.json, and for a run dpo.yaml."""
    languages, known = source.languages, source.known
    require_file_names(languages)
    for language in languages:
        write_json_lines(folder / f"{language}.jsonl", (sharegpt(pair, known) for pair in source.of(language)))
    info = {dataset_name(language): _entry(language) for language in languages}
    write_text(folder / INFO, json.dumps(info, indent=2) + "\n")
    if run is None:
        note = "a file of pairs names no model: dpo.yaml is written for a run; name dataset and dataset_dir in your own"
        return Written(notes=(note,))
    write_text(folder / TRAINING, training_yaml(run, iteration, languages, output))
    return Written(commands=(f"llamafactory-cli train {_quoted(output)}",), notes=_notes(run))


def sharegpt(pair: ExportedPair, known: frozenset[str]) -> Row:
    """One ranking example."""
    return {
        "conversations": [{"from": "human", "value": pair.instruction}],
        "chosen": {"from": "gpt", "value": pair.chosen},
        "rejected": {"from": "gpt", "value": pair.rejected},
        **facts(pair, known),
    }


def training_yaml(run: ExportedRun, iteration: int, languages: list[str], output: Path) -> str:
    """The training of one iteration as LLaMA-Factory's command takes it."""
    train, config = run.config.train, run.config
    model: dict[str, Any] = {"model_name_or_path": run.policy(iteration - 1)}
    if config.models.policy in config.trusted:
        model["trust_remote_code"] = True
    method: dict[str, Any] = {
        "stage": "dpo",
        "do_train": True,
        "pref_loss": "sigmoid",
        "pref_beta": train.beta,
        "pref_ftx": train.nll_weight,
        "finetuning_type": "full" if train.lora is None else "lora",
    }
    if reference := run.training_reference(iteration):
        method["ref_model"] = reference
    if train.lora is not None:
        target = train.lora.target_modules
        names = target if isinstance(target, str) else ",".join(target)
        method |= {
            "lora_rank": train.lora.rank,
            "lora_alpha": whole(train.lora.alpha),
            "lora_dropout": train.lora.dropout,
            "lora_target": "all" if names == "all-linear" else names,
        }
    data = {
        "dataset": ",".join(dataset_name(language) for language in languages),
        "dataset_dir": shown_path(output),
        "cutoff_len": train.max_length,
    }
    steps: dict[str, Any] = {
        "output_dir": shown_path(output, "checkpoint"),
        "per_device_train_batch_size": train.micro_batch_size,
        "gradient_accumulation_steps": train.batch_size // train.micro_batch_size,
        "learning_rate": train.learning_rate,
        "num_train_epochs": train.epochs,
        "lr_scheduler_type": "constant_with_warmup" if train.scheduler == "constant" else train.scheduler,
        "warmup_ratio": train.warmup_ratio,
        "weight_decay": train.weight_decay,
        "max_grad_norm": train.max_grad_norm,
        "seed": config.seed % 2**32,
        "bf16": config.models.dtype == "bfloat16",
        "disable_gradient_checkpointing": not train.gradient_checkpointing,
        "report_to": "none",
    }
    if train.max_steps is not None:
        steps["max_steps"] = train.max_steps
    adapter = _ADAPTER if train.lora is not None else ""
    parts = [
        _HEAD.format(path=visible_line(_quoted(output))),
        *("\n", _dumped(model), adapter, "\n", _dumped(method), "\n", _dumped(data)),
        *(_DEVICES, _dumped(steps)),
    ]
    return "".join(parts)


def _quoted(output: Path) -> str:
    """The recipe's path as a shell takes it."""
    return shlex.quote(shown_path(output, TRAINING))


def _entry(language: str) -> dict[str, Any]:
    return {
        "file_name": f"{language}.jsonl",
        "ranking": True,
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"},
    }


def _dumped(values: dict[str, Any]) -> str:
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=10**6)


def _notes(run: ExportedRun) -> tuple[str, ...]:
    if run.config.train.nll_normalisation == "tokens":
        return (
            "train.nll_normalisation is tokens, LLaMA-Factory's NLL is a mean by sequence: long responses weigh less",
        )
    return ()

"""Making π_0: KTO, SimPO and ORPO trained, saved and continued as TrlTrainer does DPO.

Only what differs is here: which of TRL's trainers runs, on which rows. Loading, arguments, the folder of a training
that was cut and the checkpoint that appears whole are trl_trainer.py's. Knows no files of preferences and no manifest.
"""

import copy
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedModel
from transformers.trainer_callback import PrinterCallback

from crossward.engines.logprobs import share_prompts
from crossward.engines.models import resolve_device
from crossward.engines.protocols import Advance, Alignment, ModelSpec, Training, TrainingAnswer, no_progress
from crossward.engines.tokens import ChatTokens
from crossward.engines.trl_callbacks import Journal, SaveByTheClock, Steps
from crossward.engines.trl_direct import DirectTrainer
from crossward.engines.trl_kto import AnswerTrainer, answer_rows, kto_arguments
from crossward.engines.trl_pairs import PairTrainer, accept_packs, pair_collator
from crossward.engines.trl_trainer import (
    SAVE_SECONDS,
    TrlTrainer,
    dpo_arguments,
    full_disk_as_oserror,
    last_checkpoint,
    trainable_model,
)


class AlignTrainer(TrlTrainer):
    """protocols.Trainer for DPO, SimPO and ORPO (`train`; the last two read no reference), KTO by `train_answers`."""

    def __init__(
        self, spec: ModelSpec, tokens: ChatTokens, alignment: Alignment, *, save_seconds: float = SAVE_SECONDS
    ) -> None:
        super().__init__(spec, tokens, save_seconds=save_seconds)
        self._alignment = alignment

    def train_answers(
        self,
        answers: Sequence[TrainingAnswer],
        *,
        output: Path,
        metrics: Path,
        advance: Advance = no_progress,
    ) -> dict[str, float]:
        """KTO on answers in their order; saves, logs and continues as `train` does. Nothing is left out here."""
        started = time.monotonic()
        rows = answer_rows(list(answers), self._tokens)
        work = output.with_name(output.name + ".work")
        with full_disk_as_oserror(output.parent):
            trainer = self._kto_trainer(rows, work, metrics)
            trainer.add_callback(Steps(advance))
            trainer.train(resume_from_checkpoint=last_checkpoint(work))
            self._save(trainer.model, self._alignment.training, output)
        shutil.rmtree(work, ignore_errors=True)
        logged = trainer.state.log_history[-2].items()
        last = {key: float(value) for key, value in logged if isinstance(value, int | float)}
        return last | {
            "answers": len(rows),
            "steps": trainer.state.global_step,
            "seconds": round(time.monotonic() - started, 3),
        }

    def _trainer(self, rows: list[dict[str, Any]], training: Training, work: Path, metrics: Path) -> PairTrainer:
        match self._alignment.method:
            case "simpo" | "orpo" as method:
                pass
            case _:
                return super()._trainer(rows, training, work, metrics)
        model, base, device = self._model(training)
        packs = share_prompts(base, training=True) is None
        trainer = DirectTrainer(
            model=model,
            args=dpo_arguments(training, len(rows), work, device, bf16=self._spec.dtype == "bfloat16"),
            train_dataset=Dataset.from_list(rows),
            processing_class=copy.deepcopy(self._tokens.tokenizer),
            data_collator=pair_collator if packs else None,
            callbacks=[Journal(metrics), SaveByTheClock(self._save_seconds)],
        )
        if packs:
            accept_packs(base)
        trainer.remove_callback(PrinterCallback)
        trainer.method, trainer.gamma, trainer.nll_weight = method, self._alignment.gamma, training.nll_weight
        _forget_reference(model)
        return trainer

    def _kto_trainer(self, rows: list[dict[str, Any]], work: Path, metrics: Path) -> AnswerTrainer:
        training = self._alignment.training
        model, _, device = self._model(training)
        shared = dpo_arguments(training, len(rows), work, device, bf16=self._spec.dtype == "bfloat16")
        trainer = AnswerTrainer(
            model=model,
            args=kto_arguments(shared, self._alignment),
            train_dataset=Dataset.from_list(rows),
            processing_class=copy.deepcopy(self._tokens.tokenizer),
            callbacks=[Journal(metrics), SaveByTheClock(self._save_seconds)],
        )
        trainer.remove_callback(PrinterCallback)
        _forget_reference(model)
        return trainer

    def _model(self, training: Training) -> tuple[PreTrainedModel | PeftModel, PreTrainedModel, torch.device]:
        """What is trained, the model under its adapter, and where."""
        torch.manual_seed(training.seed)  # a new adapter's weights are drawn before TRL sets its own seed
        model = trainable_model(self._spec, training.lora)
        base = cast(PreTrainedModel, model.get_base_model()) if isinstance(model, PeftModel) else model
        device = resolve_device(self._spec.device)
        if device.type == "cuda" and (device.index or 0) > 0:
            raise ValueError(f"training runs on the first visible GPU, got {device}: set CUDA_VISIBLE_DEVICES instead")
        return model, base, device


def _forget_reference(model: PreTrainedModel | PeftModel) -> None:
    """TRL copies an adapter as its reference; ours comes by value, or there is none."""
    if isinstance(model, PeftModel) and "ref" in model.peft_config:
        model.delete_adapter("ref")

"""Making π_0: KTO, SimPO and ORPO trained, saved and continued as TrlTrainer does DPO.

Only what differs is here: which of TRL's trainers runs, on which rows. Loading, arguments, the folder of a training
that was cut and the checkpoint that appears whole are trl_trainer.py's. Knows no files of preferences and no manifest.
"""

import copy
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers.trainer_callback import PrinterCallback

from crossward.engines.protocols import Advance, Alignment, ModelSpec, Training, TrainingAnswer, no_progress
from crossward.engines.tokens import ChatTokens
from crossward.engines.training_folder import SAVE_SECONDS, TrainingFolder
from crossward.engines.trl_direct import DirectTrainer
from crossward.engines.trl_kto import AnswerTrainer, answer_rows, kto_arguments
from crossward.engines.trl_pairs import PairTrainer
from crossward.engines.trl_trainer import TrlTrainer, dpo_arguments, forget_reference


class AlignTrainer(TrlTrainer):
    """protocols.Trainer for DPO, SimPO and ORPO (`train`; the last two read no reference), KTO by `train_answers`."""

    def __init__(
        self,
        spec: ModelSpec,
        tokens: ChatTokens,
        alignment: Alignment,
        *,
        save_seconds: float = SAVE_SECONDS,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        super().__init__(spec, tokens, save_seconds=save_seconds, say=say)
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
        work = TrainingFolder(output)
        with work.held():
            work.clear_for_start(self._say)
            rows = answer_rows(list(answers), self._tokens)
            trainer = self._kto_trainer(rows, work.path, metrics)
            last = self._finish(trainer, self._alignment.training, output=output, work=work, advance=advance)
            work.remove()
        return last | {"answers": len(rows), "seconds": round(time.monotonic() - started, 3)}

    def _trainer(self, rows: Dataset, training: Training, work: Path, metrics: Path) -> PairTrainer:
        match self._alignment.method:
            case "simpo" | "orpo" as method:
                trainer = self._pair_trainer(DirectTrainer, rows, training, work, metrics)
                trainer.method, trainer.gamma = method, self._alignment.gamma
                return trainer
            case _:
                return super()._trainer(rows, training, work, metrics)

    def _kto_trainer(self, rows: list[dict[str, Any]], work: Path, metrics: Path) -> AnswerTrainer:
        training = self._alignment.training
        model, _, device = self._model(training)
        shared = dpo_arguments(training, len(rows), work, device, bf16=self._spec.dtype == "bfloat16")
        trainer = AnswerTrainer(
            model=model,
            args=kto_arguments(shared, self._alignment),
            train_dataset=Dataset.from_list(rows),
            processing_class=copy.deepcopy(self._tokens.tokenizer),
            callbacks=self._callbacks(metrics),
        )
        trainer.remove_callback(PrinterCallback)
        forget_reference(model)
        return trainer

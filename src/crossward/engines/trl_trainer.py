"""Training with TRL's DPOTrainer: DPO + NLL per sequence over a reference that comes by value.

The subclass in trl_pairs.py is what the library obliges to. Here token ids come in, the reference's log-probabilities
come with the pairs (so any checkpoint can be the reference, and none is in memory), and what comes out is a checkpoint
that appears whole. Knows no runs.
"""

import copy
import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar, cast

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from safetensors import SafetensorError
from transformers import GenerationConfig, PreTrainedModel
from transformers import Trainer as BaseTrainer
from transformers.trainer_callback import PrinterCallback, TrainerCallback
from trl import DPOConfig

from crossward.engines.logprobs import share_prompts
from crossward.engines.models import DTYPES, adapter_folder, base_spec, load_model, resolve_device
from crossward.engines.pair_table import open_pairs, write_pairs
from crossward.engines.processes import ALONE, Processes
from crossward.engines.protocols import Advance, Lora, ModelSpec, Training, TrainingPair, kept_by_nobody, no_progress
from crossward.engines.state_files import force, force_all
from crossward.engines.tokens import ChatTokens
from crossward.engines.training_folder import SAVE_SECONDS, TrainingFolder
from crossward.engines.trl_callbacks import Journal, MarkWhole, PutBack, SaveByTheClock, Steps
from crossward.engines.trl_pairs import PairTrainer, accept_packs, pair_collator

OnPairs = TypeVar("OnPairs", bound=PairTrainer)


class TrlTrainer:
    """protocols.Trainer over one checkpoint; a LoRA adapter's folder is continued.

    `processes`: this process is one of several that train together (train_worker.py). `say` hears of states that are
    not gone on from.
    """

    def __init__(
        self,
        spec: ModelSpec,
        tokens: ChatTokens,
        *,
        save_seconds: float = SAVE_SECONDS,
        processes: Processes = ALONE,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._spec = spec
        self._tokens = tokens
        self._save_seconds = save_seconds
        self._processes = processes
        self._say = say

    def train(
        self,
        pairs: Iterable[TrainingPair],
        training: Training,
        *,
        output: Path,
        metrics: Path,
        advance: Advance = no_progress,
        keep: Callable[[dict[str, float]], None] = kept_by_nobody,
    ) -> dict[str, float]:
        """Train, save the checkpoint in `output`, log every step to `metrics`; returns the last step's values.

        `output` must not exist yet: it appears whole, by a rename, when training is done. A training that was cut
        leaves its state in the sibling folder `<output>.work` and continues from there. Pairs longer than
        `training.max_length` tokens are left out and counted as `dropped_too_long`, never cut.
        """
        started = time.monotonic()
        work = TrainingFolder(output)
        with work.held():
            work.clear_for_start(self._say)
            counts = write_pairs(work.pairs, pairs, self._tokens, max_length=training.max_length)

            came_to: dict[str, float] = {}

            def kept(last: dict[str, float]) -> None:
                came_to.update(last, **asdict(counts), seconds=round(time.monotonic() - started, 3))
                keep(came_to)

            self.train_table(work.pairs, training, output=output, metrics=metrics, advance=advance, keep=kept)
            work.remove()
        return came_to

    def train_table(
        self,
        table: Path,
        training: Training,
        *,
        output: Path,
        metrics: Path,
        advance: Advance = no_progress,
        keep: Callable[[dict[str, float]], None] = kept_by_nobody,
    ) -> dict[str, float]:
        """`train` on pairs that are written already (pair_table.py); the folder of a training that was cut stays."""
        work = TrainingFolder(output)
        trainer = self._trainer(open_pairs(table), training, work.path, metrics)
        return self._finish(trainer, training, output=output, work=work, advance=advance, keep=keep)

    def _trainer(self, rows: Dataset, training: Training, work: Path, metrics: Path) -> PairTrainer:
        trainer = self._pair_trainer(PairTrainer, rows, training, work, metrics)
        trainer.nll_over_tokens = training.nll_normalisation == "tokens"
        return trainer

    def _pair_trainer(
        self, kind: type[OnPairs], rows: Dataset, training: Training, work: Path, metrics: Path
    ) -> OnPairs:
        """A trainer of pairs, on packs where the model takes them."""
        model, base, device = self._model(training)
        packs = share_prompts(base, training=True) is None
        args = dpo_arguments(
            training, len(rows), work, device, bf16=self._spec.dtype == "bfloat16", processes=self._processes
        )
        self._processes.begin(args)
        trainer = kind(
            model=model,
            args=args,
            train_dataset=rows,
            # TRL sets pad tokens on what it is given; the checkpoint keeps the tokenizer that it came with.
            processing_class=copy.deepcopy(self._tokens.tokenizer),
            data_collator=pair_collator if packs else None,
            callbacks=self._callbacks(metrics),
        )
        self._processes.keep_float32(trainer.accelerator)
        if weights := self._processes.before_rounding(trainer.accelerator, model):
            trainer.add_callback(PutBack(self._processes, trainer.accelerator, weights))
        if packs:
            accept_packs(base)
        trainer.remove_callback(PrinterCallback)  # the journal keeps every step; nothing is talked into the terminal
        trainer.nll_weight = training.nll_weight
        forget_reference(model)
        return trainer

    def _model(self, training: Training) -> tuple[PreTrainedModel | PeftModel, PreTrainedModel, torch.device]:
        """What is trained, the model under its adapter, and where."""
        torch.manual_seed(training.seed)  # a new adapter's weights are drawn before TRL sets its own seed
        device = resolve_device(self._processes.device(self._spec.device))
        if self._processes.count == 1 and device.type == "cuda" and (device.index or 0) > 0:
            raise ValueError(f"training runs on the first visible GPU, got {device}: set CUDA_VISIBLE_DEVICES instead")
        # What is sharded over the processes is read on the CPU: whole, it might not fit into one GPU.
        place = "cpu" if self._processes.sharded else str(device)
        model = _trainable(replace(self._spec, device=place), training.lora)
        base = cast(PreTrainedModel, model.get_base_model()) if isinstance(model, PeftModel) else model
        return model, base, device

    def _callbacks(self, metrics: Path) -> list[TrainerCallback]:
        """Only the first of several processes writes the journal."""
        processes = self._processes
        journal = Journal(metrics if processes.first else None)
        return [journal, SaveByTheClock(self._save_seconds, agree=processes.agree)]

    def _finish(
        self,
        trainer: BaseTrainer,
        training: Training,
        *,
        output: Path,
        work: TrainingFolder,
        advance: Advance,
        keep: Callable[[dict[str, float]], None] = kept_by_nobody,
    ) -> dict[str, float]:
        """Train to the end, from the last state that was kept; save; returns the last step's values and the steps."""
        processes = self._processes
        with _full_disk_as_oserror(output.parent):
            trainer.add_callback(Steps(advance))
            trainer.add_callback(MarkWhole(work, processes))
            trainer.train(resume_from_checkpoint=work.last_state(processes.sharding, processes.count))
            logged = trainer.state.log_history[-2].items()  # the very last entry sums the training up
            last = {key: float(value) for key, value in logged if isinstance(value, int | float)}
            last |= {"steps": trainer.state.global_step}
            if processes.first:
                keep(last)
            self._save(trainer, training, output)
        return last

    def _save(self, trainer: BaseTrainer, training: Training, output: Path) -> None:
        """Weights as safetensors, tokenizer and generation config as they came, under the final name in one step."""
        model = cast(PreTrainedModel | PeftModel, trainer.accelerator.unwrap_model(trainer.model))
        state = self._processes.gathered(model, trainer.model_wrapped)
        if self._processes.first:
            whole = output.with_name(f".{output.name}.tmp")
            shutil.rmtree(whole, ignore_errors=True)
            dtype = DTYPES[training.save_dtype]
            if state is None:
                model.to(dtype)  # pyright: ignore[reportArgumentType]
            else:
                state = {name: value.to(dtype) for name, value in state.items()}
            if not isinstance(model, PeftModel):
                model.generation_config = _generation_config(base_spec(self._spec))
            model.save_pretrained(str(whole), safe_serialization=True, state_dict=state)
            if state is not None and not isinstance(model, PeftModel):
                _say_dtype(whole / "config.json", training.save_dtype)
            self._tokens.tokenizer.save_pretrained(str(whole))
            force_all(whole)  # the states go next: nothing else holds what was learnt
            whole.replace(output)
            force(output.parent)
        self._processes.wait()


def forget_reference(model: PreTrainedModel | PeftModel) -> None:
    """TRL copies an adapter as its reference; ours comes by value, or there is none."""
    if isinstance(model, PeftModel) and "ref" in model.peft_config:
        model.delete_adapter("ref")


@contextmanager
def _full_disk_as_oserror(folder: Path) -> Iterator[None]:
    """safetensors and torch.save tell of a full disk in errors of their own: say it as the operating system does."""
    try:
        yield
    except (SafetensorError, RuntimeError) as error:
        torch_could_not_write = "PytorchStreamWriter" in str(error) or "inline_container" in str(error)
        if "os error 28" in str(error) or (torch_could_not_write and shutil.disk_usage(folder).free < 2**20):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        raise


def _trainable(spec: ModelSpec, lora: Lora | None) -> PreTrainedModel | PeftModel:
    """The model to train. Full fine-tuning holds its weights in float32 whatever the dtype of sampling and scoring:

    at a learning rate of 5e-7 an update of a bfloat16 weight is smaller than its last bit, and is lost.
    """
    base = base_spec(spec)
    if base is not spec:
        # The base with the previous iteration's adapter. Its reference is that adapter's policy, which comes by value;
        # switching the adapter off, as some trainers do, would give the bare base model instead.
        return PeftModel.from_pretrained(load_model(base), str(adapter_folder(spec)), is_trainable=True)
    if lora is None:
        return load_model(replace(spec, dtype="float32")).requires_grad_(True).train()
    modules = lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=cast(int, lora.alpha),
        lora_dropout=lora.dropout,
        target_modules=modules,
        task_type="CAUSAL_LM",
        revision=base.revision,  # or the adapter would later be laid over the newest base
    )
    return PeftModel(load_model(base), config)


def dpo_arguments(
    training: Training, n_pairs: int, work: Path, device: torch.device, *, bf16: bool, processes: Processes = ALONE
) -> DPOConfig:
    on_cpu = device.type == "cpu"
    return DPOConfig(
        output_dir=str(work),
        beta=training.beta,
        precompute_ref_log_probs=True,
        max_length=None,
        learning_rate=training.learning_rate,
        num_train_epochs=training.epochs,
        max_steps=-1 if training.max_steps is None else training.steps(n_pairs),
        per_device_train_batch_size=training.micro_batch_size,
        gradient_accumulation_steps=processes.accumulation(training.batch_size, training.micro_batch_size),
        # Rounded down: the library rounds up, and as a warm-up begins at rate 0, a single step would learn nothing.
        warmup_steps=int(training.warmup_ratio * training.steps(n_pairs)),
        lr_scheduler_type="constant_with_warmup" if training.scheduler == "constant" else training.scheduler,
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        seed=training.seed % 2**32,  # numpy takes no more
        gradient_checkpointing=training.gradient_checkpointing,
        disable_dropout=training.lora is None or training.lora.dropout == 0.0,
        bf16=bf16 and not on_cpu,
        use_cpu=on_cpu and processes.sharding != "deepspeed",  # which it knows by itself, and accelerate does not
        dataloader_pin_memory=not on_cpu,
        logging_steps=1,
        save_strategy="no",
        save_total_limit=None,  # MarkWhole drops the others when the new one is whole
        report_to="none",
        disable_tqdm=True,
        use_cache=True,  # goes into the saved configuration; no forward of ours uses a cache
    )


def _say_dtype(config: Path, dtype: str) -> None:
    """What weights were saved in, which the library takes from the model that they were gathered from."""
    said = json.loads(config.read_text(encoding="utf-8")) | {"dtype": dtype}
    config.write_text(json.dumps(said, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _generation_config(spec: ModelSpec) -> GenerationConfig:
    try:
        return GenerationConfig.from_pretrained(spec.path, revision=spec.revision or "main")
    except OSError:
        return GenerationConfig()

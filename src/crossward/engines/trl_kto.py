"""KTO with TRL's KTOTrainer on our token ids, over reference log-probabilities that come by value.

TRL tokenises text itself and computes the reference with the model that it holds. Here both come with the rows. Kept
from TRL: its loss, and z_0 estimated over one micro-batch from answers to other prompts. So rows are trained in the
order in which they come, and a micro-batch needs two rows or more.
"""

import math
from typing import Any

from datasets import Dataset
from trl import DPOConfig, KTOConfig, KTOTrainer

from crossward.engines.protocols import Alignment, TrainingAnswer
from crossward.engines.tokens import ChatTokens

# What TrlTrainer sets for every training; the rest is KTO's own.
_SHARED = frozenset(
    (
        "output_dir", "beta", "precompute_ref_log_probs", "max_length", "learning_rate", "num_train_epochs",
        "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps", "warmup_steps", "lr_scheduler_type",
        "weight_decay", "max_grad_norm", "seed", "gradient_checkpointing", "disable_dropout", "bf16", "use_cpu",
        "dataloader_pin_memory", "logging_steps", "save_strategy", "save_total_limit", "disable_tqdm", "use_cache",
    )
)  # fmt: skip


class AnswerTrainer(KTOTrainer):
    """KTOTrainer whose rows are ready, and whose last step weighs its rows as all others do."""

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset  # the rows are token ids already

    def _precompute_ref_logps(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset  # the rows hold the reference's log-probabilities already

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        return None

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """TRL's mean over a micro-batch, scaled: the Trainer averages micro-batches, the method averages rows."""
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        self._metrics["train"].pop("num_tokens", None)  # a sum that begins anew in a training that was cut
        return loss * self._share(len(inputs["label"]))

    def _share(self, rows: int) -> float:
        if self.args.world_size > 1:
            return 1.0
        assert isinstance(self.train_dataset, Dataset)
        batch = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        steps = math.ceil(len(self.train_dataset) / batch)
        in_step = min(batch, len(self.train_dataset) - self.state.global_step % steps * batch)
        return rows / in_step * self.current_gradient_accumulation_steps


def kto_arguments(shared: DPOConfig, alignment: Alignment) -> KTOConfig:
    """The arguments of the other trainings, and KTO's weights."""
    return KTOConfig(
        **{name: value for name, value in vars(shared).items() if name in _SHARED},
        report_to="none",
        train_sampling_strategy="sequential",
        desirable_weight=alignment.desirable_weight,
        undesirable_weight=alignment.undesirable_weight,
    )


def answer_rows(answers: list[TrainingAnswer], tokens: ChatTokens) -> list[dict[str, Any]]:
    """Rows as KTOTrainer has them after its own preparation."""
    return [
        {
            "prompt_ids": list(tokens.prompt_ids(answer.instruction)),
            "completion_ids": list(tokens.response_ids(answer.response)),
            "KL_completion_ids": list(tokens.response_ids(answer.mismatched)),
            "label": answer.desirable,
            "ref_logps": answer.reference_logprob,
            "ref_KL_logps": answer.mismatched_reference_logprob,
        }
        for answer in answers
    ]

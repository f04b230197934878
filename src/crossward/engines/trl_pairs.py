"""DPOTrainer on token ids, with packed pairs, reference log-probabilities by value and the NLL per sequence.

TRL itself tokenises text, pads chosen and rejected to one length with the prompt in both, loads or derives a reference,
and normalises its NLL over the tokens of a micro-batch. Here a micro-batch is a pack: each pair's prompt once, its two
responses behind it, no padding. Models that packs do not fit are trained on TRL's padded batches. The loss is
core/losses.py either way.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel
from trl import DPOTrainer

from crossward.core.losses import dpo_loss, nll_over_tokens, nll_per_sequence
from crossward.engines.logprobs import pack_logprobs
from crossward.engines.packs import Pack, TokenGroup, pack
from crossward.engines.step_batches import NAME, StepBatches, StepLoader


def pair_collator(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Rows of pairs to one pack, spelled out as tensors that the Trainer can move to its device."""
    groups = [
        TokenGroup(prompt=tuple(row["prompt_ids"]), responses=(tuple(row["chosen_ids"]), tuple(row["rejected_ids"])))
        for row in rows
    ]
    packed = pack(groups, torch.device("cpu"))
    return {
        "input_ids": packed.input_ids,
        "position_ids": packed.position_ids,
        "predictors": packed.predictors,
        "targets": packed.targets,
        "layout": packed.layout,
        "lengths": packed.lengths,
        "ref_chosen_logps": torch.tensor([row["ref_chosen_logps"] for row in rows]),
        "ref_rejected_logps": torch.tensor([row["ref_rejected_logps"] for row in rows]),
    }


def accept_packs(model: PreTrainedModel) -> None:
    """Let `model(packed=...)` give the log-probabilities of a pack.

    Through the model's own forward, so that what wraps it (an adapter, mixed precision) takes part.
    """
    plain = model.forward

    def forward(*args: Any, packed: Pack | None = None, **kwargs: Any) -> Any:
        return plain(*args, **kwargs) if packed is None else pack_logprobs(model, packed)

    model.forward = forward


class PairTrainer(DPOTrainer):
    """One micro-batch's loss, and what is logged of it. `nll_weight` is w in L = DPO + w·NLL.

    `nll_over_tokens`: the NLL is a mean over the micro-batch's tokens, as TRL's own, and not over its sequences.
    """

    nll_weight: float = 0.0
    nll_over_tokens: bool = False

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset  # the rows are token ids already

    def _precompute_ref_logps(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset  # the rows hold the reference's log-probabilities already

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        return None

    def get_train_dataloader(self) -> Any:
        """The library's own gives processes equal numbers of rows, some of them twice; ours gives each row once."""
        args = self.args
        micro = args.per_device_train_batch_size
        batches = StepBatches(
            len(cast(Any, self.train_dataset)),
            micro=micro,
            batch=self._pairs_a_step(),
            processes=args.world_size,
            process=args.process_index,
            seed=args.seed,
        )
        return StepLoader(self.train_dataset, batches, self.data_collator, pin_memory=args.dataloader_pin_memory)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The library counts epochs in micro-batches, of which several processes take fewer; we count them in pairs."""
        n, batch = len(cast(Any, self.train_dataset)), self._pairs_a_step()
        epochs, steps = divmod(self.state.global_step, -(-n // batch))
        self.state.epoch = epochs + steps * batch / n
        super().log(logs, start_time)

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False) -> Any:
        """core/losses.dpo_nll_loss of one micro-batch, scaled so that every pair of a step weighs the same."""
        packed = "layout" in inputs
        chosen, rejected, n_chosen_tokens = (packed_sums if packed else padded_sums)(model, inputs)
        reference = inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]
        preference = dpo_loss(chosen, rejected, *reference, beta=self.beta)
        nll = (nll_over_tokens if self.nll_over_tokens else nll_per_sequence)(chosen, n_chosen_tokens)
        share = self._share(inputs[NAME])
        self._note(chosen, rejected, *reference, preference=preference, nll=nll, share=share)
        loss = (preference + self.nll_weight * nll).mean() * share
        return (loss, {}) if return_outputs else loss

    def _share(self, pairs: int) -> float:
        """Weight of a micro-batch with `pairs` pairs that count, in its step.

        The Trainer averages over micro-batches and over processes, the method averages over the step's pairs. By hand:
        5 pairs in steps of 4, two processes, micro-batches of 2. In the first step each has one micro-batch of 2 pairs:
        2 / 4 · 1 · 2 = 1. In the second, process 0 has the one pair: 1 / 1 · 1 · 2 = 2; process 1 has none: 0; and the
        mean over both is the pair's own loss.
        """
        n, batch = len(cast(Any, self.train_dataset)), self._pairs_a_step()
        in_step = min(batch, n - self.state.global_step % -(-n // batch) * batch)
        return pairs / in_step * self.current_gradient_accumulation_steps * self.args.world_size

    def _pairs_a_step(self) -> int:
        args = self.args
        return args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size

    def _note(
        self,
        chosen: Tensor,
        rejected: Tensor,
        reference_chosen: Tensor,
        reference_rejected: Tensor,
        *,
        preference: Tensor,
        nll: Tensor,
        share: float,
    ) -> None:
        """What a step logs besides its loss: both terms apart, rewards (β·log-ratio), log-probabilities (nats).

        TRL averages what is noted over the micro-batches; `share` makes that a mean over the step's pairs. One exchange
        among the processes, whatever is logged.
        """
        rewards = self.beta * (chosen - reference_chosen), self.beta * (rejected - reference_rejected)
        values = {
            "dpo_loss": preference,
            "nll_loss": nll,
            "rewards/chosen": rewards[0],
            "rewards/rejected": rewards[1],
            "rewards/margins": rewards[0] - rewards[1],
            "rewards/accuracies": (rewards[0] > rewards[1]).float(),
            "logps/chosen": chosen,
            "logps/rejected": rejected,
        }
        self._log_means(values, share)

    def _log_means(self, values: dict[str, Tensor], share: float) -> None:
        means = torch.stack([value.detach().float().mean() for value in values.values()]).double() * share
        # Not gather_for_metrics: with micro-batches read ahead it cuts each of an epoch's last step to the last.
        gathered = cast(Tensor, self.accelerator.gather(means)).view(self.args.world_size, -1).mean(0)
        for name, mean in zip(values, gathered.tolist(), strict=True):
            self._metrics["train"][name].append(mean)


def packed_sums(model: Any, inputs: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Σ log π of chosen and rejected, and the number of chosen tokens, each [pairs]."""
    packed = Pack(
        input_ids=inputs["input_ids"],
        position_ids=inputs["position_ids"],
        predictors=inputs["predictors"],
        targets=inputs["targets"],
        lengths=tuple(inputs["lengths"]),
        layout=inputs["layout"],
    )
    values = model(packed=packed)
    sums = torch.stack([part.sum() for part in values.split(packed.lengths)])
    return sums[0::2], sums[1::2], torch.tensor(packed.lengths[0::2], device=sums.device)


def padded_sums(model: Any, inputs: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """The same from TRL's padded batch, chosen rows above rejected ones."""
    labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
    outputs = model(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        use_cache=False,
        labels=labels,
        fused_lm_head=True,
    )
    chosen, rejected = outputs.log_probs.float().sum(-1).chunk(2)  # 0 outside the responses
    return chosen, rejected, inputs["completion_mask"].chunk(2)[0].sum(-1)

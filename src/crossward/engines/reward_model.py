"""An external reward model as a rater: a sequence classifier with one output, its own tokenizer and chat template.

A response is rated as the dialogue (user: instruction, assistant: response), rendered by the reward model's template
to ids that nothing is added to. Rows of like length share a right-padded batch; a rating depends on nothing but its
own ids (in float32, to rounding). Refuses what would silently compute something else: several outputs, a head that
the checkpoint lacks, pickled weights, adapters. Knows no policy.

Limits: a response that was cut gets the template's end of turn all the same, and an instruction that spells out a
special token gets that token; a response that does so is not rated.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel

from crossward.engines.models import (
    DTYPES,
    base_spec,
    in_portions,
    max_positions,
    read_config,
    resolve_device,
    rotary_switch,
    text_config,
    tokens_in_memory,
)
from crossward.engines.protocols import Advance, ModelSpec, ToRate, no_progress
from crossward.engines.tokens import ChatTokens, load_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A dialogue's ids, and which response (group, place in it) it is of."""

    ids: tuple[int, ...]
    group: int
    response: int


class RewardModelRater:
    """protocols.Rater over one sequence classifier: its one output (a float32 logit, in the model's own unit).

    `batch_tokens` bounds the tokens that go through the model at once, padding included; None: as many as the memory
    takes. Failures: "too-long" for the model's context, "special-token" where a response spells one of its own out.
    """

    def __init__(self, spec: ModelSpec, *, batch_tokens: int | None = None) -> None:
        self.name = f"reward model {spec.path}"
        self.failures: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self._config = _checked_config(spec)
        self._tokens = DialogueTokens(load_tokens(spec).tokenizer, name=spec.path)
        self._model = _load(spec, self._config)
        self._limit = max_positions(self._config)
        self._vocabulary_size = int(self._model.get_input_embeddings().weight.shape[0])  # pyright: ignore
        self._own_pad_id = _pad_id(self._config, self._vocabulary_size)
        self._budget = batch_tokens or tokens_in_memory(self._model)

    def rate(self, groups: Sequence[ToRate], *, advance: Advance = no_progress) -> list[tuple[float | None, ...]]:
        """The model's output for every response, in the groups' order; None where it could not be rated.

        Raises ValueError for ids beyond the vocabulary and for outputs that are no finite numbers.
        """
        rows = [row for index, group in enumerate(groups) for row in self._rows(index, group)]
        advance(sum(len(group.responses) for group in groups) - len(rows))
        found: dict[tuple[int, int], float] = {}
        for batch in _batches(rows, self._budget, rotary_switch(self._config)):
            ratings = in_portions(batch, self._outputs, describe=lambda row: f"{len(row.ids)} tokens")
            for row, rating in zip(batch, ratings, strict=True):
                self._require_finite(rating, groups[row.group], row.response)
                found[row.group, row.response] = rating
            advance(len(batch))
        return [tuple(found.get((index, k)) for k in range(len(group.responses))) for index, group in enumerate(groups)]

    def close(self) -> None:
        """Give the model's memory back."""
        vars(self).pop("_model", None)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _rows(self, index: int, group: ToRate) -> Iterator[_Row]:
        """The responses of a group that can be rated; the others are counted."""
        for k, response in enumerate(group.responses):
            if self._tokens.spells_special(response.text):
                self.failures["special-token"] += 1
                continue
            ids = self._tokens.dialogue_ids(group.instruction, response.text)
            if not ids or max(ids) >= self._vocabulary_size:
                raise ValueError(
                    f"response {k} to {group.name} becomes {len(ids)} tokens with ids up to {max(ids, default=0)}, but "
                    f"{self.name} knows ids below {self._vocabulary_size}: its tokenizer is of another model"
                )
            if self._limit is not None and len(ids) > self._limit:
                self.failures["too-long"] += 1
                continue
            yield _Row(ids=ids, group=index, response=k)

    def _outputs(self, rows: Sequence[_Row]) -> list[float]:
        """One right-padded batch: [batch, longest] ids -> [batch] logits."""
        pad = self._own_pad_id
        if pad is None:
            # The model reads the last id that is not its pad: any id that ends no row of this batch will do.
            ends = {row.ids[-1] for row in rows}
            pad = next(index for index in range(self._vocabulary_size) if index not in ends)
            self._model.config.get_text_config().pad_token_id = pad
        width, device = max(len(row.ids) for row in rows), self._model.device
        input_ids = torch.tensor([[*row.ids] + [pad] * (width - len(row.ids)) for row in rows], device=device)
        lengths = torch.tensor([[len(row.ids)] for row in rows], device=device)
        attention_mask = (torch.arange(width, device=device).expand(len(rows), -1) < lengths).long()
        with torch.inference_mode():
            logits: Tensor = self._model(input_ids=input_ids, attention_mask=attention_mask).logits  # [batch, 1]
        return logits.float().squeeze(-1).tolist()

    def _require_finite(self, rating: float, group: ToRate, k: int) -> None:
        if not abs(rating) < float("inf"):  # nor NaN
            raise ValueError(
                f"{self.name} gives {rating} for response {k} to {group.name} ({group.instruction[-60:]!r}): its "
                "weights are broken or overflow in this dtype"
            )


class DialogueTokens(ChatTokens):
    """A tokenizer whose chat template renders whole dialogues."""

    def dialogue_ids(self, instruction: str, answer: str) -> tuple[int, ...]:
        """The rendered dialogue as the template writes it: a BOS where the template has one, and none besides."""
        messages = [{"role": "user", "content": instruction}, {"role": "assistant", "content": answer}]
        return self._encode(self._render(messages, add_generation_prompt=False))

    def spells_special(self, text: str) -> bool:
        """Whether a text holds a special token spelled out, with which it could end its turn and forge another."""
        return any(len(token) > 1 and token in text for token in self.names(sorted(self._special_ids)))


def require_reward_model(spec: ModelSpec) -> None:
    """Raise ValueError for what RewardModelRater refuses before it reads weights."""
    _checked_config(spec)
    load_tokens(spec)


def _checked_config(spec: ModelSpec) -> PretrainedConfig:
    if base_spec(spec) is not spec:
        raise ValueError(f"reward model {spec.path} is an adapter: merge it into its base, the head included")
    config = read_config(spec)
    if config.is_encoder_decoder:
        raise ValueError(f"reward model {spec.path} is an encoder-decoder: expected a sequence classifier of one stack")
    if config.num_labels != 1:
        kind = ", ".join(config.architectures or ["a model of no named kind"])
        raise ValueError(
            f"reward model {spec.path} has {config.num_labels} outputs ({kind}): expected a sequence classifier with "
            "one (num_labels 1), whose output is the reward"
        )
    return config


def _load(spec: ModelSpec, config: PretrainedConfig) -> PreTrainedModel:
    """The classifier in eval mode, its parameters frozen, from safetensors alone (as models.load_model)."""
    # transformers' sdpa ignores the cap on attention scores (Gemma 2) silently.
    capped = text_config(config).get("attn_logit_softcapping") is not None
    device = resolve_device(spec.device)
    try:
        loaded = AutoModelForSequenceClassification.from_pretrained(
            spec.path,
            config=config,
            revision=spec.revision,
            dtype=DTYPES[spec.dtype],
            attn_implementation="eager" if capped else None,
            trust_remote_code=spec.trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"reward model {spec.path} cannot be loaded from safetensors: {first}") from None
    model, info = cast(tuple[PreTrainedModel, dict[str, set[str]]], loaded)
    if missing := sorted(info["missing_keys"]):
        raise ValueError(
            f"reward model {spec.path} lacks {len(missing)} of its weights (first: {missing[0]}), which would be "
            "random numbers: save the whole sequence classifier there, its head included"
        )
    model.config.use_cache = False
    _read_out_in_float32(model)
    model = model.to(device)  # pyright: ignore[reportArgumentType]
    model.eval()
    return model.requires_grad_(False)


def _read_out_in_float32(model: PreTrainedModel) -> None:
    """The layer that gives the one output, in float32: bfloat16 has steps of 1/16 from 8 on, which would make ties."""
    inner = set() if model.base_model is model else set(model.base_model.modules())
    if not inner:
        return
    for module in model.modules():
        if module not in inner and isinstance(module, nn.Linear) and module.out_features == 1:
            module.float()
            module.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))


def _pad_id(config: PretrainedConfig, vocabulary_size: int) -> int | None:
    """What the model itself takes for padding, also where that ends its turns; None where it names nothing usable."""
    pad = config.get_text_config().pad_token_id
    return pad if isinstance(pad, int) and 0 <= pad < vocabulary_size else None


def _batches(rows: Sequence[_Row], budget: int, switch: int | None) -> Iterator[list[_Row]]:
    """Rows of like length, longest first; none above `switch` tokens beside shorter ones (models.rotary_switch)."""
    batch: list[_Row] = []
    longest = 0
    for row in sorted(rows, key=lambda row: -len(row.ids)):
        apart = switch is not None and longest > switch >= len(row.ids)
        if batch and (apart or (len(batch) + 1) * longest > budget):
            yield batch
            batch = []
        longest = longest if batch else len(row.ids)
        batch.append(row)
    if batch:
        yield batch

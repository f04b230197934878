"""Log-probabilities of given response tokens: the one numeric kernel that rewards rest on.

Sequences in, per-token log-probabilities out, two ways: packs (every prompt once, nothing padded), and right-padded
batches for models that packs do not fit. The output head is applied to the positions that predict a response token and
to no other. Sums are float64. Knows no text and no tokenizer.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from crossward.engines.cores import on_every_core
from crossward.engines.heads import Head, head_of, target_logprobs
from crossward.engines.models import max_positions, rotary_switch, text_config
from crossward.engines.packs import Pack, TokenGroup, pack, prompt_pack, prompt_shares, response_packs
from crossward.engines.shared_attention import NAME, Unsupported

TokenSequence = tuple[Sequence[int], Sequence[int]]  # prompt ids, response ids


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """A causal model taken apart: hidden states and output head."""

    decoder: nn.Module
    head: Head
    takes_position_ids: bool
    device: torch.device


def token_logprobs(model: PreTrainedModel, sequences: Sequence[TokenSequence], *, pad_id: int) -> list[Tensor]:
    """log π(y_t | prompt, y_<t) for each response token: a float64 CPU tensor [response length] per sequence.

    All sequences go through the model as one right-padded batch.
    """
    assert all(len(prompt) > 0 for prompt, _ in sequences), "the first response token needs a token before it"
    filled = [(index, prompt, response) for index, (prompt, response) in enumerate(sequences) if len(response) > 0]
    result = [torch.zeros(0, dtype=torch.float64) for _ in sequences]
    if not filled:
        return result
    parts = _take_apart(model)
    with torch.inference_mode():
        hidden = _hidden_states(parts, [(prompt, response) for _, prompt, response in filled], pad_id)
        # Row r, position len(prompt) - 1 + t predicts response token t.
        rows = [row for row, (_, _, response) in enumerate(filled) for _ in response]
        positions = [len(prompt) - 1 + t for _, prompt, response in filled for t in range(len(response))]
        targets = torch.tensor([token for _, _, response in filled for token in response], device=parts.device)
        values = target_logprobs(parts.head, hidden[rows, positions], targets).double().cpu()
    lengths = [len(response) for _, _, response in filled]
    for (index, _, _), row in zip(filled, values.split(lengths), strict=True):
        result[index] = row
    return result


def pack_logprobs(model: PreTrainedModel, packed: Pack) -> Tensor:
    """log π of every target of a pack, float32 [targets], on the model's device; differentiable outside no_grad.

    The model's attention must be shared_attention.NAME (`share_prompts`).
    """
    parts = _take_apart(model)
    hidden = parts.decoder(
        input_ids=packed.input_ids, position_ids=packed.position_ids, use_cache=False, layout=packed.layout
    ).last_hidden_state
    return target_logprobs(parts.head, hidden[0, packed.predictors], packed.targets)


def group_logprobs(
    model: PreTrainedModel, groups: Sequence[TokenGroup], *, step_tokens: int
) -> tuple[list[Tensor], int]:
    """log π of every token of every response, float64 on the CPU, and how many tokens went through the model.

    On CUDA the groups are one pack. On a CPU prompts go first and responses follow in packs of `step_tokens`, each pack
    on one core: no prompt is computed again for them.
    """
    if model.device.type == "cuda":
        with torch.inference_mode():
            packed = pack(groups, model.device)
            return list(pack_logprobs(model, packed).double().cpu().split(packed.lengths)), packed.layout.n_tokens

    def logprobs(packed: Pack) -> tuple[Tensor, ...]:
        values = pack_logprobs(model, packed) if packed.layout.n_tokens else torch.zeros(0)
        return values.double().split(packed.lengths)

    chains: list[tuple[Pack, list[Pack]]] = []
    for share in prompt_shares(groups, torch.get_num_threads()):
        prompts = prompt_pack(share, model.device)
        chains.append((prompts, list(response_packs(share, prompts, step_tokens))))
    values: list[Tensor] = []
    for first, *rest in on_every_core(logprobs, chains, size=lambda packed: packed.layout.n_tokens):
        values += [torch.cat(both) for both in zip(first, chain.from_iterable(rest), strict=True)]
    return values, sum(packed.layout.n_tokens for prompts, rest in chains for packed in (prompts, *rest))


def share_prompts(model: PreTrainedModel, *, training: bool = False) -> str | None:
    """Switch a model's attention to packs, if packs give the model's own log-probabilities; else say why they do not.

    Compared on random ids in two groups of responses of unequal length, longer than small sliding windows, with the
    attention that the model came with. Where they differ, it keeps that attention. `training` looks at what is
    computed when gradients are kept.
    """
    config = text_config(model.config)
    kinds = {str(kind) for kind in _list(config.get("layer_types"))}
    if odd := sorted(kinds - {"full_attention", "sliding_attention"}):
        return f"it has layers of {', '.join(odd)}"
    if config.get("attention_chunk_size") is not None:
        return "its attention is cut into chunks"
    if rotary_switch(model.config) is not None:
        return "its rotary positions depend on the longest sequence at hand"
    before = str(model.config._attn_implementation)
    groups = _random_groups(_vocabulary_size(model), max_positions(model.config) or 180)
    sequences = [(group.prompt, response) for group in groups for response in group.responses]
    expected = token_logprobs(model, sequences, pad_id=0)
    try:
        model.set_attn_implementation(NAME)
        if training:
            packed = pack(groups, model.device)
            with torch.enable_grad():
                found = pack_logprobs(model, packed).detach().double().cpu().split(packed.lengths)
        else:
            found, _ = group_logprobs(model, groups, step_tokens=60)
    except (Unsupported, ValueError, TypeError, RuntimeError, IndexError) as error:
        model.set_attn_implementation(before)
        return str(error).splitlines()[0]
    difference = max(float((ours - theirs).abs().max()) for ours, theirs in zip(found, expected, strict=True))
    largest = max(float(values.abs().max()) for values in expected)
    if not difference <= (1e-4 if model.dtype == torch.float32 else 0.05) * max(1.0, largest):
        model.set_attn_implementation(before)
        return f"packed log-probabilities differ from its own by {difference:.3g} nats"
    return None


def verify_head(model: PreTrainedModel, *, pad_id: int, length: int = 12) -> None:
    """Compare this file's log-probabilities with the model's own logits, on two random sequences of unequal length.

    Raises ValueError where they differ by more than rounding: a family that does something to its logits, positions
    or mask that is not known here must fail loudly. What is no finite number tells nothing of the family: whoever
    scores names the model and the prompt.
    """
    parts = _take_apart(model)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(_vocabulary_size(model), (2, length), generator=generator)
    sequences = [(row[:3].tolist(), row[3:stop].tolist()) for row, stop in zip(ids, (length, length - 4), strict=True)]
    ours = token_logprobs(model, sequences, pad_id=pad_id)
    for values, (prompt, response) in zip(ours, sequences, strict=True):
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([prompt + response], device=parts.device)).logits[0].float().cpu()
        theirs = logits[2:-1].log_softmax(-1).gather(-1, torch.tensor(response).unsqueeze(-1)).squeeze(-1)
        if not bool(logits.isfinite().all() and values.isfinite().all()):
            continue
        precision = 1e-4 if model.dtype == torch.float32 else 0.05
        tolerance = precision * max(1.0, float(logits.abs().max()))
        difference = float((values - theirs).abs().max())
        if not difference <= tolerance:
            raise ValueError(
                f"log-probabilities of {model.config.model_type} models cannot be trusted here: the chunked output "
                f"head differs from the model's own logits by {difference:.3g} nats (allowed: {tolerance:.1g}); "
                "please report this family"
            )


def _take_apart(model: PreTrainedModel) -> _Parts:
    head = head_of(model)
    decoder = model.base_model
    if decoder is model:
        raise ValueError(f"model type {model.config.model_type} is no decoder with an output head: use a causal model")
    return _Parts(
        decoder=decoder,
        head=head,
        takes_position_ids="position_ids" in inspect.signature(decoder.forward).parameters,
        device=model.device,
    )


def _hidden_states(parts: _Parts, sequences: Sequence[TokenSequence], pad_id: int) -> Tensor:
    """Last hidden states [batch, longest - 1, hidden]; the last token predicts nothing that is asked for."""
    rows = [[*prompt, *response][:-1] for prompt, response in sequences]
    width = max(len(row) for row in rows)
    input_ids = torch.tensor([row + [pad_id] * (width - len(row)) for row in rows], device=parts.device)
    lengths = torch.tensor([len(row) for row in rows], device=parts.device)
    positions = torch.arange(width, device=parts.device).expand(len(rows), -1)  # right padding: 0, 1, 2, ...
    attention_mask = (positions < lengths.unsqueeze(1)).long()
    extra = {"position_ids": positions} if parts.takes_position_ids else {}
    output = parts.decoder(input_ids=input_ids, attention_mask=attention_mask, use_cache=False, **extra)
    return output.last_hidden_state


def _random_groups(vocabulary: int, longest: int) -> list[TokenGroup]:
    """Two groups in which a wrong position, mask or neighbour shows; the longest sequence has at most 180 tokens."""
    generator = torch.Generator().manual_seed(0)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(torch.randint(vocabulary, (min(n, longest // 2),), generator=generator).tolist())

    return [
        TokenGroup(prompt=ids(7), responses=(ids(5), ids(1), ids(40))),
        TokenGroup(prompt=ids(30), responses=(ids(2), ids(150), ids(9))),
    ]


def _vocabulary_size(model: PreTrainedModel) -> int:
    size = text_config(model.config)["vocab_size"]
    assert isinstance(size, int)
    return size


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []

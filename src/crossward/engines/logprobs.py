"""Log-probabilities of given response tokens: the one numeric kernel that rewards rest on.

Sequences in, per-token log-probabilities out. The output head is applied to the positions that predict a response
token and to no other, in chunks, so that no batch x length x vocabulary tensor exists. Logits become float32 before
the log-softmax, sums are float64. Knows no text and no tokenizer.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from crossward.engines.models import text_config

TokenSequence = tuple[Sequence[int], Sequence[int]]  # prompt ids, response ids


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """A causal model taken apart: hidden states, output head, and what its family does to the logits afterwards."""

    decoder: nn.Module
    head: nn.Module
    scale: float
    softcap: float | None
    takes_position_ids: bool
    device: torch.device


def response_logprobs(
    model: PreTrainedModel, sequences: Sequence[TokenSequence], *, pad_id: int, chunk_rows: int = 512
) -> list[tuple[float, int]]:
    """(log π(y|x), number of tokens) of every sequence, in nats: Σ_t log π(y_t | prompt, y_<t) over all response ids.

    All sequences go through the model as one right-padded batch. A response of no tokens gives (0.0, 0).
    """
    values = token_logprobs(model, sequences, pad_id=pad_id, chunk_rows=chunk_rows)
    return [(float(row.sum()), len(row)) for row in values]


def token_logprobs(
    model: PreTrainedModel, sequences: Sequence[TokenSequence], *, pad_id: int, chunk_rows: int = 512
) -> list[Tensor]:
    """log π(y_t | prompt, y_<t) for each response token: a float64 CPU tensor [response length] per sequence."""
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
        predictors = hidden[rows, positions]  # [response tokens of the batch, hidden]
        chunks = zip(predictors.split(chunk_rows), targets.split(chunk_rows), strict=True)
        values = torch.cat([_chunk_logprobs(parts, states, tokens) for states, tokens in chunks]).double().cpu()
    lengths = [len(response) for _, _, response in filled]
    for (index, _, _), row in zip(filled, values.split(lengths), strict=True):
        result[index] = row
    return result


def verify_head(model: PreTrainedModel, *, pad_id: int, length: int = 12) -> None:
    """Compare this file's log-probabilities with the model's own logits, on two random sequences of unequal length.

    Raises ValueError where they differ by more than rounding: a family that does something to its logits, positions
    or mask that is not known here must fail loudly.
    """
    parts = _take_apart(model)
    generator = torch.Generator().manual_seed(0)
    vocabulary = text_config(model.config)["vocab_size"]
    assert isinstance(vocabulary, int)
    ids = torch.randint(vocabulary, (2, length), generator=generator)
    sequences = [(row[:3].tolist(), row[3:stop].tolist()) for row, stop in zip(ids, (length, length - 4), strict=True)]
    ours = token_logprobs(model, sequences, pad_id=pad_id, chunk_rows=4)
    for values, (prompt, response) in zip(ours, sequences, strict=True):
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([prompt + response], device=parts.device)).logits[0].float().cpu()
        theirs = logits[2:-1].log_softmax(-1).gather(-1, torch.tensor(response).unsqueeze(-1)).squeeze(-1)
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
    head = model.get_output_embeddings()
    decoder = model.base_model
    if head is None or decoder is model:
        raise ValueError(f"model type {model.config.model_type} is no decoder with an output head: use a causal model")
    config = text_config(model.config)
    softcap = config.get("final_logit_softcapping")
    return _Parts(
        decoder=decoder,
        head=head,
        # Cohere multiplies its logits, Granite divides them, Falcon-H1 multiplies them under another name.
        scale=_number(config, "logit_scale")
        * _number(config, "lm_head_multiplier")
        / _number(config, "logits_scaling"),
        softcap=float(softcap) if isinstance(softcap, int | float) else None,
        takes_position_ids="position_ids" in inspect.signature(decoder.forward).parameters,
        device=model.device,
    )


def _number(config: dict[str, object], key: str) -> float:
    value = config.get(key)
    return float(value) if isinstance(value, int | float) else 1.0


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


def _chunk_logprobs(parts: _Parts, hidden: Tensor, targets: Tensor) -> Tensor:
    """hidden [tokens, hidden], targets [tokens] -> float32 [tokens]."""
    logits = parts.head(hidden).float() * parts.scale
    if parts.softcap is not None:
        logits = parts.softcap * torch.tanh(logits / parts.softcap)
    chosen = logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    return chosen - logits.logsumexp(-1)

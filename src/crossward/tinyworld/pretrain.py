"""Training π_I (imitation) and π_0 (gentle English DPO with NLL) from random weights, in plain torch.

These two are what a user brings; the method itself never runs through this file. The English DPO is gentle on purpose:
it must leave every quality of an answer undecided somewhere, or nothing is left for the method to transfer.
"""

import math
import random
from collections.abc import Callable, Sequence
from itertools import islice

import torch
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from transformers import LlamaConfig, LlamaForCausalLM

from crossward.core.losses import dpo_nll_loss
from crossward.core.seeds import derive_seed
from crossward.engines.logprobs import TokenSequence
from crossward.engines.protocols import Advance
from crossward.engines.tokens import ChatTokens
from crossward.tinyworld.corpus import Preference, examples
from crossward.tinyworld.mixing import Mixing
from crossward.tinyworld.presets import Preset
from crossward.tinyworld.tokenizer import END_OF_TURN, MODEL_MAX_LENGTH, PAD, START

SFT_BATCH, SFT_RATE = 96, 4e-3
PORTIONS = 4  # of a batch, by length
DPO_BATCH, DPO_RATE, DPO_BETA, DPO_NLL_WEIGHT = 128, 3e-4, 0.5, 1.0


class Encoder:
    """Text to ids as ChatTokens does it, with every prompt rendered once: the corpus repeats its few instructions."""

    def __init__(self, tokens: ChatTokens) -> None:
        self._tokens = tokens
        self._vocabulary = tokens.tokenizer.get_vocab()
        self._prompts: dict[str, tuple[int, ...]] = {}
        self.pad_id = tokens.pad_id

    def __call__(self, instruction: str, answer: str) -> TokenSequence:
        if instruction not in self._prompts:
            self._prompts[instruction] = tuple(self._tokens.prompt_ids(instruction))
        words = [self._vocabulary[word] for word in answer.split()]
        return self._prompts[instruction], [*words, self._tokens.end_of_turn_id]


def new_model(tokens: ChatTokens, seed: int) -> LlamaForCausalLM:
    """A Llama of about 0.3 million random parameters."""
    vocabulary = tokens.tokenizer.get_vocab()
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MODEL_MAX_LENGTH,
        tie_word_embeddings=True,
        initializer_range=0.05,
        pad_token_id=vocabulary[PAD],
        bos_token_id=vocabulary[START],
        eos_token_id=vocabulary[END_OF_TURN],
    )
    torch.manual_seed(derive_seed(seed, "weights"))
    return LlamaForCausalLM(config)


def imitate(
    model: LlamaForCausalLM,
    encode: Encoder,
    preset: Preset,
    seed: int,
    advance: Advance,
    mixing: Mixing | None = None,
) -> None:
    """Supervised training on the corpus, in place; the loss is the mean over response tokens."""
    rng = random.Random(derive_seed(seed, "sft"))
    corpus = examples(preset.sft_steps * SFT_BATCH, rng, mixing)

    def loss_of_next_batch() -> Tensor:
        batch = [encode(example.instruction, example.answer) for example in islice(corpus, SFT_BATCH)]
        logprobs, lengths = logprobs_of(model, batch, encode.pad_id)
        return -logprobs.sum() / lengths.sum()

    def rate(step: int) -> float:
        """Warm up, stay to half, then down to 0."""
        return min(1.0, (step + 1) / 50, 2.0 * (1.0 - step / preset.sft_steps))

    _optimise(model, loss_of_next_batch, preset.sft_steps, SFT_RATE, rate, advance, weight_decay=0.01)


def align_in_english(
    model: LlamaForCausalLM,
    reference: LlamaForCausalLM,
    encode: Encoder,
    preferences: Sequence[Preference],
    advance: Advance,
) -> None:
    """One epoch of DPO + NLL on English preferences, in place, over a frozen reference."""
    chosen = [encode(pair.instruction, pair.chosen) for pair in preferences]
    rejected = [encode(pair.instruction, pair.rejected) for pair in preferences]
    starts = iter(range(0, len(preferences), DPO_BATCH))

    def loss_of_next_batch() -> Tensor:
        start = next(starts)
        window = slice(start, start + DPO_BATCH)
        batch = chosen[window] + rejected[window]
        policy, lengths = logprobs_of(model, batch, encode.pad_id)
        with torch.no_grad():
            base, _ = logprobs_of(reference, batch, encode.pad_id)
        ours, theirs = policy.chunk(2), base.chunk(2)  # chosen, rejected
        n_chosen = lengths.chunk(2)[0]
        return dpo_nll_loss(ours[0], ours[1], theirs[0], theirs[1], n_chosen, beta=DPO_BETA, nll_weight=DPO_NLL_WEIGHT)

    steps = math.ceil(len(preferences) / DPO_BATCH)
    _optimise(model, loss_of_next_batch, steps, DPO_RATE, lambda step: 1.0 - step / steps, advance)


def logprobs_of(model: LlamaForCausalLM, batch: Sequence[TokenSequence], pad_id: int) -> tuple[Tensor, Tensor]:
    """(log π(y|x) [batch], tokens [batch]), differentiable; in portions of like length, to compute little padding."""
    order = sorted(range(len(batch)), key=lambda i: len(batch[i][0]) + len(batch[i][1]))
    size = math.ceil(len(batch) / PORTIONS)
    portions = [[batch[i] for i in order[start : start + size]] for start in range(0, len(batch), size)]
    sums = torch.cat([_logprobs_of_portion(model, portion, pad_id) for portion in portions])
    back = torch.tensor(order).argsort()
    return sums[back], torch.tensor([len(response) for _, response in batch])


def _logprobs_of_portion(model: LlamaForCausalLM, batch: Sequence[TokenSequence], pad_id: int) -> Tensor:
    """log π(y|x) [batch]. Right padding, so no token ever attends to padding."""
    rows = [[*prompt, *response] for prompt, response in batch]
    width = max(map(len, rows))
    input_ids = torch.tensor([row + [pad_id] * (width - len(row)) for row in rows])
    hidden = model.model(input_ids=input_ids[:, :-1], use_cache=False).last_hidden_state
    row_of = [row for row, (_, response) in enumerate(batch) for _ in response]
    places = [len(prompt) + t for prompt, response in batch for t in range(len(response))]
    logits = model.lm_head(hidden[row_of, [place - 1 for place in places]])  # [response tokens, vocabulary]
    values = logits.gather(-1, input_ids[row_of, places].unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)
    return values.new_zeros(len(batch)).index_add(0, torch.tensor(row_of), values)


def _optimise(
    model: LlamaForCausalLM,
    next_loss: Callable[[], Tensor],
    steps: int,
    learning_rate: float,
    rate: Callable[[int], float],
    advance: Advance,
    *,
    weight_decay: float = 0.0,
) -> None:
    optimiser = AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=weight_decay)
    schedule = LambdaLR(optimiser, rate)
    model.train()
    for _ in range(steps):
        next_loss().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        advance(1)
    model.eval()

"""What rivals need in the tiny world besides the two checkpoints, from the same English preferences that made π_0.

folder/preferences.jsonl     the English pairs, as offline pairs to replay
folder/reward-model/         a sequence classifier with one output, trained on them (Bradley-Terry)
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.optim import AdamW
from transformers import LlamaForCausalLM, LlamaForSequenceClassification

from crossward.core.seeds import derive_seed
from crossward.engines.protocols import ModelSpec
from crossward.engines.reward_model import DialogueTokens
from crossward.engines.tokens import load_tokens
from crossward.pipeline.progress import Progress
from crossward.store.files import write_text
from crossward.tinyworld.corpus import Preference
from crossward.tinyworld.mixing import Mode, mixing_of
from crossward.tinyworld.prepare import english_preferences, save_checkpoint
from crossward.tinyworld.presets import PresetName
from crossward.tinyworld.tokenizer import build_tokenizer

BATCH, RATE = 128, 3e-4


def prepare_rivals(folder: Path, *, preset: PresetName, seed: int, mode: Mode, progress: Progress) -> None:
    """Make what is missing in a world's folder; `prepare` made the world there with the same arguments."""
    offline, model = folder / "preferences.jsonl", folder / "reward-model"
    if offline.exists() and model.exists():
        return
    spec = ModelSpec(path=str(folder / "reference"), dtype="float32", device="cpu")
    pairs = english_preferences(spec, load_tokens(spec), preset, seed, mixing_of(mode), progress)
    if not model.exists():
        _train_reward_model(model, folder / "reference", pairs, seed, progress)
    rows = [{"prompt": pair.instruction, "chosen": pair.chosen, "rejected": pair.rejected} for pair in pairs]
    write_text(offline, "\n".join(map(json.dumps, rows)) + "\n")


def _train_reward_model(
    folder: Path, reference: Path, preferences: Sequence[Preference], seed: int, progress: Progress
) -> None:
    """One epoch of −log σ(r(chosen) − r(rejected)), from π_I's weights and a new head."""
    tokens = DialogueTokens(build_tokenizer())
    torch.manual_seed(derive_seed(seed, "reward model"))
    base = LlamaForCausalLM.from_pretrained(reference)
    base.config.num_labels, base.config.pad_token_id = 1, tokens.pad_id
    model = LlamaForSequenceClassification(base.config)
    model.model.load_state_dict(base.model.state_dict())
    order = list(range(len(preferences)))
    random.Random(derive_seed(seed, "reward model order")).shuffle(order)
    optimiser = AdamW(model.parameters(), lr=RATE)
    batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    model.train()
    with progress.task("reward model: steps", len(batches)) as advance:
        for step, batch in enumerate(batches):
            texts = [preferences[i] for i in batch]
            rows = [tokens.dialogue_ids(pair.instruction, pair.chosen) for pair in texts]
            rows += [tokens.dialogue_ids(pair.instruction, pair.rejected) for pair in texts]
            chosen, rejected = _rewards(model, rows, tokens.pad_id).chunk(2)
            for group in optimiser.param_groups:
                group["lr"] = RATE * (1.0 - step / len(batches))
            optimiser.zero_grad()
            (-logsigmoid(chosen - rejected).mean()).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            advance(1)
    model.eval()
    save_checkpoint(model, build_tokenizer(), folder)


def _rewards(model: LlamaForSequenceClassification, rows: Sequence[Sequence[int]], pad_id: int) -> Tensor:
    """The model's output of each row [rows], padded on the right."""
    width = max(map(len, rows))
    input_ids = torch.tensor([[*row, *[pad_id] * (width - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return model(input_ids=input_ids, attention_mask=mask).logits.squeeze(-1)

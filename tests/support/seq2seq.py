"""Tiny random encoder-decoder models of several styles, made in code and saved as ordinary checkpoints.

Weights are drawn wide, so that a wrong mask or position shows; the end of sequence is made likely enough for
translations to end.
"""

from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    M2M100Config,
    M2M100ForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

POSITIONS = 96
STYLES = {
    "flores": ("eng_Latn", "spa_Latn", "swh_Latn"),
    "m2m": ("__en__", "__es__", "__sw__", "__no__"),
    "mbart": ("en_XX", "es_XX", "sw_KE"),
    "madlad": ("<2en>", "<2es>", "<2sw>"),
    "marian": (">>spa<<", ">>swh<<"),
    "pair": (),
}


def make_seq2seq(style: str, folder: Path, seed: int = 0, **tokenizer_settings: str) -> Path:
    """Save model and tokenizer; another `seed` gives other weights."""
    tokenizer = _tokenizer(style, **tokenizer_settings)
    vocabulary = tokenizer.get_vocab()
    eos, pad = vocabulary["</s>"], vocabulary["<pad>"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _model(style, len(tokenizer), eos, pad)
        with torch.no_grad():
            model.lm_head.weight[eos] *= 3.0
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _model(style: str, size: int, eos: int, pad: int) -> Any:
    shared: dict[str, Any] = {
        "vocab_size": size,
        "d_model": 16,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "max_position_embeddings": POSITIONS,
        "pad_token_id": pad,
        "eos_token_id": eos,
        "bos_token_id": eos,
        "init_std": 0.5,
        "dropout": 0.0,
    }
    match style:
        case "flores" | "m2m" | "mbart":
            return M2M100ForConditionalGeneration(M2M100Config(**shared, decoder_start_token_id=eos))
        case "marian" | "pair":
            return MarianMTModel(MarianConfig(**shared, decoder_start_token_id=pad, forced_eos_token_id=None))
        case _:
            own: dict[str, Any] = {"d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
            ids: dict[str, Any] = {"pad_token_id": pad, "eos_token_id": eos, "decoder_start_token_id": pad}
            return T5ForConditionalGeneration(T5Config(vocab_size=size, d_model=16, **own, **ids))


def _tokenizer(style: str, **settings: str) -> PreTrainedTokenizerFast:
    specials = ["<pad>", "</s>", "<unk>", *STYLES[style]]
    tokens = [*specials, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = Tokenizer(models.BPE(vocab={token: k for k, token in enumerate(tokens)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(special, special=True, normalized=False) for special in specials])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="</s>", pad_token="<pad>", unk_token="<unk>", **settings
    )

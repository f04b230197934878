"""The real tokenizer classes of NLLB, M2M-100 and Marian: our ids are those that the class itself makes."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, M2M100Config, MarianConfig, NllbTokenizer

from crossward.engines.seq2seq_tokens import Seq2SeqTokens

WORDS = ["▁", "h", "o", "l", "a", "e", "m", "i", "g", "r", "t"]
TEXT, TRANSLATION = "hello there", "hola amigo"


def saved(tokenizer: Any, folder: Path, config: Any) -> Any:
    tokenizer.save_pretrained(folder)
    config.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def train_sentencepiece(folder: Path) -> Path:
    sentencepiece = pytest.importorskip("sentencepiece")
    (folder / "text").write_text(f"{TEXT}\n{TRANSLATION}\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text"),
        model_prefix=str(folder / "pieces"),
        vocab_size=40,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return folder / "pieces.model"


def test_nllb(tmp_path: Path):
    vocabulary = {token: k for k, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = saved(NllbTokenizer(vocab=vocabulary, merges=[]), tmp_path, M2M100Config())
    tokens = Seq2SeqTokens(tokenizer, M2M100Config(), name="nllb")
    tokenizer.src_lang, tokenizer.tgt_lang = "eng_Latn", "spa_Latn"
    assert tokens.style == "flores"
    assert list(tokens.source_ids(TEXT, source="en", target="es")) == tokenizer(TEXT)["input_ids"]
    assert [*tokens.target_prefix("es"), *tokens.target_ids(TRANSLATION)] == tokenizer(text_target=TRANSLATION)[
        "input_ids"
    ]
    assert tokens.decode(tokens.target_ids(TRANSLATION)) == TRANSLATION


def test_m2m100(tmp_path: Path):
    from transformers import M2M100Tokenizer

    pieces = train_sentencepiece(tmp_path)
    vocabulary = {token: k for k, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS])}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    made = M2M100Tokenizer(str(tmp_path / "vocab.json"), str(pieces))
    tokenizer = saved(made, tmp_path / "saved", M2M100Config())
    tokens = Seq2SeqTokens(tokenizer, M2M100Config(), name="m2m")
    ours = tokens.source_ids(TEXT, source="en", target="es"), tokens.target_ids(TRANSLATION), tokens.target_prefix("es")
    tokenizer.src_lang, tokenizer.tgt_lang = "en", "es"
    assert tokens.style == "m2m"
    assert list(ours[0]) == tokenizer(TEXT)["input_ids"]
    assert [*ours[2], *ours[1]] == tokenizer(text_target=TRANSLATION)["input_ids"]


def test_marian(tmp_path: Path):
    pieces = train_sentencepiece(tmp_path).read_bytes()
    folder = tmp_path / "marian"
    folder.mkdir()
    (folder / "source.spm").write_bytes(pieces)
    (folder / "target.spm").write_bytes(pieces)
    vocabulary = {token: k for k, token in enumerate(["</s>", "<unk>", *WORDS, "<pad>"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    settings = {"source_lang": "eng", "target_lang": "spa", "tokenizer_class": "MarianTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    MarianConfig(vocab_size=len(vocabulary), pad_token_id=1, decoder_start_token_id=1).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = Seq2SeqTokens(tokenizer, MarianConfig(), name="marian")
    assert tokens.style == "pair"
    tokens.require("en", "es")
    with pytest.raises(ValueError, match="translates from eng to spa, not from en to de"):
        tokens.require("en", "de")
    assert list(tokens.source_ids(TEXT, source="en", target="es")) == tokenizer(TEXT)["input_ids"]
    assert list(tokens.target_ids(TRANSLATION)) == tokenizer(text_target=TRANSLATION)["input_ids"]

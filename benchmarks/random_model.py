"""Llamas of random weights with a tokenizer of one word a token, and groups of random ids: nothing to download."""

import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from crossward.core.records import Response
from crossward.engines.protocols import Judged

TEMPLATE = (
    "{{ bos_token }} {% for message in messages %}<user> {{ message['content'] }} <end> {% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
SPECIALS = ("<bos>", "<end>", "<user>", "<assistant>", "<unk>")
# hidden size, intermediate size, layers, heads, key heads
Sizes = tuple[int, int, int, int, int]
LLAMA_1B: Sizes = (2048, 8192, 16, 32, 8)
SMALL: Sizes = (512, 1536, 4, 8, 4)
TINY: Sizes = (64, 128, 2, 2, 2)


def make_model(folder: Path, vocabulary: int, sizes: Sizes) -> Path:
    """A bfloat16 checkpoint; `vocabulary` counts the five special tokens."""
    hidden, intermediate, layers, heads, key_heads = sizes
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        vocab_size=vocabulary,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16)  # pyright: ignore[reportCallIssue]
    model.generation_config = GenerationConfig(bos_token_id=0, eos_token_id=1)
    words = {word: index for index, word in enumerate([*SPECIALS, *(f"w{i}" for i in range(vocabulary - 5))])}
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<bos>",
        eos_token="<end>",
        pad_token="<end>",
        unk_token="<unk>",
        additional_special_tokens=["<user>", "<assistant>"],
    )
    tokenizer.chat_template = TEMPLATE
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_groups(n: int, vocabulary: int) -> list[Judged]:
    """Prompts of 60 to 660 tokens, ten responses of 60 to 700 each, ids at random."""
    rng = random.Random(7)
    return [
        Judged(
            instruction=" ".join(f"w{rng.randrange(vocabulary - 5)}" for _ in range(rng.randint(60, 660))),
            responses=tuple(
                Response(
                    text="",
                    token_ids=tuple(rng.randrange(5, vocabulary) for _ in range(rng.randint(60, 700))),
                    finish_reason="length",
                )
                for _ in range(10)
            ),
        )
        for _ in range(n)
    ]

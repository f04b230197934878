"""Tiny random chat models of several template families, made in code and saved as ordinary checkpoints.

Each family keeps one trait of its namesake that has broken a scorer before: what pads, what ends a turn, who adds the
BOS, what stands behind the end of turn, what is done to the logits. Weights are drawn wide, so that logits differ by
several nats and a wrong position, mask or cap shows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GenerationConfig,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

MAX_POSITIONS = 512
FAMILIES = ("chatml", "llama3", "gemma", "mistral", "neox")

# "Manzana." becomes Man|z|ana|. ; newlines and spaces merge, so that a boundary between prompt and response can move.
_MERGES = [
    ("M", "a"), ("Ma", "n"), ("a", "n"), ("an", "a"), ("t", "h"), ("th", "e"), ("Ġ", "the"), ("i", "n"), ("in", "g"),
    ("Ċ", "Ċ"), ("Ġ", "Ġ"), ("Ġ", "a"), ("H", "o"), ("l", "a"), ("Ho", "la"), ("Ġ", "Hola"), ("e", "r"), ("o", "n"),
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Family:
    """What differs between families. `turn_end` closes the assistant's turn; `adds_bos` is about the tokenizer."""

    specials: tuple[str, ...]
    bos: str | None
    eos: str
    pad: str
    turn_end: str
    adds_bos: bool
    template: str
    generation_eos: tuple[str, ...]
    build: Callable[[int, int, int], PreTrainedModel]


_SIZES = {
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": MAX_POSITIONS,
    "initializer_range": 0.25,
}


def _chatml(vocabulary_size: int, pad: int, head: int) -> PreTrainedModel:
    config = Qwen2Config(
        **_SIZES, hidden_size=4 * head, vocab_size=vocabulary_size, num_key_value_heads=2, pad_token_id=pad
    )
    return Qwen2ForCausalLM(config)


def _llama3(vocabulary_size: int, pad: int, head: int) -> PreTrainedModel:
    config = LlamaConfig(
        **_SIZES, hidden_size=4 * head, vocab_size=vocabulary_size, num_key_value_heads=2, pad_token_id=pad
    )
    return LlamaForCausalLM(config)


def _gemma(vocabulary_size: int, pad: int, head: int) -> PreTrainedModel:
    config = Gemma2Config(
        **_SIZES,
        hidden_size=4 * head,
        vocab_size=vocabulary_size,
        num_key_value_heads=2,
        head_dim=head,
        pad_token_id=pad,
        final_logit_softcapping=4.0,
        attn_logit_softcapping=2.0,
        query_pre_attn_scalar=head,
        sliding_window=24,
    )
    return Gemma2ForCausalLM(config)


def _mistral(vocabulary_size: int, pad: int, head: int) -> PreTrainedModel:
    config = MistralConfig(
        **_SIZES,
        hidden_size=4 * head,
        vocab_size=vocabulary_size,
        num_key_value_heads=2,
        head_dim=head,
        pad_token_id=pad,
        sliding_window=24,
    )
    return MistralForCausalLM(config)


def _neox(vocabulary_size: int, pad: int, head: int) -> PreTrainedModel:
    config = GPTNeoXConfig(
        **_SIZES, hidden_size=4 * head, vocab_size=vocabulary_size, pad_token_id=pad, bos_token_id=None
    )
    return GPTNeoXForCausalLM(config)


_SPECIFICATIONS = {
    "chatml": _Family(
        specials=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        bos=None,
        eos="<|im_end|>",
        pad="<|endoftext|>",
        turn_end="<|im_end|>",
        adds_bos=False,
        template=(
            "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
            "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
        ),
        generation_eos=("<|im_end|>", "<|endoftext|>"),
        build=_chatml,
    ),
    "llama3": _Family(
        specials=("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        bos="<|begin_of_text|>",
        eos="<|end_of_text|>",
        pad="<|end_of_text|>",
        turn_end="<|eot_id|>",
        adds_bos=True,
        template=(
            "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
            "{{ message['content'] }}<|eot_id|>{% endfor %}"
            "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
        ),
        generation_eos=("<|end_of_text|>",),
        build=_llama3,
    ),
    "gemma": _Family(
        specials=("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"),
        bos="<bos>",
        eos="<eos>",
        pad="<pad>",
        turn_end="<end_of_turn>",
        adds_bos=True,
        template=(
            "{{ bos_token }}{% for message in messages %}"
            "<start_of_turn>{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n"
            "{{ message['content'] }}<end_of_turn>\n{% endfor %}"
            "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
        ),
        generation_eos=("<eos>", "<end_of_turn>"),
        build=_gemma,
    ),
    "mistral": _Family(
        specials=("<unk>", "<s>", "</s>", "[INST]", "[/INST]"),
        bos="<s>",
        eos="</s>",
        pad="</s>",
        turn_end="</s>",
        adds_bos=True,
        template=(
            "{% for message in messages %}{% if message['role'] == 'assistant' %} {{ message['content'] }}</s>"
            "{% else %}[INST] {{ message['content'] }} [/INST]{% endif %}{% endfor %}"
        ),
        generation_eos=("</s>",),
        build=_mistral,
    ),
    "neox": _Family(
        specials=("<|endoftext|>",),
        bos=None,
        eos="<|endoftext|>",
        pad="<|endoftext|>",
        turn_end="<|endoftext|>",
        adds_bos=False,
        template=(
            "{% for message in messages %}{% if message['role'] == 'assistant' %}Assistant: {{ message['content'] }}"
            "<|endoftext|>{% else %}User: {{ message['content'] }}\n\n{% endif %}{% endfor %}"
            "{% if add_generation_prompt %}Assistant:{% endif %}"
        ),
        generation_eos=("<|endoftext|>",),
        build=_neox,
    ),
}


def turn_end_of(name: str) -> str:
    """The token that closes an assistant's turn in a family, as text."""
    return _SPECIFICATIONS[name].turn_end


def make_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE: special tokens first, then 256 bytes, then a few merges."""
    family = _SPECIFICATIONS[name]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*family.specials, *alphabet, *("".join(merge) for merge in _MERGES)]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=_MERGES))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(special, special=True, normalized=False) for special in family.specials])
    if family.adds_bos:
        assert family.bos is not None
        backend.post_processor = processors.TemplateProcessing(
            single=f"{family.bos} $A",
            pair=f"{family.bos} $A {family.bos} $B",
            special_tokens=[(family.bos, vocabulary[family.bos])],
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=family.bos, eos_token=family.eos, pad_token=family.pad
    )
    tokenizer.chat_template = family.template
    return tokenizer


def make_family(
    name: str, folder: Path, seed: int = 0, dtype: torch.dtype = torch.float32, *, head_size: int = 8
) -> Path:
    """Save a family's model, tokenizer and generation config to `folder`; another `seed` gives other weights.

    `head_size` is that of each of the four attention heads: vLLM has no kernel on the CPU for less than 32.
    """
    family = _SPECIFICATIONS[name]
    tokenizer = make_tokenizer(name)
    vocabulary = tokenizer.get_vocab()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = family.build(len(vocabulary), vocabulary[family.pad], head_size)
    ends = [vocabulary[end] for end in family.generation_eos]
    bos = vocabulary[family.bos] if family.bos else None
    model.config.bos_token_id = bos
    model.config.eos_token_id = vocabulary[family.eos]
    model.generation_config = GenerationConfig(
        bos_token_id=bos, eos_token_id=ends if len(ends) > 1 else ends[0], pad_token_id=vocabulary[family.pad]
    )
    model.to(dtype=dtype).save_pretrained(folder)  # pyright: ignore[reportCallIssue]
    tokenizer.save_pretrained(folder)
    return folder

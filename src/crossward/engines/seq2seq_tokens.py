"""The tokens of an encoder-decoder translation model: how it is told the languages, and what source and target are.

Told by the vocabulary, not by the model's name: NLLB (spa_Latn), M2M-100 (__es__), mBART-50 (es_XX) and MADLAD (<2es>)
have a token a language, some Marian models one a target (>>spa<<); other models are for one pair, T5 with an English
sentence before the text. Knows no weights.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal, assert_never, cast

from transformers import AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase

from crossward.core.flores import FLORES, flores_code
from crossward.core.language import NAMES, language_name
from crossward.engines.models import base_spec, read_config, sentence
from crossward.engines.protocols import ModelSpec

Style = Literal["flores", "m2m", "mbart", "madlad", "marian", "pair"]
_TWINS = {"nb": "no", "no": "nb"}  # the written Norwegian that a vocabulary may know by the other code


class Seq2SeqTokens:
    """A tokenizer with what its model is told of languages. Raises ValueError for a language that it has not."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, *, name: str) -> None:
        self.name = name
        self._tokenizer = tokenizer
        # M2M-100's tokenizer has its language tokens beside what it calls its vocabulary.
        beside = [f"__{code}__" for code in NAMES]
        ids = cast(list[int], tokenizer.convert_tokens_to_ids(beside))
        found = {token: i for token, i in zip(beside, ids, strict=True) if i not in (None, tokenizer.unk_token_id)}
        self._vocabulary = tokenizer.get_vocab() | found
        self._config = config
        self.style: Style = _style(self._vocabulary)
        eos, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
        if not isinstance(eos, int) or not isinstance(pad, int):
            raise ValueError(
                f"the tokenizer of {name} has no end (eos) or no padding token: save both beside the model"
            )
        self.eos_id, self.pad_id = eos, pad

    def require(self, source: str, target: str) -> None:
        """Raise ValueError where the model does not translate from `source` to `target`."""
        for code in (source, target):
            language_name(code)
        match self.style:
            case "flores" | "m2m" | "mbart":
                self._language_id(source)
                self._language_id(target)
            case "madlad" | "marian":
                self._language_id(target)
            case "pair":
                said = [self._tokenizer.init_kwargs.get(key) for key in ("source_lang", "target_lang")]
                for wanted, own in zip((source, target), said, strict=True):
                    if isinstance(own, str) and re.split(r"[_-]", own)[0] not in (wanted, flores_code(wanted)[:3]):
                        raise ValueError(
                            f"{self.name} translates from {said[0]} to {said[1]}, not from {source} to {target}: name "
                            "a model for this pair"
                        )

    def source_ids(self, text: str, *, source: str, target: str) -> tuple[int, ...]:
        """The encoder's ids: languages as the model is told them, the text, the end."""
        match self.style:
            case "flores" | "m2m" | "mbart":
                return (self._language_id(source), *self._encoded(text), self.eos_id)
            case "madlad" | "marian":
                return (self._language_id(target), *self._encoded(text), self.eos_id)
            case "pair":
                return (*self._encoded(self._sentence(source, target) + text), self.eos_id)
            case _:
                assert_never(self.style)

    def target_prefix(self, target: str) -> tuple[int, ...]:
        """What the decoder is given behind its start: the target language, where that is told there."""
        return (self._language_id(target),) if self.style in ("flores", "m2m", "mbart") else ()

    def target_ids(self, text: str) -> tuple[int, ...]:
        """The ids of a translation and its end: what a likelihood is summed over."""
        if self._config.model_type != "marian":
            return (*self._encoded(text), self.eos_id)
        # Marian has a vocabulary a side; the others' tokenizers want to be told a language for this.
        encoded = self._tokenizer(text_target=text, add_special_tokens=False, verbose=False)["input_ids"]
        return (*cast(Sequence[int], encoded), self.eos_id)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a translation's ids."""
        text = self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text.strip()

    def _encoded(self, text: str) -> tuple[int, ...]:
        encoded = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return tuple(cast(Sequence[int], encoded))

    def _sentence(self, source: str, target: str) -> str:
        """T5 is asked in English for the pairs that it was trained on; others are given the text alone."""
        tasks = self._config.to_dict().get("task_specific_params")
        if isinstance(tasks, dict) and f"translation_{source}_to_{target}" in tasks:
            return f"translate {language_name(source)} to {language_name(target)}: "
        return ""

    def _language_id(self, code: str) -> int:
        for one in (code, _TWINS.get(code)):
            if one is not None and (token := _language_token(self.style, one, self._vocabulary)) is not None:
                return self._vocabulary[token]
        raise ValueError(
            f"{self.name} has no token for {language_name(code)} ({code}): name a model that knows the language, or "
            "translate with a chat model"
        )


def seq2seq_config(spec: ModelSpec) -> PretrainedConfig:
    """The configuration of a translation model. Raises ValueError where the checkpoint is something else."""
    if base_spec(spec) is not spec:
        raise ValueError(f"{spec.path} is an adapter: merge it into its translation model first")
    config = read_config(spec)
    if not config.is_encoder_decoder:
        raise ValueError(
            f"model {spec.path} ({config.model_type}) is no encoder-decoder: a chat model translates with the engine "
            "transformers or vllm"
        )
    return config


def require_seq2seq(spec: ModelSpec, pairs: Iterable[tuple[str, str]]) -> None:
    """Raise ValueError where this is no model that translates these pairs of languages (from, into)."""
    tokens = load_seq2seq_tokens(spec, seq2seq_config(spec))
    for source, target in pairs:
        tokens.require(source, target)


def load_seq2seq_tokens(spec: ModelSpec, config: PretrainedConfig) -> Seq2SeqTokens:
    """The tokenizer of a checkpoint. Raises ValueError where there is none."""
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(
            spec.path, revision=spec.revision, trust_remote_code=spec.trust_remote_code
        )
    except Exception as error:  # whatever transformers and tokenizers raise on a stranger's files
        raise ValueError(sentence(f"no tokenizer could be loaded from {spec.path}", error)) from None
    return Seq2SeqTokens(tokenizer, config, name=spec.path)


def _style(vocabulary: dict[str, int]) -> Style:
    """How the model is told languages, by the tokens it has for some of the largest ones."""
    if any(FLORES[code] in vocabulary for code in ("en", "fr", "es", "zh")):
        return "flores"
    if any(f"__{code}__" in vocabulary for code in ("en", "fr", "es", "zh")):
        return "m2m"
    if any(token in vocabulary for token in ("en_XX", "fr_XX", "zh_CN")):
        return "mbart"
    if any(f"<2{code}>" in vocabulary for code in ("en", "fr", "es", "zh")):
        return "madlad"
    if any(re.fullmatch(r">>\w+<<", token) for token in vocabulary):
        return "marian"
    return "pair"


def _language_token(style: Style, code: str, vocabulary: dict[str, int]) -> str | None:
    """The token of a language, None where the vocabulary has none."""
    match style:
        case "flores":
            candidates = [flores_code(code)]
        case "m2m":
            candidates = [f"__{code}__"]
        case "mbart":
            candidates = sorted(token for token in vocabulary if re.fullmatch(rf"{code}_[A-Z]{{2}}", token))
        case "madlad":
            candidates = [f"<2{code}>"]
        case "marian":
            own = flores_code(code)
            candidates = [f">>{own[:3]}<<", f">>{own}<<", f">>{code}<<", f">>cmn_{own[4:]}<<"]
        case "pair":
            candidates = []
    return next((token for token in candidates if token in vocabulary), None)

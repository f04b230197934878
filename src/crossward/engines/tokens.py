"""Text to token ids and back: the only place that decides which tokens a prompt and a response are made of.

Prompt ids are the rendered chat template; response ids are the sampler's own, or the text's with the end of turn.
They are concatenated, never joined as text, so that no boundary can move. Knows no weights.

Limit: a prompt is tokenised with its template, so an instruction that spells out a special token gets that token. A
response's text cannot.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from transformers import AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase

from crossward.core.plain_text import shown
from crossward.core.records import Response
from crossward.engines.chat_template import BoundedTemplate
from crossward.engines.models import base_spec, read_config, sentence
from crossward.engines.protocols import ModelSpec

_SENTINEL = "Sentinel"


class ChatTokens:
    """A tokenizer with its chat template and everything that ends a turn."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, *, generation_eos: Iterable[int] = (), name: str = "tokenizer"
    ) -> None:
        if not tokenizer.chat_template:
            raise ValueError(
                f"{name} has no chat template: policy and reference need one; save the template of the alignment data "
                "beside the tokenizer (chat_template.jinja)"
            )
        self.name = name
        self._tokenizer = tokenizer
        self._special_ids = _special_ids(tokenizer)
        # transformers makes a tokenizer of special tokens alone where a folder has no tokenizer files.
        if all(i in self._special_ids or i == tokenizer.unk_token_id for i in tokenizer.get_vocab().values()):
            raise ValueError(f"the tokenizer of {name} knows no words: save its files (tokenizer.json) in that folder")
        self._template = BoundedTemplate(self.template, name=name, special_tokens=tokenizer.special_tokens_map)
        self._prepends_bos = self._needs_bos()
        self.end_of_turn_id = self._find_end_of_turn()
        eos = () if tokenizer.eos_token_id is None else (int(tokenizer.eos_token_id),)  # pyright: ignore
        self.stop_ids = frozenset((*eos, *generation_eos, self.end_of_turn_id))
        pad = tokenizer.pad_token_id
        self.pad_id = int(pad) if isinstance(pad, int) else (*eos, self.end_of_turn_id)[0]
        self.vocabulary_size = max(tokenizer.get_vocab().values()) + 1

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer itself, for libraries that want one."""
        return self._tokenizer

    def prompt_ids(self, instruction: str) -> tuple[int, ...]:
        """The rendered template up to where the assistant begins to speak, with one BOS where the model expects one."""
        return self.conversation_ids((instruction,))

    def conversation_ids(self, turns: Sequence[str]) -> tuple[int, ...]:
        """As prompt_ids, of a conversation: texts of user and assistant in turn, the user's first and last."""
        return self.messages_ids(messages_of(turns))

    def messages_ids(self, messages: Sequence[Mapping[str, str]]) -> tuple[int, ...]:
        """As prompt_ids, of messages with role and content, a system's among them where the template has it."""
        ids = self._encode(self._render([dict(message) for message in messages], add_generation_prompt=True))
        bos = self._tokenizer.bos_token_id
        return (int(bos), *ids) if self._prepends_bos and isinstance(bos, int) else ids

    def response_ids(self, response: Response) -> tuple[int, ...]:
        """The ids that a response's log-probability is summed over; the end of turn only where it ended by itself."""
        if response.token_ids is not None:
            if not response.token_ids and response.text:
                raise ValueError(
                    f"response {response.text[:60]!r} has a text but no token ids, which would score as nothing: give "
                    "its ids, or leave token_ids out"
                )
            return response.token_ids
        ids = self._encode_plain(response.text)
        return (*ids, self.end_of_turn_id) if response.finish_reason == "stop" else ids

    def own(self, response: Response) -> Response:
        """The response, with ids only where they are this tokenizer's for its text: a file may be another model's."""
        ids = response.token_ids
        if ids is None:
            return response
        known = all(0 <= token < len(self._tokenizer) for token in ids)
        if known and self.decode(ids) == response.text:
            return response
        return replace(response, token_ids=None)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of response ids before the first stop id; nothing stripped, special tokens left out."""
        stop = next((index for index, token in enumerate(ids) if token in self.stop_ids), len(ids))
        text = self._tokenizer.decode(list(ids[:stop]), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The part of `decode`'s text that each id adds: "" for what shows nothing, as the end of turn does.

        A character of several tokens comes with its last one. Decoding a window, not a token, keeps the spaces that
        some tokenizers write only between tokens.
        """
        stop = next((index for index, token in enumerate(ids) if token in self.stop_ids), len(ids))
        found: list[str] = []
        start = known = 0  # a window that is decoded again, and how far its text is given out
        for end in range(1, stop + 1):
            before, after = self.decode(ids[start:known]), self.decode(ids[start:end])
            whole = end == stop or not after.endswith("\ufffd")
            found.append(after[len(before) :] if whole else "")
            if whole:
                start, known = known, end
        return [*found, *("" for _ in ids[stop:])]

    def names(self, ids: Sequence[int]) -> list[str]:
        """Each token as the vocabulary spells it."""
        names = self._tokenizer.convert_ids_to_tokens(list(ids))
        assert isinstance(names, list)
        return names

    def fingerprint(self) -> str:
        """sha256 over vocabulary, chat template and special ids."""
        content = [sorted(self.vocabulary.items()), self.template, sorted(self.special_map.items())]
        return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def vocabulary(self) -> dict[str, int]:
        """Token to id."""
        return self._tokenizer.get_vocab()

    @property
    def template(self) -> str:
        """The chat template that renders a plain conversation."""
        return self._tokenizer.get_chat_template()

    @property
    def special_map(self) -> dict[str, int | list[int] | None]:
        """The ids with a role, by role."""
        tokenizer = self._tokenizer
        roles = {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id}
        ids = {role: value if isinstance(value, int) else None for role, value in roles.items()}
        return {**ids, "end of turn": self.end_of_turn_id, "stop": sorted(self.stop_ids)}

    def _render(self, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
        return self._template.render(messages, add_generation_prompt=add_generation_prompt)

    def _encode(self, text: str) -> tuple[int, ...]:
        # Not verbose: what is too long for the model is counted, and never cut.
        return tuple(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])  # pyright: ignore

    def _encode_plain(self, text: str) -> tuple[int, ...]:
        """The text as ordinary tokens; a spelled-out special token that still comes out as one is cut in two."""
        ids = self._split(text)
        if not self._special_ids.intersection(ids):
            return ids
        forged = sorted(self.names(sorted(self._special_ids)), key=len, reverse=True)
        starts = "|".join(f"{re.escape(token[0])}(?={re.escape(token[1:])})" for token in forged if len(token) > 1)
        pieces = re.split(f"({starts})", text)
        ids = tuple(token for piece in pieces if piece for token in self._split(piece))
        if found := self._special_ids.intersection(ids):
            raise ValueError(f"response {text[:60]!r} holds {self.names(sorted(found))}, special tokens: leave it out")
        return ids

    def _split(self, text: str) -> tuple[int, ...]:
        encoded = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)
        return tuple(encoded["input_ids"])  # pyright: ignore

    def _needs_bos(self) -> bool:
        """True where the tokenizer puts a BOS before plain text and the template does not."""
        bos = self._tokenizer.bos_token_id
        if bos is None:
            return False
        leading = self._encode(self._render([{"role": "user", "content": "a"}], add_generation_prompt=True))[:2]
        if leading == (bos, bos):
            raise ValueError(f"the chat template of {self.name} begins with two BOS tokens: remove one from it")
        adds = self._tokenizer("a")["input_ids"][:1] == [bos]  # pyright: ignore
        return adds and leading[:1] != (bos,)

    def _find_end_of_turn(self) -> int:
        """The first special token behind an assistant's words, else the tokenizer's eos."""
        messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": _SENTINEL}]
        rendered = self._render(messages, add_generation_prompt=False)
        _, found, tail = rendered.rpartition(_SENTINEL)
        behind = self._encode(tail) if found else ()
        for token in behind:
            if token in self._special_ids:
                return token
        if isinstance(self._tokenizer.eos_token_id, int):
            return self._tokenizer.eos_token_id
        raise ValueError(
            f"{self.name} has no end of turn: its chat template puts no special token behind the assistant's words "
            "and it has no eos token; set eos_token or correct the template"
        )


def messages_of(turns: Sequence[str]) -> list[dict[str, str]]:
    """Texts of user and assistant in turn, the user's first, as templates and servers take them."""
    return [{"role": "assistant" if place % 2 else "user", "content": text} for place, text in enumerate(turns)]


def load_tokens(spec: ModelSpec) -> ChatTokens:
    """The tokenizer of a checkpoint (of its base, where a LoRA folder holds none) and its generation config's eos."""
    base = base_spec(spec)
    own = base is spec or (Path(spec.path) / "tokenizer_config.json").is_file()
    source = spec if own else base
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            source.path, revision=source.revision, trust_remote_code=source.trust_remote_code
        )
    except Exception as error:  # whatever transformers and tokenizers raise on a stranger's files
        raise ValueError(sentence(f"no tokenizer could be loaded from {source.path}", error)) from None
    if isinstance(tokenizer.model_max_length, bool) or not isinstance(tokenizer.model_max_length, int | float):
        raise ValueError(f"the tokenizer of {source.path} has a model_max_length that is no number: correct it")
    return ChatTokens(tokenizer, generation_eos=_generation_eos(base), name=source.path)


def compare_tokens(policy: ChatTokens, reference: ChatTokens) -> list[str]:
    """What differs between two tokenizers, a sentence each; empty where they are interchangeable."""
    differences = []
    ours, theirs = policy.vocabulary, reference.vocabulary
    if ours != theirs:
        changed = sorted(token for token in ours.keys() | theirs.keys() if ours.get(token) != theirs.get(token))
        differences.append(
            f"The vocabularies differ: {len(ours)} and {len(theirs)} tokens, {len(changed)} with different ids or on "
            f"one side only, such as {', '.join(map(repr, changed[:3]))}."
        )
    if policy.template != reference.template:
        differences.append("The chat templates differ: the same prompt is rendered differently.")
    reference_map = reference.special_map
    for role, value in policy.special_map.items():
        if value != reference_map[role]:
            differences.append(f"The {role} ids differ: {value} and {reference_map[role]}.")
    return differences


def _special_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Ids of control tokens; the unknown token is none: any text may hold it."""
    added = (index for index, token in tokenizer.added_tokens_decoder.items() if token.special)
    ids = {*added, *tokenizer.all_special_ids}
    return frozenset(index for index in ids if index != tokenizer.unk_token_id)


def _generation_eos(spec: ModelSpec) -> tuple[int, ...]:
    """eos ids of the generation config, else of the model's own config, as transformers itself falls back."""
    try:
        eos = GenerationConfig.from_pretrained(spec.path, revision=spec.revision or "main").eos_token_id
    except (OSError, ValueError):
        eos = read_config(spec).to_dict().get("eos_token_id")
    except Exception as error:  # whatever transformers raises on a stranger's file
        raise ValueError(sentence(f"the generation config of {spec.path} cannot be read", error)) from None
    ids = eos if isinstance(eos, list | tuple) else [] if eos is None else [eos]
    if not all(type(token) is int for token in ids):
        raise ValueError(f"model {spec.path} names an eos_token_id that is no token id, {shown(eos)}: correct it")
    return tuple(ids)

"""What a TRL trainer hands to a reward function, read as prompts and responses.

Prompts and completions come as texts or as lists of messages, ids as the trainer generated them (padded, in online
DPO), everything else as columns of the dataset. Every mistake is a ValueError that says what the trainer has to give.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from crossward.core.records import Prompt, Response
from crossward.engines.tokens import ChatTokens

UNKNOWN_LANGUAGE = "und"
_NEEDED = (
    "the crosslingual reward judges a completion under the English twin of its prompt, so the dataset needs the "
    "columns 'language' (codes such as 'es') and 'english_instruction'"
)


def columns_of(columns: Mapping[str, Any], n: int, *, needed: bool) -> tuple[list[Any], list[Any]]:
    """The columns `language` and `english_instruction`, one item per prompt; without them None, or an error."""
    if needed:
        missing = [name for name in ("language", "english_instruction") if columns.get(name) is None]
        if missing == ["english_instruction"] and all(code == "en" for code in columns["language"]):
            missing = []  # an English prompt is its own twin
        if missing:
            given = ", ".join(name for name, value in columns.items() if isinstance(value, list)) or "none"
            raise ValueError(
                f"{_NEEDED}, but {' and '.join(map(repr, missing))} did not come (columns that came: {given}): add "
                "what is missing, or take view='multilingual'"
            )
    found = []
    for name in ("language", "english_instruction"):
        values = columns.get(name)
        if values is not None and len(values) != n:
            raise ValueError(f"column {name!r} has {len(values)} items for {n} prompts: one each is expected")
        found.append([None] * n if values is None else list(values))
    return found[0], found[1]


def prompt_of(prompt: Any, language: Any, twin: Any, where: str, *, twin_needed: bool) -> Prompt:
    """A prompt as a record; `twin` may be None for English and where it is not needed."""
    instruction = _user_words(prompt, where)
    for name, value in (("language", language), ("english_instruction", twin)):
        if value is not None and (not isinstance(value, str) or not value.strip()):
            raise ValueError(f"{where}: column {name!r} must hold a text, got {value!r}")
    if twin_needed and (language is None or (twin is None and language != "en")):
        raise ValueError(f"{where} has no {'language' if language is None else 'english_instruction'}: {_NEEDED}")
    return Prompt(
        id=where,
        language=language or UNKNOWN_LANGUAGE,
        instruction=instruction,
        english_instruction=twin or instruction,
    )


def completion_of(completion: Any, ids: Sequence[int] | None, tokens: ChatTokens, where: str) -> Response:
    """A completion as a record: with the trainer's ids up to the first that ends a turn, else as text that ended."""
    text = _assistant_words(completion, where)
    if ids is None:
        return Response(text=text)
    if text.strip() not in tokens.tokenizer.decode(list(ids), skip_special_tokens=True):
        raise ValueError(
            f"{where}: completion_ids do not spell the completion {text[:40]!r} in the tokenizer of {tokens.name}: "
            "train a model with the tokenizer of the reward's models, or call without completion_ids"
        )
    end = next((index for index, token in enumerate(ids) if token in tokens.stop_ids), None)
    if end is not None:
        return Response(text=text, token_ids=tuple(ids[: end + 1]), finish_reason="stop")
    own = list(ids)
    while own and own[-1] == tokens.pad_id:
        own.pop()
    return Response(text=text, token_ids=tuple(own), finish_reason="length")


def _user_words(prompt: Any, where: str) -> str:
    if isinstance(prompt, str):
        return prompt
    return _only_message(prompt, "user", where)


def _assistant_words(completion: Any, where: str) -> str:
    if isinstance(completion, str):
        return completion
    return _only_message(completion, "assistant", where)


def _only_message(messages: Any, role: str, where: str) -> str:
    listed = isinstance(messages, Sequence) and all(isinstance(message, Mapping) for message in messages)
    roles = [message.get("role") for message in messages] if listed else []
    if roles != [role] or not isinstance(messages[0].get("content"), str):
        got = f"roles {', '.join(map(str, roles))}" if roles else type(messages).__name__
        raise ValueError(
            f"{where}: expected a text or one {role} message with a text, got {got}: system messages, several turns, "
            "tools and images are not judged"
        )
    return messages[0]["content"]

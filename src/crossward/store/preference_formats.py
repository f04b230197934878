"""The forms in which preference data is published: told apart by their keys, each row read as turns and answers.

Nothing is judged here: what cannot be trained on (several turns, ties, empty sides) is told as it stands, and
preference_file.py counts it. Sources of the forms: TRL's dataset formats, LLaMA-Factory's data README, OpenRLHF's
README, and the cards of UltraFeedback-binarized, RewardBench and HH-RLHF.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from crossward.store.json_fields import field_of, names_of, shown
from crossward.store.json_lines import Row, loose_json

Format = Literal[
    "TRL conversational",
    "TRL implicit prompt",
    "plain text",
    "UltraFeedback-binarized",
    "RewardBench",
    "HH-RLHF",
    "OpenRLHF",
    "LLaMA-Factory sharegpt",
    "LLaMA-Factory alpaca",
    "TRL unpaired",
    "LLaMA-Factory KTO",
]
Turn = tuple[str, str]  # role, text

_KEYS: dict[Format, tuple[str, ...]] = {
    "TRL conversational": ("prompt", "chosen", "rejected"),
    "TRL implicit prompt": ("chosen", "rejected"),
    "plain text": ("prompt", "chosen", "rejected"),
    "UltraFeedback-binarized": ("prompt", "chosen", "rejected", "score_chosen", "score_rejected"),
    "RewardBench": ("prompt", "chosen", "rejected", "subset"),
    "HH-RLHF": ("chosen", "rejected"),
    "OpenRLHF": ("input", "chosen", "rejected"),
    "LLaMA-Factory sharegpt": ("conversations", "chosen", "rejected"),
    "LLaMA-Factory alpaca": ("instruction", "chosen", "rejected"),
    "TRL unpaired": ("prompt", "completion", "label"),
    "LLaMA-Factory KTO": ("instruction", "output", "kto_tag"),
}
_ROLES = {"human": "user", "prompter": "user", "gpt": "assistant", "model": "assistant", "chatbot": "assistant"}
_TRANSCRIPT = re.compile(r"(?:^|\n\n)(Human|Assistant):")


@dataclass(frozen=True, slots=True, kw_only=True)
class RawPair:
    """What stands before the answers (each place that tells it, once), and the answers; None where a side has none."""

    contexts: tuple[tuple[Turn, ...], ...]
    chosen: str | None
    rejected: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RawAnswer:
    """One answer with its verdict."""

    contexts: tuple[tuple[Turn, ...], ...]
    answer: str | None
    desirable: bool


def format_of(row: Row, where: str) -> Format:
    """The form of a file, told from one of its rows. Raises ValueError that names the keys and the nearest form."""
    keys = row.keys()
    if "kto_tag" in keys or {"messages", "label"} <= keys:
        return "LLaMA-Factory KTO"
    if {"prompt", "completion", "label"} <= keys:
        return "TRL unpaired"
    if "instruction" in keys and isinstance(row.get("output"), list):
        return "LLaMA-Factory alpaca"
    if not {"chosen", "rejected"} <= keys:
        raise ValueError(_unknown(row, where))
    texts = isinstance(row["chosen"], str)
    if "conversations" in keys:
        return "LLaMA-Factory sharegpt"
    if "prompt" in keys:
        return _with_prompt(row, texts)
    if "instruction" in keys:
        return "LLaMA-Factory alpaca"
    if "input" in keys:
        return "OpenRLHF"
    if not texts:
        return "TRL implicit prompt"
    if _TRANSCRIPT.match(row["chosen"]):
        return "HH-RLHF"
    raise ValueError(_unknown(row, where))


def _with_prompt(row: Row, texts: bool) -> Format:
    if "score_chosen" in row and not texts:
        return "UltraFeedback-binarized"
    if texts and "subset" in row:
        return "RewardBench"
    return "plain text" if texts and isinstance(row["prompt"], str) else "TRL conversational"


def read_row(format: Format, row: Row, where: str) -> RawPair | RawAnswer:
    """One row of a file of that form. Raises ValueError that names `where` for what is not of that form."""
    match format:
        case "HH-RLHF":
            return _pair(row, (), where, transcript=True)
        case "TRL implicit prompt":
            return _pair(row, (), where)
        case "OpenRLHF":
            return _pair(row, _context(row, "input", where), where)
        case "LLaMA-Factory sharegpt":
            return _pair(row, (*_system(row), *_turns(field_of(row, "conversations", where), where)), where)
        case "LLaMA-Factory alpaca":
            return _pair(_two_outputs(row, where), _alpaca(row, where), where)
        case "TRL unpaired":
            return _answer(row, _context(row, "prompt", where), "completion", "label", where)
        case "LLaMA-Factory KTO":
            return _factory_kto(row, where)
        case _:
            return _pair(row, _context(row, "prompt", where), where)


def decoded(row: Mapping[str, Any]) -> Row:
    """A CSV's row with the lists of messages (and alpaca's list of outputs) that its cells spell in JSON."""
    return {key: _cell(value, key) for key, value in row.items()}


def _cell(value: Any, key: str) -> Any:
    if not isinstance(value, str) or value[:1] not in ("[", "{"):
        return value
    try:
        found = loose_json(value)
    except ValueError:
        return value
    items = found if isinstance(found, list) else [found]
    messages = all(isinstance(item, dict) and ("role" in item or "from" in item) for item in items)
    outputs = key == "output" and all(isinstance(item, str) for item in items)  # elsewhere a list of texts is a text
    return found if items and (messages or outputs) else value


# Pairs and single answers


def _pair(row: Row, before: tuple[Turn, ...], where: str, *, transcript: bool = False) -> RawPair:
    contexts = [before] if before else []
    answers: list[str | None] = []
    for side in ("chosen", "rejected"):
        value = field_of(row, side, where)
        if transcript:
            value = _transcript(value, side, where)
        if isinstance(value, str):
            answers.append(value)
            continue
        *earlier, last = _turns(value, where) or [("nobody", "")]
        answers.append(last[1] if last[0] == "assistant" else None)
        if earlier:
            contexts.append(tuple(earlier))
    if not contexts:
        raise ValueError(f"{where}: there is no prompt, neither in a field of its own nor before the answers")
    return RawPair(contexts=_different(contexts), chosen=answers[0], rejected=answers[1])


def _answer(row: Row, before: tuple[Turn, ...], field: str, label: str, where: str) -> RawAnswer:
    value = field_of(row, field, where)
    if not isinstance(value, str):
        *earlier, last = _turns(value, where) or [("nobody", "")]
        before, value = (*before, *earlier), last[1] if last[0] == "assistant" else None
    return RawAnswer(contexts=_different([before]), answer=value, desirable=_verdict(row, label, where))


def _factory_kto(row: Row, where: str) -> RawAnswer:
    label = "kto_tag" if "kto_tag" in row else "label"
    for conversation in ("messages", "conversations"):
        if row.get(conversation) is not None:
            return _answer(row, _system(row), conversation, label, where)
    return _answer(row, _alpaca(row, where), "output", label, where)


def _verdict(row: Row, field: str, where: str) -> bool:
    match field_of(row, field, where):
        case bool(value):
            return value
        case 1 | "1" | "True" | "true":
            return True
        case 0 | "0" | "False" | "false":
            return False
        case value:
            raise ValueError(f"{where}: field {field!r} must be true (desirable) or false, got {shown(value)}")


# Turns


def _context(row: Row, field: str, where: str) -> tuple[Turn, ...]:
    value = field_of(row, field, where)
    return (*_system(row), ("user", value)) if isinstance(value, str) else (*_system(row), *_turns(value, where))


def _alpaca(row: Row, where: str) -> tuple[Turn, ...]:
    asked = [field_of(row, "instruction", where), row.get("input") or ""]
    for text in asked:
        if not isinstance(text, str):
            raise ValueError(f"{where}: fields 'instruction' and 'input' must be texts, got {shown(text)}")
    history = row.get("history") or []
    if not isinstance(history, list) or not all(
        isinstance(pair, list) and all(isinstance(text, str) for text in pair) for pair in history
    ):
        raise ValueError(f"{where}: field 'history' must be a list of pairs of texts, got {shown(history)}")
    earlier = [turn for pair in history for turn in zip(("user", "assistant"), pair, strict=False)]
    return (*_system(row), *earlier, ("user", "\n".join(text for text in asked if text)))


def _two_outputs(row: Row, where: str) -> Row:
    """Alpaca's older form: the better output first, the worse second."""
    if row.get("chosen") is not None:
        return row
    outputs = field_of(row, "output", where)
    if not isinstance(outputs, list) or len(outputs) != 2 or not all(isinstance(text, str) for text in outputs):
        raise ValueError(f"{where}: field 'output' must hold two texts, the better first, got {shown(outputs)}")
    return {**row, "chosen": outputs[0], "rejected": outputs[1]}


def _system(row: Row) -> tuple[Turn, ...]:
    system = row.get("system")
    return (("system", system),) if isinstance(system, str) else ()


def _turns(value: Any, where: str) -> list[Turn]:
    """Messages of role and content, or of from and value; one message alone is one turn."""
    turns: list[Turn] = []
    for item in value if isinstance(value, list) else [value]:
        role = text = None
        if isinstance(item, dict):
            role = item.get("role") or item.get("from")
            text = item.get("content") if "role" in item else item.get("value")
        if not isinstance(role, str) or not isinstance(text, str | None):
            raise ValueError(
                f"{where}: expected a text or messages with 'role' and 'content' (or 'from' and 'value'), got "
                f"{shown(item)}"
            )
        turns.append((_ROLES.get(role.lower(), role.lower()), text or ""))
    return turns


def _transcript(value: Any, side: str, where: str) -> list[dict[str, str]]:
    """A text of "\\n\\nHuman: … \\n\\nAssistant: …" as messages."""
    if not isinstance(value, str) or not _TRANSCRIPT.match(value):
        raise ValueError(f"{where}: field {side!r} must be a transcript that begins with 'Human:', got {shown(value)}")
    pieces = _TRANSCRIPT.split(value)[1:]
    return [
        {"role": {"Human": "user", "Assistant": "assistant"}[role], "content": text.strip()}
        for role, text in zip(pieces[::2], pieces[1::2], strict=True)
    ]


def _different(contexts: Sequence[tuple[Turn, ...]]) -> tuple[tuple[Turn, ...], ...]:
    """The contexts that differ in more than space around a text, without empty system messages."""
    found: dict[tuple[Turn, ...], tuple[Turn, ...]] = {}
    for turns in contexts:
        said = tuple((role, text) for role, text in turns if role != "system" or text.strip())
        found.setdefault(tuple((role, text.strip()) for role, text in said), said)
    return tuple(found.values())


# Forms that are not read


def _unknown(row: Row, where: str) -> str:
    keys = row.keys()
    found = f"{where}: these are no preferences that can be read ({names_of(row)})"
    if "completions" in keys:
        return (
            f"{found}: several rated answers a prompt, as UltraFeedback publishes them: take each prompt's best answer "
            "as chosen and a worse one as rejected, or name the binarized set, HuggingFaceH4/ultrafeedback_binarized "
            "with --split train_prefs"
        )
    if "responses" in keys:
        return f"{found}: groups of responses: make pairs of them with crossward score and crossward pair first"
    near = max(_KEYS, key=lambda name: (len(keys & set(_KEYS[name])) / len(_KEYS[name]), -len(_KEYS[name])))
    lacking = [key for key in _KEYS[near] if key not in keys] or ["a prompt"]
    return f"{found}; read are {', '.join(get_args(Format))}; nearest is {near}, which lacks {', '.join(lacking)}"

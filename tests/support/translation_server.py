"""Answers of a translator for tests/support/chat_server.py: a dictionary of sentences, and faults that are asked for.

An answer depends on the request alone, so that a killed run and a whole one hear the same.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tests.support.chat_server import Reply, Request, choices

Fault = Literal["wrong-language", "no-tags", "no-code", "cut", "echo"]

ENGLISH = {
    "noise": "Please write a short letter to my neighbour about the noise.",
    "code": "Explain what this code does:\n```python\nprint('sea')\n```",
    "fruit": "Name 3 fruits that grow in the south of our country.",
    "mail": "Write to {name} and thank them very much for the gift.",
    "sea": "Tell me why the water of the sea is so salty.",
}
TRANSLATED = {
    "es": {
        "noise": "Por favor, escribe una carta breve a mi vecino sobre el ruido.",
        "code": "Explica qué hace este código:\n```python\nprint('sea')\n```",
        "fruit": "Nombra 3 frutas que crecen en el sur de nuestro país.",
        "mail": "Escribe a {name} y dale muchas gracias por el regalo.",
        "sea": "Dime por qué el agua del mar es tan salada.",
    },
    "de": {
        "noise": "Bitte schreibe meinem Nachbarn einen kurzen Brief über den Lärm.",
        "code": "Erkläre, was dieser Code macht:\n```python\nprint('sea')\n```",
        "fruit": "Nenne 3 Früchte, die im Süden unseres Landes wachsen.",
        "mail": "Schreibe an {name} und bedanke dich sehr für das Geschenk.",
        "sea": "Sag mir, warum das Wasser des Meeres so salzig ist.",
    },
}
_NAMES = {"Spanish": "es", "German": "de"}


@dataclass(slots=True)
class TranslationServer:
    """A handler for chat_server. `faults` by (language, id): what goes wrong at the first attempt, or `always`.

    `asked` counts requests by (language, id, whether greedy); every request in `drops` (by number) gets HTTP 500.
    """

    faults: Mapping[tuple[str, str], Fault] = field(default_factory=dict)
    always: frozenset[tuple[str, str]] = frozenset()
    drops: frozenset[int] = frozenset()
    asked: list[tuple[str, str, bool]] = field(default_factory=list)

    def __call__(self, request: Request, before: int) -> Reply:
        if before in self.drops:
            return Reply(body={"error": "busy"}, status=500, headers={"retry-after": "0"})
        content = request["messages"][-1]["content"]
        language = _NAMES[re.search(r"into (\w+)", content)[1]]  # pyright: ignore[reportOptionalSubscript]
        text = content.split("\n\nThe text:\n\n", 1)[1]
        id = next(id for id, english in ENGLISH.items() if english == text)
        greedy = request["temperature"] == 0
        self.asked.append((language, id, greedy))
        good = TRANSLATED[language][id]
        fault = self.faults.get((language, id)) if greedy or (language, id) in self.always else None
        match fault:
            case None:
                return choices(f"Here it is:\n<translated>\n{good}\n</translated>")
            case "wrong-language":
                other = TRANSLATED["de" if language == "es" else "es"][id]
                return choices(f"<translated>{other}</translated>")
            case "no-tags":
                return choices(good)
            case "no-code":
                return choices(f"<translated>{good.split('```')[0]}</translated>")
            case "cut":
                return choices(f"<translated>{good[:10]}", reason="length")
            case "echo":
                return choices(f"<translated>{text}</translated>")


def english_file(*ids: str, more: Mapping[str, object] | None = None) -> str:
    """A JSONL of English prompts; `more`: further fields of every row."""
    rows = [{"id": id, "instruction": ENGLISH[id], **(more or {})} for id in ids or ENGLISH]
    return "".join(json.dumps(row) + "\n" for row in rows)

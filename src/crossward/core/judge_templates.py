"""What a judge is told: four templates, and the text that one makes of a question with its answers.

Placeholders stand in braces and are filled in one pass, so that braces in a question or an answer stay what they are.
A template must hold the placeholders of its turn, may hold {language}, and no other. Knows no files and no wording.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from crossward.core.language import language_name
from crossward.core.mt_bench import Question
from crossward.core.plain_text import shown

_TURN_1 = ("question_1", "answer_1")
_TURN_2 = ("question_1", "answer_1", "question_2", "answer_2")
# Every template's name, with the placeholders that it must hold.
REQUIRED: Mapping[str, tuple[str, ...]] = {
    "turn-1": _TURN_1,
    "turn-2": _TURN_2,
    "turn-1-reference": (*_TURN_1, "reference_1"),
    "turn-2-reference": (*_TURN_2, "reference_1", "reference_2"),
}
OPTIONAL = ("language",)
_PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeTemplates:
    """The texts by name (see REQUIRED), and where each is from, for errors.

    Raises ValueError where a placeholder is missing or unknown.
    """

    texts: Mapping[str, str]
    origins: Mapping[str, str]

    def __post_init__(self) -> None:
        assert self.texts.keys() == REQUIRED.keys()
        for name, text in self.texts.items():
            _check(text, REQUIRED[name], self.origins[name])

    def render(self, question: Question, answers: tuple[str, str], turn: int) -> str:
        """The one message in which a judge is asked about the answer to `turn`, with references where there are."""
        values = {"language": language_name(question.language)}
        for number, (asked, answered) in enumerate(zip(question.turns, answers, strict=True), start=1):
            values |= {f"question_{number}": asked, f"answer_{number}": answered}
        name = f"turn-{turn}"
        if question.needs_reference and question.references is not None:
            name += "-reference"
            values |= {f"reference_{number}": text for number, text in enumerate(question.references, start=1)}
        return _PLACEHOLDER.sub(lambda found: values[found[1]], self.texts[name])


def _check(text: str, required: tuple[str, ...], origin: str) -> None:
    found = set(_PLACEHOLDER.findall(text))
    may_hold = ", ".join(f"{{{name}}}" for name in (*required, *OPTIONAL))
    if missing := [name for name in required if name not in found]:
        raise ValueError(f"template {origin} lacks the placeholder {{{missing[0]}}}: it must hold {may_hold}")
    if unknown := sorted(found - {*required, *OPTIONAL}):
        name = shown(unknown[0])[1:-1]
        raise ValueError(f"template {origin} holds the unknown placeholder {{{name}}}: it may hold {may_hold}")

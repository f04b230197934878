"""The views: under which instruction a response is judged (paper, section 3.2).

`crosslingual` judges under the English twin with a steering line that asks for an answer in the prompt's language;
`multilingual` judges under the prompt as it is; `translated` judges the response's English translation under the
English twin alone. The paper's steering line is English and stands before the instruction; line, language and place
can be changed to see what they are worth.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, assert_never

from crossward.core.language import language_name
from crossward.core.records import Prompt, View

STEERING_LINE = (
    "Please answer the following instruction using only {language}, "
    "unless explicitly instructed to respond in a different language."
)
# The same request in the language that it asks for: the languages of X-AlpacaEval.
TARGET_LINES: dict[str, str] = {
    "ar": "يرجى الإجابة عن التعليمات التالية باللغة العربية فقط، ما لم يُطلب صراحةً الرد بلغة أخرى.",
    "bn": "অনুগ্রহ করে নিচের নির্দেশের উত্তর শুধু বাংলায় দিন, যদি না স্পষ্টভাবে অন্য ভাষায় উত্তর দিতে বলা হয়।",
    "de": "Bitte beantworte die folgende Anweisung nur auf Deutsch, sofern nicht ausdrücklich anders verlangt.",
    "es": "Responde a la siguiente instrucción solo en español, salvo que se pida expresamente otro idioma.",
    "fr": "Réponds à la consigne suivante uniquement en français, sauf si une autre langue est expressément demandée.",
    "it": "Rispondi alla seguente istruzione solo in italiano, salvo che sia chiesta espressamente un'altra lingua.",
    "ja": "別の言語で答えるよう明示されていない限り、次の指示には日本語だけで答えてください。",
    "ko": "다른 언어로 답하라고 명시되어 있지 않다면 다음 지시에 한국어로만 답해 주세요.",
    "ru": "Пожалуйста, ответь на следующую инструкцию только по-русски, если прямо не указан другой язык.",
    "sw": "Tafadhali jibu agizo lifuatalo kwa Kiswahili pekee, isipokuwa umeagizwa waziwazi kutumia lugha nyingine.",
    "th": "โปรดตอบคำสั่งต่อไปนี้เป็นภาษาไทยเท่านั้น เว้นแต่จะระบุชัดเจนให้ตอบเป็นภาษาอื่น",
    "zh": "请只用中文回答下面的指令，除非明确要求使用其他语言。",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Steering:
    """The line of the crosslingual view: who speaks it, where it stands, and its words.

    `line` is a template with {language} (the language's English name); `lines` are whole lines by language code, which
    go before `line`. With `language` "target" the line of TARGET_LINES is taken where `lines` has none.
    """

    place: Literal["before", "after", "none"] = "before"
    language: Literal["english", "target"] = "english"
    line: str = STEERING_LINE
    lines: Mapping[str, str] = field(default_factory=dict)

    def text(self, code: str) -> str:
        """The line that asks for answers in a language. Raises ValueError where there is none."""
        if code in self.lines:
            return self.lines[code]
        if self.language == "english":
            return self.line.replace("{language}", language_name(code))
        if code not in TARGET_LINES:
            raise ValueError(
                f"no steering line is known in {language_name(code)} ({code}): give one as "
                f"reward.steering.lines.{code}, or set reward.steering.language to english"
            )
        return TARGET_LINES[code]

    def applied(self, instruction: str, code: str) -> str:
        """An English instruction with the line that asks for answers in a language; for English, the instruction."""
        if code == "en":
            return instruction
        match self.place:
            case "none":
                return instruction
            case "before":
                return f"{self.text(code)}\n\n{instruction}"
            case "after":
                return f"{instruction}\n\n{self.text(code)}"


PAPERS = Steering()
UNTRANSLATED: tuple[View, ...] = ("crosslingual", "multilingual")  # the views that judge responses as they are


def judged_under(prompt: Prompt, view: View, steering: Steering = PAPERS) -> str:
    """The instruction under which a response to `prompt` is scored.

    >>> prompt = Prompt(id="1", language="es", instruction="Hola", english_instruction="Hello")
    >>> judged_under(prompt, "multilingual"), judged_under(prompt, "translated")
    ('Hola', 'Hello')
    >>> judged_under(prompt, "crosslingual").splitlines()[1:]
    ['', 'Hello']
    >>> judged_under(prompt, "crosslingual", Steering(place="after", line="In {language}."))
    'Hello\\n\\nIn Spanish.'
    """
    match view:
        case "multilingual":
            return prompt.instruction
        case "crosslingual":
            return steering.applied(prompt.english_instruction, prompt.language)
        case "translated":
            return prompt.english_instruction
        case _:
            assert_never(view)

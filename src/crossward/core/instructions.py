"""The views: under which instruction a response is judged (paper, section 3.2).

`crosslingual` judges under the English twin with a line that asks for an answer in the prompt's language;
`multilingual` judges under the prompt as it is.
"""

from typing import assert_never

from crossward.core.language import language_name
from crossward.core.records import Prompt, View

STEERING_LINE = (
    "Please answer the following instruction using only {language}, "
    "unless explicitly instructed to respond in a different language."
)


def judged_under(prompt: Prompt, view: View) -> str:
    """The instruction under which a response to `prompt` is scored.

    >>> prompt = Prompt(id="1", language="es", instruction="Hola", english_instruction="Hello")
    >>> judged_under(prompt, "multilingual")
    'Hola'
    >>> judged_under(prompt, "crosslingual").splitlines()[1:]
    ['', 'Hello']
    """
    match view:
        case "multilingual":
            return prompt.instruction
        case "crosslingual":
            if prompt.language == "en":
                return prompt.english_instruction
            line = STEERING_LINE.format(language=language_name(prompt.language))
            return f"{line}\n\n{prompt.english_instruction}"
        case _:
            assert_never(view)

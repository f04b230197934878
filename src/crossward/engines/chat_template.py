"""A stranger's chat template, rendered within limits, in this process and at the speed of jinja2.

What a template renders is what transformers renders; where it would go on for ever or fill the memory, it is stopped.
The limits, and how they are held, are in template_sandbox.py and template_meter.py. Knows no tokens.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from crossward.core.plain_text import visible_line
from crossward.engines.template_meter import METER, TooMuch
from crossward.engines.template_sandbox import TemplateSandbox

LONGEST_TEMPLATE = 2**18  # characters; published ones have 30,000 at most
# Some templates write today's date into the prompt: ids, and with them rewards, would change overnight.
_TODAY = datetime(2024, 7, 26)
_TAG = "CONTINUE_FINAL_MESSAGE_TAG "  # transformers' own, so that templates that trim it are cut where they are there


class BoundedTemplate:
    """One chat template, compiled once. `name` is the model's, `special_tokens` what is called bos_token and so on.

    Every failure of the template is a ValueError that names the model.
    """

    def __init__(self, source: str, *, name: str, special_tokens: Mapping[str, Any]) -> None:
        self._name = name
        self._special_tokens = dict(special_tokens)
        if len(source) > LONGEST_TEMPLATE:
            raise ValueError(
                f"the chat template of {name} has {len(source)} characters: at most {LONGEST_TEMPLATE} are read"
            )
        try:
            self._template = TemplateSandbox().from_string(source)
        except Exception as error:  # whatever jinja2 and Python's compiler raise on a stranger's text
            self._fail(error)

    def render(self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool) -> str:
        """The conversation as text."""
        METER.start(sum(len(str(content)) for message in messages for content in message.values()))
        try:
            return self._template.render(
                {
                    "messages": messages,
                    "tools": None,
                    "documents": None,
                    "add_generation_prompt": add_generation_prompt,
                    **self._special_tokens,
                    "date_string": _TODAY.strftime("%d %b %Y"),
                    "strftime_now": _TODAY.strftime,
                }
            )
        except Exception as error:  # a template may raise anything
            self._fail(error)

    def render_open(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The conversation up to the last message's last character, so that its text can go on."""
        *before, last = messages
        rendered = self.render([*before, {**last, "content": last["content"] + _TAG}], add_generation_prompt=False)
        text, found, tail = rendered.rpartition(_TAG.strip())
        if not found:
            raise ValueError(f"the chat template of {self._name} leaves out the last message, which is to be continued")
        return text if tail.startswith(" ") else text.rstrip()

    def _fail(self, error: Exception) -> NoReturn:
        said = visible_line((str(error).strip().splitlines() or [""])[0][:200])
        kind = "" if isinstance(error, TemplateError | TooMuch) and said else f"{type(error).__name__}: "
        raise ValueError(f"the chat template of {self._name} cannot be rendered: {kind}{said}") from None


def apply_bounded(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, Any]], *, ask: bool) -> str:
    """As the tokenizer's own apply_chat_template, for libraries that call it; `ask`: the assistant speaks next."""
    template = _compiled(
        tokenizer.get_chat_template(), tokenizer.name_or_path, tuple(tokenizer.special_tokens_map.items())
    )
    return template.render(messages, add_generation_prompt=True) if ask else template.render_open(messages)


@lru_cache(maxsize=8)
def _compiled(source: str, name: str, special_tokens: tuple[tuple[str, str], ...]) -> BoundedTemplate:
    return BoundedTemplate(source, name=name, special_tokens=dict(special_tokens))

# ruff: noqa: E501 (templates)
"""Chat templates of strangers: rendered as transformers renders them, and stopped where they would never end."""

import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from time import monotonic
from typing import Any

import pytest
from tests.support.families import FAMILIES, make_tokenizer

from crossward.engines.chat_template import LONGEST_TEMPLATE, BoundedTemplate
from crossward.engines.template_meter import LONGEST_S
from crossward.engines.tokens import ChatTokens

CONVERSATION: list[dict[str, Any]] = [
    {"role": "system", "content": "  Be brief.\n"},
    {"role": "user", "content": 'Nombra tres <frutas> & "más" 🍎'},
    {"role": "assistant", "content": "<think>\nhm\n</think>\n\n1. Manzana"},
    {"role": "user", "content": "Ya"},
]
# Each uses what published templates use: macros, namespaces, slices, filters, tests, methods, loop controls.
TEMPLATES = {
    "thinking": """{%- set ns = namespace(last=messages|length - 1, multi=true) %}
{%- if messages[0].role == 'system' %}{{- '<|im_start|>system\\n' + messages[0].content|trim + '<|im_end|>\\n' }}{% endif %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi and message.role == "user" and message.content is string
        and not(message.content.startswith('<tool>') and message.content.endswith('</tool>')) %}
        {%- set ns.multi = false %}{%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == 'assistant' and '</think>' in content %}
        {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- if loop.index0 > ns.last or loop.last %}{{- '<think>' ~ thought ~ '</think>' }}{% endif %}
    {%- endif %}
    {%- if loop.first and message.role == 'system' %}{% continue %}{% endif %}
    {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}""",
    "tools": """{{- bos_token }}{% set system_message = messages[0]['content']|trim if messages[0]['role'] == 'system' else "" %}
{%- set rest = messages[1:] if system_message else messages %}
{{- "<|start|>system\\n\\n" }}{%- if tools is not none %}{{- "Environment: ipython\\n" }}{% endif %}
{{- "Today Date: " + date_string + "\\n\\n" + system_message + "<|eot|>" }}
{%- macro show(message, depth=0) -%}
{{ message | tojson(indent=2) }}{{ '-' * (depth + 3) }}{{ "%02d|%s" | format(depth, message.role|upper) }}
{%- endmacro %}
{%- for message in rest %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}
    {{- show(message, loop.index) | replace('"', "'") | indent(2) }}
    {%- for key, value in message.items() | sort %}{{ key ~ '=' ~ value|length }}{{ ', ' if not loop.last }}{% endfor %}
    {{- rest | map(attribute='role') | unique | join('/') }} {{ [1, 2, loop.index] | sum }} {{ {'a': loop.index}['a'] ** 2 }}
    {{- '{:>5}'.format(message.role) }}{{ (range(3) | list)[-1] }}{{ rest | selectattr('role', 'equalto', 'user') | list | length }}
{%- endfor %}
{%- for message in rest recursive %}{{ loop(message['content'][:2]) if message is mapping else message }}{% else %}-{% endfor %}
{%- set block %}{% filter upper %}end{% endfilter %}{% endset %}{{ block }}{{ strftime_now('%Y') }}""",
    "generation": """{% for m in messages if m.role != 'system' %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}
{{ eos_token }}{% endgeneration %}{% else %}{{ m.content.upper() }}{% endif %}{% if loop.index > 2 %}{% break %}{% endif %}{% endfor %}""",
}  # fmt: skip
BOMBS = {  # each would take hours or all memory
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}"
    "{% endfor %}",
    "a range": "{% for a in range(10**9) %}x{% endfor %}",
    "multiplied text": "{{ 'a' * 10**10 }}",
    "a multiplied list": "{{ ([1] * 10**10) | length }}",
    "doubled text": "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
    "added text": "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}{{ n.x }}",
    "written text": "{% for a in range(99999) %}{% for b in range(999) %}{{ messages }}{% endfor %}{% endfor %}",
    "raw text": "{% set x %}{% for a in range(99999) %}{% for b in range(99) %}" + "abcdefgh" * 99 + "{% endfor %}{% endfor %}"
    "{% endset %}",
    "doubled lists": "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
    "doubled objects": "{% set n = namespace(x={}) %}{% for i in range(60) %}{% set n.x = dict(a=n.x, b=n.x) %}{% endfor %}"
    "{{ n.x == 1 }}",
    "doubled views": "{% set n = namespace(x={}) %}{% for i in range(60) %}"
    "{% set n.x = {'a': n.x.items(), 'b': n.x.items()} %}{% endfor %}{{ n.x }}",
    "nested namespaces": "{% set n = namespace(x=1) %}{% for i in range(60) %}{% set n.x = namespace(a=n.x, b=n.x) %}{% endfor %}"
    "{{ [n.x, n.x] }}{% for i in range(10**7) %}{% endfor %}",
    "recursion": "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "a tree of calls": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(80) }}",
    "recursive loops": "{% for x in [1, 2] recursive %}{{ loop([x, x]) }}{% endfor %}",
    "power": "{{ 10 ** (10 ** 10) }}",
    "squares": "{% set n = namespace(x=7) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}{{ n.x > 1 }}",
    "center": "{{ 'a' | center(10**10) }}",
    "indent": "{{ ('a\\n' * 99999) | indent(10**6) }}",
    "join": "{{ (['a' * 10**6] * 99999) | join }}",
    "join by a long text": "{{ range(99999) | join(d='a' * 10**6) }}",
    "replace": "{{ ('a' * 10**6) | replace('a', 'b' * 10**6) }}",
    "replace by name": "{{ ('a' * 10**6) | replace(new='b' * 10**6, old='a') }}",
    "the method replace": "{{ ('a' * 10**6).replace('a', 'b' * 10**6) }}",
    "the method join": "{{ ('a' * 10**6).join(['b'] * 99999) }}",
    "ljust": "{{ 'a'.ljust(10**10) }}",
    "expandtabs": "{{ ('\\t' * 10**6).expandtabs(10**6) }}",
    "%": "{{ '%10000000000d' % 1 }}",
    "% by a value": "{{ '%*d' % (10**10, 1) }}",
    "the filter format": "{{ '%10000000000d' | format(1) }}",
    "the method format": "{{ '{:10000000000}'.format(1) }}",
    "format by a value": "{{ '{:{w}}'.format(1, w=10**10) }}",
    "many formats": "{{ ('{0}' * 10**6).format('a' * 10**6) }}",
    "translate": "{{ ('a' * 10**6).translate({97: 'b' * 10**6}) }}",
    "bytes": "{{ (1).to_bytes(10**10) }}",
    "a slow codec": "{{ ('a' * 10**6).encode('idna') }}",
    "sum of lists": "{{ (['ab'|list] * 99999) | sum(start=[]) | length }}",
    "batch": "{{ [1] | batch(10**10, 0) | list }}",
    "json": "{{ (range(99999) | list) | tojson(indent=10**6) }}",
    "json by long commas": "{{ (range(99999) | list) | tojson(separators=['a' * 10**6, 'b']) }}",
    "slices": "{% set x = 'a' * 10**6 %}{% for i in range(99999) %}{% if x[1:] == x[:-1] %}{% endif %}{% endfor %}",
    "lazy lists": "{{ range(99999) | map('string') | map('replace', '9', 'a' * 10**5) | list | length }}",
    "round": "{{ 1 | round(10**10, 'ceil') }}",
    "round to tens": "{{ 1 | round(precision=-10**10) }}",
    "wide dates": "{{ strftime_now('%999d' * 20000) }}",
    "parts of namespaces": "{% set n = namespace(x='a' * 10**6) %}{{ ([n] * 99999) | join(attribute='x') }}",
    "sorted parts": "{% set n = namespace(x='a' * 10**6) %}{{ ([n] * 99999) | sort(attribute='x') | length }}",
    "formatted parts": "{% set n = namespace(x='a' * 10**6) %}{{ ('{0.x}' * 9999).format(n) }}",
    "a namespace in itself": "{% set n = namespace() %}{% set n.x = n %}{{ [n] }}",
    "parts of loops": "{% for x in ['a' * 10**6, 1] if x %}{{ ('{0.nextitem}' * 9999).format(loop) }}{% endfor %}",
    "a circle": "{% set c = cycler('a' * 10**6) %}{{ ([c] * 99999) | join(attribute='current') }}",
    "long names": "{% macro " + "a" * 10**5 + "() %}{% endmacro %}{{ [" + "a" * 10**5 + "] * 99999 }}",
    "lorem ipsum": "{{ lipsum(n=10**6) }}",
    "round in map": "{{ [1.5] | map('round', 10**9, 'floor') | list }}",
    "indent after form feeds": "{{ ('a\x0c' * 200000) | indent(10**6) }}",
    "strip": "{{ ('a' * 2000000).strip(('b' * 2000000) ~ 'a') }}",
    "trim": "{{ ('a' * 2000000) | trim(('b' * 2000000) ~ 'a') }}",
    "rfind": "{{ ('a' * 2000000).rfind('ab' ~ ('a' * 1000000)) }}",
    "rsplit": "{{ ('a' * 2000000).rsplit(sep='ab' ~ ('a' * 1000000)) }}",
    "colliding keys": "{{ {}.fromkeys(range(0, (2**61 - 1) * 99999, 2**61 - 1)) | length }}",
    "a long attribute": "{{ range(99999) | map('string') | list | sort(attribute='0' ~ ('.0' * 1000000)) }}",
    "a long date": "{{ strftime_now(('a' * 4000000) ~ '%999999999Y') }}",
    "format by an attribute": "{% set n = namespace(x='A' * 4000000) %}{{ ('{0.x}' * 1000).format(n) }}",
    "format by an item": "{% set n = cycler('A' * 4000000) %}{{ ('{0[current]}' * 1000).format(n) }}",
    "sort by an attribute": "{% set n = namespace(x='A' * 4000000) %}{{ ([n] * 9999) | sort(attribute='x') }}",
    "join by an attribute": "{% set n = namespace(x='A' * 4000000) %}{{ ([n] * 9999) | join(attribute='x') }}",
    "groups of one name": "{{ range(99999) | groupby('nope', default='A' * 4000000) }}",
    "sort one text": "{{ range(99999) | map(attribute='nope', default='A' * 4000000) | sort }}",
}  # fmt: skip
FORBIDDEN = {
    "Python": "{{ ''.__class__.__mro__ }}",
    "Python by attr": "{{ ('' | attr('__class__')).x }}",
    "Python by format": "{{ '{0.__class__.__mro__}'.format('') }}",
    "changing the messages": "{{ messages.append(1) }}",
    "a file": "{% include '/etc/passwd' %}",
    "another template": "{% extends 'x' %}",
    "an unknown name's part": "{{ nothing.part.of }}",
    "a wrong type": "{{ 1 + 'a' }}",
    "a division": "{{ 1 // 0 }}",
    "no such filter": "{{ 1 | nothing }}",
    "no template": "{% if %}",
    "a message of its own": "{{ raise_exception('roles must\nalternate') }}",
    "brackets": "{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}",
    "nots": "{{ " + "not " * 20_000 + "1 }}",
    "sums": "{{ 1" + "+1" * 5_000 + " }}",
}


def render(
    source: str,
    messages: Sequence[Mapping[str, Any]] = CONVERSATION,
    *,
    ask: bool = True,
    special_tokens: Mapping[str, Any] = {"bos_token": "<s>"},
) -> str:
    template = BoundedTemplate(source, name="mine", special_tokens=special_tokens)
    return template.render(messages, add_generation_prompt=ask)


@pytest.mark.parametrize("ask", [True, False])
@pytest.mark.parametrize("name", [*TEMPLATES, *FAMILIES])
def test_a_template_is_rendered_as_transformers_renders_it(name: str, ask: bool):
    tokenizer = make_tokenizer(name if name in FAMILIES else "mistral")
    tokenizer.chat_template = TEMPLATES.get(name, tokenizer.chat_template)
    for messages in (CONVERSATION, CONVERSATION[1:2]):
        values = {
            "add_generation_prompt": ask,
            "date_string": "26 Jul 2024",
            "strftime_now": datetime(2024, 7, 26).strftime,
        }
        expected = tokenizer.apply_chat_template(messages, tokenize=False, **values)  # pyright: ignore
        special_tokens = tokenizer.special_tokens_map
        assert render(str(tokenizer.chat_template), messages, ask=ask, special_tokens=special_tokens) == expected != ""


@pytest.mark.parametrize("name", ["thinking", "chatml", "gemma", "mistral"])
def test_an_open_conversation_ends_as_that_of_transformers(name: str):
    tokenizer = make_tokenizer(name if name in FAMILIES else "mistral")
    tokenizer.chat_template = TEMPLATES.get(name, tokenizer.chat_template)
    for text in ("1. Manzana", "1. Manzana "):
        messages = [CONVERSATION[1], {"role": "assistant", "content": text}]
        expected = tokenizer.apply_chat_template(messages, tokenize=False, continue_final_message=True)
        special_tokens = tokenizer.special_tokens_map
        template = BoundedTemplate(str(tokenizer.chat_template), name="mine", special_tokens=special_tokens)
        assert template.render_open(messages) == expected


@pytest.mark.parametrize("name", BOMBS)
def test_a_template_that_would_never_end_is_stopped(name: str):
    start = monotonic()
    with pytest.raises(ValueError, match=r"^the chat template of mine cannot be rendered: ") as caught:
        render(BOMBS[name])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    assert "MemoryError" not in str(caught.value), "before the memory is asked for"
    assert monotonic() - start < LONGEST_S, "by its size, not by the clock"


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_else_a_template_may_raise_is_one_sentence(name: str):
    with pytest.raises(ValueError, match=r"^the chat template of mine cannot be rendered: ") as caught:
        render(FORBIDDEN[name])
    assert "\n" not in str(caught.value)


def test_a_template_in_a_thread_is_stopped_as_well_and_stops_no_other():
    said: list[str] = []

    def work() -> None:
        try:
            render(BOMBS["loops"])
        except ValueError as error:
            said.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    assert render(TEMPLATES["thinking"])
    thread.join()
    assert "too many steps" in said[0]


def test_a_template_longer_than_any_is_refused():
    with pytest.raises(ValueError, match="the chat template of mine has 262145 characters: at most 262144"):
        render("a" * (LONGEST_TEMPLATE + 1))


def test_limits_grow_with_the_conversation():
    long = [{"role": "user", "content": "Di algo. " * 400_000}]
    assert len(render(TEMPLATES["thinking"], long)) > 3_600_000


def test_a_wide_date_is_refused_before_it_is_made():
    with pytest.raises(ValueError, match="it formats a date by more than 200 characters"):
        render(BOMBS["wide dates"])


def test_how_long_a_format_takes_grows_with_its_length_alone():
    start = monotonic()
    assert len(render("{{ (':' * 10**6).format() }}")) == 10**6
    assert monotonic() - start < LONGEST_S


def test_tokens_meet_the_limits_when_a_model_is_opened_and_at_every_prompt():
    tokenizer = make_tokenizer("chatml")
    tokenizer.chat_template = BOMBS["loops"]
    with pytest.raises(ValueError, match="the chat template of mine cannot be rendered: it takes too many steps"):
        ChatTokens(tokenizer, name="mine")
    tokenizer.chat_template = "{{ messages[0]['content'] * 10**(messages[0]['content']|length * 4) }}<|im_end|>"
    with pytest.raises(ValueError, match="the chat template of mine cannot be rendered: it makes a value of"):
        ChatTokens(tokenizer, name="mine").prompt_ids("Di algo")

"""jinja2's sandbox with limits: a template may neither run for ever nor fill the memory.

transformers' own sandbox keeps a template from files and from Python alone. Here every value that a template makes has
a largest size (characters and elements, the same list twice counted twice), all values and steps together have a
budget, and a clock stands behind both, for the thread that renders (template_meter.py). What one step of Python may do
is looked at before it is done, as no clock is asked within it.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import wraps
from inspect import signature
from types import BuiltinMethodType
from typing import Any, NoReturn

from jinja2 import Environment, TemplateError, nodes, pass_context, pass_eval_context
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import make_attrgetter
from jinja2.runtime import LoopContext, markup_join, str_join
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, _PassArg
from jinja2.visitor import NodeTransformer

from crossward.engines.template_meter import METER, MOST_BITS, TooMuch

_CALL = 1024  # what a call weighs against a character: about as it does in time
_WIDEST = 9999  # of a number in a format
_MOST_DIGITS = 308  # that a number is rounded to: floats have no more
_LONGEST_DATE = 200  # characters of a date's format: it may become 256 times as long
_LONGEST_ATTRIBUTE = 256
_LETTERS_A_CHARACTER = 16  # comparisons of two letters take as long as making a character
# Ways to much work from little text that no template needs.
_NO_FILTERS = ("pprint", "striptags", "urlize", "wordwrap", "xmlattr")
_NO_METHODS = frozenset({"encode", "from_bytes", "fromkeys", "maketrans", "to_bytes", "translate"})
_BY_ATTRIBUTE = frozenset(
    {"groupby", "join", "max", "min", "sort", "sum", "unique"}
)  # which look at all values at once
# Methods that compare every letter of one text with every letter of the other.
_BY_LETTERS = frozenset({"lstrip", "rfind", "rindex", "rpartition", "rsplit", "rstrip", "strip"})


class TemplateSandbox(ImmutableSandboxedEnvironment):
    """jinja2's sandbox as transformers sets it up, with everything that makes a value or repeats a step counted."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self) -> None:
        # Not optimized: constants would be computed while compiling, before any limit.
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols], optimized=False)
        self.finalize = _shown
        self.concat = _joined  # pyright: ignore[reportAttributeAccessIssue]
        self.globals.pop("lipsum")
        self.globals |= {"dict": _dict, "namespace": _Namespace, "raise_exception": _raise}
        self.filters["tojson"] = _to_json
        for name in _NO_FILTERS:
            del self.filters[name]
        self.filters = {name: _bounded(name, function) for name, function in self.filters.items()}
        self.filters |= {"_steps": _steps, "_sized": METER.made, "_concat": _concat}
        self.tests = {name: _counted(test) for name, test in self.tests.items()}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        return _Counting().visit(super()._parse(source, name, filename))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            for one, other in ((left, right), (right, left)):
                if isinstance(one, str | list | tuple) and isinstance(other, int):
                    METER.expect(len(one) * other)
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            METER.expect(0 if left.bit_length() * right <= MOST_BITS else METER.largest + 1)
        elif operator == "%" and isinstance(left, str):
            _check_format(left, "%", right)
        return METER.made(self.binop_table[operator](left, right))

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        # Names as jinja2's, so that no keyword of a template meets them.
        if isinstance(__obj, BuiltinMethodType):
            args = _checked(__obj, args, kwargs)
        elif isinstance(__obj, LoopContext) and args:
            args = (_steps(args[0]), *args[1:])
        METER.work -= _CALL
        return METER.made(super().call(__context, __obj, *args, **kwargs))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None

        def bounded(*args: Any, **kwargs: Any) -> str:
            _check_format(value.__self__, "{", (args, kwargs))
            return wrapped(*args, **kwargs)

        return bounded


class _Generation(Extension):
    """{% generation %}, which marks what a model trains on: rendered as if it were not there."""

    tags = {"generation"}  # noqa: RUF012 (jinja2's own way)

    def parse(self, parser: Any) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)


class _Counting(NodeTransformer):
    """Sends through the filters _steps, _sized and _concat what jinja2 computes without asking its environment."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = _through(node.iter, "_steps")  # pyright: ignore[reportArgumentType]
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _through(nodes.List(node.nodes, lineno=node.lineno), "_concat")

    def visit_List(self, node: nodes.List | nodes.Dict) -> nodes.Node:
        self.generic_visit(node)
        return node if all(isinstance(item, nodes.Const) for item in node.items) else _through(node, "_sized")

    visit_Dict = visit_List

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        return self.visit_List(node) if node.ctx == "load" else self.generic_visit(node)  # pyright: ignore

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        return _through(node, "_sized") if isinstance(node.arg, nodes.Slice) else node


class _Namespace(Namespace):
    """jinja2's, which would show what it holds however deep that is."""

    def __init__(self, /, *values: Any, **named: Any) -> None:
        super().__init__(_dict(*values), **named)

    def __repr__(self) -> str:
        return "<Namespace>"


def _through(node: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _steps(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        METER.charge(0)
        yield value


def _dict(*values: Any, **named: Any) -> dict[str, Any]:
    """dict, its pairs counted: keys can be made that take long to tell apart."""
    return dict(*(value if isinstance(value, Mapping) else _steps(value) for value in values), **named)


def _counted(test: Callable[..., bool]) -> Callable[..., bool]:
    """A test, which filters may ask of many values, counted each time."""

    @wraps(test)  # with jinja2's mark for what it passes first
    def counted(*args: Any, **kwargs: Any) -> bool:
        METER.charge(0)
        return test(*args, **kwargs)

    return counted


@pass_eval_context
def _concat(eval_context: Any, parts: Sequence[Any]) -> str:
    METER.expect(METER.size(parts))
    return METER.made((markup_join if eval_context.autoescape else str_join)(parts))


@pass_context
def _shown(context: Any, value: Any) -> Any:
    """What is about to be written out; with a context, so that constants are not written while compiling."""
    return value if type(value) is str else METER.made(value)


def _joined(parts: Iterable[str]) -> str:
    """ "".join, given up as soon as the text is too long."""
    kept: list[str] = []
    total = 0
    for part in parts:
        total += len(part)
        kept.append(part)
        if total > METER.largest:
            METER.expect(total)
    METER.charge(total)
    return "".join(kept)


def _bounded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that looks at what it is asked for first, and counts what it has made."""
    skipped = int(_PassArg.from_obj(function) is not None)
    checked = _CHECKS.get(name)
    names = list(signature(function).parameters)[skipped:]

    @wraps(function)  # with jinja2's mark for what it passes first
    def bounded(*args: Any, **kwargs: Any) -> Any:
        given = args[skipped:]
        if name in _BY_ATTRIBUTE and given:
            given = (list(given[0]), *given[1:])  # of what can be looked at only once, too
            _expect_attributes(args[0], given[0], dict(zip(names, given, strict=False)) | kwargs)
        if checked is not None:
            checked(given if name == "format" else (given[0],), dict(zip(names, given, strict=False)) | kwargs)
        made = METER.made(function(*args[:skipped], *given, **kwargs))
        return _steps(made) if isinstance(made, Iterator) else made

    return bounded


def _expect_attributes(passed: Any, values: list[Any], asked: Mapping[str, Any]) -> None:
    """Before all values are sorted or joined: each of them, or its attribute, may be the same large one."""
    attribute = asked.get("attribute")
    if attribute is None:
        METER.charge(METER.size(values))
        return
    if len(str(attribute)) > _LONGEST_ATTRIBUTE:
        raise TooMuch(f"it names an attribute of more than {_LONGEST_ATTRIBUTE} characters")
    environment = passed if isinstance(passed, Environment) else passed.environment
    for part in attribute.split(",") if isinstance(attribute, str) else (attribute,):
        look_up = make_attrgetter(environment, part, default=asked.get("default"))
        METER.charge(METER.size([look_up(value) for value in _steps(values)]))


def _expect_filtered(name: str) -> Callable[[tuple[Any, ...], Mapping[str, Any]], None]:
    """What a filter of that name must not be asked for, as a function of its value and its named arguments."""

    def check(values: tuple[Any, ...], asked: Mapping[str, Any]) -> None:
        value = values[0]
        match name:
            case "center" | "batch" | "slice":
                METER.expect(max((n for n in asked.values() if isinstance(n, int)), default=0))
            case "indent":
                width = asked.get("width", 4)
                wide = len(width) if isinstance(width, str) else int(width)
                METER.expect((len(str(value).splitlines()) + 1) * wide)
            case "join":
                METER.expect(METER.size(value) + len(str(asked.get("d", ""))) * len(value))
            case "round" if isinstance(digits := asked.get("precision", 0), int) and abs(digits) > _MOST_DIGITS:
                raise TooMuch(f"it rounds to more than {_MOST_DIGITS} digits")
            case "trim":
                METER.charge(len(str(value)) * len(str(asked.get("chars", ""))) // _LETTERS_A_CHARACTER)
            case "replace" if {"old", "new"} <= asked.keys():
                METER.expect(str(value).count(str(asked["old"])) * len(str(asked["new"])))
            case "format":
                _check_format(str(value), "%", (values[1:], asked))
            case "round" if isinstance(places := asked.get("precision"), int) and abs(places) > _WIDEST:
                raise TooMuch(f"it rounds to more than {_WIDEST} places")
            case "sum" if not isinstance(asked.get("start", 0), int | float):
                raise TooMuch("it adds up with sum what are no numbers")
            case _:
                pass

    return check


_CHECKS = {
    name: _expect_filtered(name)
    for name in ("batch", "center", "format", "indent", "join", "replace", "round", "slice", "sum", "trim")
}


def _checked(method: BuiltinMethodType, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    """The arguments for a built-in value's method; raises where it would make too much."""
    text, name = method.__self__, method.__name__
    if name in _NO_METHODS:
        raise TooMuch(f"it calls the method {name}")
    if name == "strftime" and any(len(str(value)) > _LONGEST_DATE for value in (*args, *kwargs.values())):
        raise TooMuch(f"it formats a date by more than {_LONGEST_DATE} characters")
    if not isinstance(text, str) or not (args or kwargs):
        return args
    match name, args:
        case ("ljust" | "rjust" | "center" | "zfill", (int(width), *_)):
            METER.expect(width)
        case ("expandtabs", _):
            METER.expect(text.count("\t") * max(size for size in (*args, *kwargs.values()) if isinstance(size, int)))
        case ("replace", (str(old), str(new), *_)):
            METER.expect(text.count(old) * len(new))
        case ("join", (values, *rest)):
            values = list(values)
            METER.expect(METER.size(values) + len(text) * len(values))
            args = (values, *rest)
        case _ if name in _BY_LETTERS:
            letters = sum(len(value) for value in (*args, *kwargs.values()) if isinstance(value, str))
            METER.charge(len(text) * letters // _LETTERS_A_CHARACTER)
        case _:
            METER.charge(len(text))
    return args


def _check_format(text: str, mark: str, values: Any) -> None:
    """Raise where a format asks for wide numbers, or for a width that is itself a value."""
    if re.search(r"\d{5}", text) or (
        re.search(r"%[^a-zA-Z%]*\*", text) if mark == "%" else re.search(r":[^{}:]*\{", text)
    ):
        raise TooMuch(f"it formats with a width that is a value or above {_WIDEST}")
    if mark == "{" and re.search(r"\{[^{}:!]*[.\[]", text):
        raise TooMuch("it formats a part of a value by name")  # whose size is not that of the value
    METER.expect(text.count(mark) * (METER.size(values) + _WIDEST * bool(re.search(r"\d{3}", text))))


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """As transformers writes JSON: nothing escaped for HTML."""
    if len(str(indent)) > 8 or (isinstance(indent, int) and indent > 32) or len(str(separators)) > 64:
        raise TooMuch("it writes JSON with wide spaces")
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)

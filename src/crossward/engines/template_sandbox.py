"""jinja2's sandbox with limits: a template may neither run for ever nor fill the memory.

transformers' own sandbox keeps a template from files and from Python alone. Here every value that a template makes has
a largest size (characters and elements, the same list twice counted twice), all values and steps together have a
budget, and a clock stands behind both, for the thread that renders. Limits grow with the conversation.
"""

import json
import re
import threading
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, Sequence, ValuesView
from datetime import date
from functools import wraps
from inspect import signature
from time import monotonic
from types import BuiltinMethodType
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes, pass_context, pass_eval_context
from jinja2.ext import Extension, loopcontrols
from jinja2.runtime import LoopContext, Macro, markup_join, str_join
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Cycler, Joiner, Namespace, _PassArg
from jinja2.visitor import NodeTransformer

LARGEST_VALUE = 2**22  # characters (an element counts as 16), and 20 times the conversation's
MOST_WORK = 2**25  # characters made in one rendering, and 200 times the conversation's; steps count as characters, too
LONGEST_S = 10.0
_CALL, _STEP, _ELEMENT = 1024, 64, 16  # what these weigh against a character: about as they do in time
_MOST_BITS = 2**14  # of a whole number
_WIDEST = 9999  # of a number in a format
# Ways to much work from little text that no template needs.
_NO_FILTERS = ("pprint", "striptags", "urlize", "wordwrap", "xmlattr")
_NO_METHODS = frozenset({"encode", "from_bytes", "maketrans", "to_bytes", "translate"})


class TooMuch(Exception):
    """A limit was reached; the message says which."""


class _Meter(threading.local):
    """What the rendering that goes on in this thread may still do."""

    largest = LARGEST_VALUE
    work = MOST_WORK
    until = 0.0

    def start(self, n_chars: int) -> None:
        self.largest = LARGEST_VALUE + 20 * n_chars
        self.work = MOST_WORK + 200 * n_chars
        self.until = monotonic() + LONGEST_S

    def expect(self, size: int) -> None:
        """Before a value of that size is made."""
        if size > self.largest:
            raise TooMuch(f"it makes a value of {size} characters (at most {self.largest})")

    def charge(self, size: int) -> None:
        if size > self.largest:
            self.expect(size)
        self.work -= size + _STEP
        if self.work < 0:
            raise TooMuch("it takes too many steps or makes too much text")
        if monotonic() > self.until:
            raise TooMuch(f"it takes longer than {LONGEST_S:g} s")

    def made(self, value: Any) -> Any:
        """The value itself, counted."""
        self.charge(len(value) if type(value) is str else self.size(value))
        return value

    def size(self, value: Any) -> int:
        """Characters and elements of a value with all that it holds."""
        total, waiting = 0, [value]
        while waiting:
            item = waiting.pop()
            total += _ELEMENT
            if isinstance(item, str):
                total += len(item)
            elif isinstance(item, int):
                if item.bit_length() > _MOST_BITS:
                    raise TooMuch(f"it makes a number of more than {_MOST_BITS} bits")
            elif isinstance(item, Mapping):
                waiting.extend(item.keys())
                waiting.extend(item.values())
            elif isinstance(item, list | tuple | set | frozenset | KeysView | ItemsView | ValuesView):
                waiting.extend(item)
            elif isinstance(item, Namespace):
                waiting.append(item._Namespace__attrs)  # pyright: ignore[reportAttributeAccessIssue]
            elif isinstance(item, Macro):
                total += len(item.name)
            elif isinstance(item, LoopContext | Cycler | Joiner) and item is not value:
                raise TooMuch("it puts a loop into a value")  # what a loop gives out has no size that could be known
            if total + _ELEMENT * len(waiting) > self.largest:
                self.expect(total + _ELEMENT * len(waiting))
        return total


METER = _Meter()


class TemplateSandbox(ImmutableSandboxedEnvironment):
    """jinja2's sandbox as transformers sets it up, with everything that makes a value or repeats a step counted."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self) -> None:
        # Not optimized: constants would be computed while compiling, before any limit.
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols], optimized=False)
        self.finalize = _shown
        self.concat = _joined  # pyright: ignore[reportAttributeAccessIssue]
        self.globals.pop("lipsum")
        self.globals |= {"namespace": _Namespace, "raise_exception": _raise}
        self.filters["tojson"] = _to_json
        for name in _NO_FILTERS:
            del self.filters[name]
        self.filters = {name: _bounded(name, function) for name, function in self.filters.items()}
        self.filters |= {"_steps": _steps, "_sized": METER.made, "_concat": _concat}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        return _Counting().visit(super()._parse(source, name, filename))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            for one, other in ((left, right), (right, left)):
                if isinstance(one, str | list | tuple) and isinstance(other, int):
                    METER.expect(len(one) * other)
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            METER.expect(0 if left.bit_length() * right <= _MOST_BITS else METER.largest + 1)
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

    def __repr__(self) -> str:
        return "<Namespace>"


def _through(node: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _steps(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        METER.charge(0)
        yield value


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
    names = list(signature(function).parameters)[skipped:] if checked else []

    @wraps(function)  # with jinja2's mark for what it passes first
    def bounded(*args: Any, **kwargs: Any) -> Any:
        if checked is None:
            return METER.made(function(*args, **kwargs))
        given = args[skipped:]
        if name == "join":  # of what can be looked at only once, too
            given = (list(given[0]), *given[1:])
        checked(given if name == "format" else (given[0],), dict(zip(names, given, strict=False)) | kwargs)
        return METER.made(function(*args[:skipped], *given, **kwargs))

    return bounded


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
                METER.expect((str(value).count("\n") + 1) * wide)
            case "join":
                METER.expect(METER.size(value) + len(str(asked.get("d", ""))) * len(value))
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


_CHECKED = ("batch", "center", "format", "indent", "join", "replace", "round", "slice", "sum")
_CHECKS = {name: _expect_filtered(name) for name in _CHECKED}


def _checked(method: BuiltinMethodType, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    """The arguments for a built-in value's method; raises where it would make too much."""
    text, name = method.__self__, method.__name__
    if name in _NO_METHODS:
        raise TooMuch(f"it calls the method {name}")
    if isinstance(text, date):  # whose strftime makes at most 256 characters of each
        METER.expect(256 * sum(len(str(given)) for given in (*args, *kwargs.values())))
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
        case _:
            METER.charge(len(text))
    return args


def _check_format(text: str, mark: str, values: Any) -> None:
    """Raise where a format asks for wide numbers, or for a width that is itself a value."""
    if re.search(r"\d{5}", text) or (
        re.search(r"%[^a-zA-Z%]*\*", text) if mark == "%" else re.search(r":[^{}:]*\{", text)
    ):
        raise TooMuch(f"it formats with a width that is a value or above {_WIDEST}")
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

"""Valid files made wrong on purpose: odd values put into JSON, YAML, CSV and Parquet, bytes cut, doubled and turned.

Every choice is asked of a `choose(n)` (0 to n − 1), so that hypothesis can shrink it and a fuzzer can seed it. Knows no
reader.
"""

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from hypothesis import strategies

Choose = Callable[[int], int]
Kind = Literal["json", "jsonl", "yaml", "csv", "parquet", "text", "template"]

_DIGITS = "@digits@"  # stands for a whole number that json.dumps would refuse to write
ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2,
    2**31,
    2**63,
    -(2**64),
    10**400,
    _DIGITS,
    0.5,
    -0.0,
    1e308,
    float("nan"),
    float("inf"),
    "",
    " ",
    "x",
    "en",
    "\x00",
    "\ud800",
    "\u202e\u2028",
    "\x1b[2J\r\n",
    "\ufeff",
    "x" * 5000,
    "\n" * 50,
    "1",
    "NaN",
    [],
    {},
    [[]],
    [None],
    ["a", "b"],
    {"": None},
    {"x\n\x1b": 1},
    {"y" * 3000: 1},
    {"role": "user", "content": "hello"},
    [{"role": "assistant", "content": None}],
)
_PIECES: tuple[bytes, ...] = (
    b"\x00",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\r\n",
    b"\n",
    b'"',
    b"'",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\\ud800",
    b"NaN",
    b"1e999",
    b"9" * 5000,
    b"[" * 2000,
    b'{"a":' * 1500,
    b"\xed\xa0\x80",
    b"\xe2\x80\xa8",
    b"\x1b[2J",
    b"&a ",
    b"*a",
    b"<<: *a\n",
    b"!!int ",
    b"!!float ",
    b"!!bool ",
    b"!!timestamp ",
    b"!!binary ",
    b"!!python/name:os.system ",
    b"? ",
    b"- ",
    b"2024-99-99",
    b"{{",
    b"{%",
    b"{instruction}",
    b"{x}",
)


@strategies.composite
def wrong_files(draw: strategies.DrawFn, seeds: Sequence[bytes], kind: Kind, prefix: int) -> bytes:
    """One of the valid contents, made wrong behind its prefix."""

    def choose(n: int) -> int:
        return draw(strategies.integers(0, n - 1))

    content = seeds[choose(len(seeds))]
    return content[:prefix] + mutated(content[prefix:], kind, choose)


def mutated(content: bytes, kind: Kind, choose: Choose) -> bytes:
    """The content with one to three changes; of its structure where it can be read as its kind, else of its bytes."""
    for _ in range(1 + choose(3)):
        content = _once(content, kind, choose)
    return content


def _once(content: bytes, kind: Kind, choose: Choose) -> bytes:
    if choose(4) == 0:
        return _bytes(content, choose)
    try:
        match kind:
            case "json":
                return _dumped(_tree(json.loads(content), choose), choose)
            case "jsonl":
                return _lines(content, choose)
            case "yaml":
                return yaml.safe_dump(_tree(yaml.safe_load(content), choose), allow_unicode=True).encode()
            case "csv":
                return _table(content, choose)
            case "parquet":
                return _parquet(content, choose)
            case "template":
                return content + _template(choose, 4).encode() if choose(4) else _template(choose, 6).encode()
            case "text":
                return _bytes(content, choose)
    except Exception:  # content that another change made unreadable, in as many ways as there are libraries
        return _bytes(content, choose)


def _odd(choose: Choose) -> Any:
    return ODD[choose(len(ODD))]


def _tree(value: Any, choose: Choose) -> Any:
    """The value with one of its parts replaced, removed, doubled or renamed."""
    places = list(_places(value))
    if not places:
        return _odd(choose)
    holder, key = places[choose(len(places))]
    match choose(6):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[str(_odd(choose))[:4000]] = holder.pop(key)
        case 1:
            holder.insert(key, holder[key])
        case 2:
            holder[key] = [holder[key]]
        case _:
            holder[key] = _odd(choose)
    return value


def _places(value: Any) -> Any:
    match value:
        case dict():
            for key, item in value.items():
                yield value, key
                yield from _places(item)
        case list():
            for key, item in enumerate(value):
                yield value, key
                yield from _places(item)


def _dumped(value: Any, choose: Choose) -> bytes:
    text = json.dumps(value, ensure_ascii=choose(2) == 0)
    return text.replace(f'"{_DIGITS}"', "7" * 5000).encode("utf-8", "surrogatepass")


def _lines(content: bytes, choose: Choose) -> bytes:
    lines = content.split(b"\n")
    place = choose(len(lines))
    match choose(8):
        case 0:
            lines.insert(place, lines[place])
        case 1:
            del lines[place]
        case 2:
            lines[place] = b""
        case _:
            lines[place] = _dumped(_tree(json.loads(lines[place]), choose), choose)
    return b"\n".join(lines)


def _table(content: bytes, choose: Choose) -> bytes:
    rows = list(csv.reader(io.StringIO(content.decode("utf-8"), newline="")))
    row = rows[choose(len(rows))]
    cell = choose(len(row))
    match choose(4):
        case 0:
            del row[cell]
        case 1:
            row.append(str(_odd(choose)))
        case _:
            row[cell] = str(_odd(choose))
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode("utf-8", "surrogatepass")


_COLUMNS: tuple[Callable[[int], pa.Array], ...] = (
    lambda n: pa.nulls(n),
    lambda n: pa.nulls(n, pa.string()),
    lambda n: pa.array([float("nan")] * n),
    lambda n: pa.array([2**63] * n, pa.uint64()),
    lambda n: pa.array([True] * n),
    lambda n: pa.array([b"\xff\xfe"] * n),
    lambda n: pa.array([b"\xff\xfe"] * n).view(pa.string()),
    lambda n: pa.array(["a"] * n).dictionary_encode(),
    lambda n: pa.array(["x" * 5000] * n),
    lambda n: pa.array([[[["deep"]]]] * n),
    lambda n: pa.array([{"a": {"b": [1, None]}}] * n),
    lambda n: pa.array([{"role": "user", "content": "q"}] * n),
    lambda n: pa.array([["a"]] * n),
    lambda n: pa.array([0] * n, pa.timestamp("ns")),
    lambda n: pa.array([2**62] * n, pa.timestamp("s")),
    lambda n: pa.array([2**62] * n, pa.duration("s")),
    lambda n: pa.array([2**31 - 1] * n, pa.date32()),
    lambda n: pa.array([b"1234567890123456"] * n, pa.binary(16)),
    lambda n: pa.array([[("k", 1), ("k", 2)]] * n, pa.map_(pa.string(), pa.int32())),
    lambda n: pa.array([1] * n, pa.float16()),
    lambda n: pa.array(["a\x00\x1b\u202e"] * n),
)


def _parquet(content: bytes, choose: Choose) -> bytes:
    table = pq.read_table(pa.BufferReader(content))
    place = choose(table.num_columns)
    column = _COLUMNS[choose(len(_COLUMNS))](table.num_rows)
    match choose(6):
        case 0:
            table = table.remove_column(place)
        case 1:
            table = table.append_column(("x\n\x1b", "y" * 3000, table.column_names[0])[choose(3)], column)
        case 2:
            table = table.slice(0, choose(table.num_rows + 1))
        case 3:
            table = pa.concat_tables([table, table])
        case _:
            table = table.set_column(place, table.column_names[place], column)
    sink = io.BytesIO()
    pq.write_table(table, sink, compression=("zstd", "snappy", "none", "gzip", "brotli", "lz4")[choose(6)])
    return sink.getvalue()


_NAMES = (
    "messages",
    "message",
    "messages[0].content",
    "bos_token",
    "x",
    "loop",
    "namespace()",
    "tools",
    "none",
    "self",
)
_VALUES = (
    "1",
    "-1",
    "0.5",
    "''",
    "'a' * 9",
    "[]",
    "{}",
    "[1, 2, 3]",
    "range(9)",
    "'%s' % 1",
    "9 ** 9",
    "true",
    "10 ** 10",
)
_FILTERS = (
    *("length", "trim", "tojson", "join(',')", "list", "first", "last", "upper", "replace('a', 'b')", "int", "sort"),
    *("batch(3)", "indent(4)", "center(80)", "sum", "reverse", "items", "map('upper')", "groupby('role')", "random"),
    *("selectattr('role')", "dictsort", "format(1)", "default('x')", "slice(2)", "unique", "safe", "nothing", "round"),
)
_OPERATORS = ("+", "-", "*", "/", "%", "~", "**", "in", "and", "==", "<")
_METHODS = (
    ".split()",
    ".strip()",
    ".items()",
    ".join(['a'])",
    ".format(1)",
    "['role']",
    "[0]",
    "[::-1]",
    "()",
    ".x",
    ".__class__",
)


def _template(choose: Choose, depth: int) -> str:
    """A chat template drawn by a grammar: mostly well-formed, seldom sensible."""
    parts = [_statement(choose, depth - 1) if depth else "a" for _ in range(1 + choose(3))]
    return "".join(parts)


def _statement(choose: Choose, depth: int) -> str:
    one = _expression(choose, depth)
    match choose(9):
        case 0:
            return f"{{% for x in {one} %}}{_template(choose, depth)}{{% endfor %}}"
        case 1:
            return f"{{% if {one} %}}{_template(choose, depth)}{{% else %}}b{{% endif %}}"
        case 2:
            return f"{{% set x = {one} %}}"
        case 3:
            return f"{{% macro m(y) %}}{_template(choose, depth)}{{% endmacro %}}{{{{ m({one}) }}}}"
        case 4:
            return f"{{% for x in {one} recursive %}}{{{{ loop({one}) }}}}{{% endfor %}}"
        case 5:
            return f"{{% generation %}}{one}{{% endgeneration %}}{{# {one} #}}"
        case 6:
            return "{% for message in messages %}{{ message.role }}: {{ message.content }}<|im_end|>{% endfor %}"
        case _:
            return f"{{{{ {one} }}}}"


def _expression(choose: Choose, depth: int) -> str:
    if depth <= 0:
        return (*_NAMES, *_VALUES)[choose(len(_NAMES) + len(_VALUES))]
    one = _expression(choose, depth - 1)
    match choose(7):
        case 0:
            return f"({one} {_OPERATORS[choose(len(_OPERATORS))]} {_expression(choose, 0)})"
        case 1 | 2:
            return f"({one} | {_FILTERS[choose(len(_FILTERS))]})"
        case 3:
            return f"{one}{_METHODS[choose(len(_METHODS))]}"
        case 4:
            return f"({one} if {_expression(choose, 0)} else {_expression(choose, 0)})"
        case _:
            return one


def _bytes(content: bytes, choose: Choose) -> bytes:
    place = choose(len(content) + 1)
    match choose(6):
        case 0:
            return content[:place]
        case 1:
            return content[place:]
        case 2:
            return content[:place] + content[place + 1 + choose(8) :]
        case 3 if place < len(content):
            return content[:place] + bytes([content[place] ^ (1 << choose(8))]) + content[place + 1 :]
        case 4:
            end = place + choose(64)
            return content[:end] + content[place:end] * (1 + choose(3)) + content[end:]
        case _:
            return content[:place] + _PIECES[choose(len(_PIECES))] + content[place:]

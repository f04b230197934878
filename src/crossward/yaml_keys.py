"""YAML files as nested dictionaries, dotted keys set in them, and each of pydantic's errors as one sentence.

What recipes (config.py) and experiments (experiment_config.py) share.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from crossward.core.plain_text import listed, shown, visible_line

_LARGEST_BYTES = 2**20
_MOST_VALUES = 100_000  # in a whole file, what an alias repeats counted each time
_DEEPEST = 64
_MOST_MISTAKES = 8
_LONGEST = 700  # characters of all mistakes together


class _OnceLoader(yaml.SafeLoader):
    """Refuses a key that comes twice in one mapping: YAML forbids it, yet PyYAML takes the last one silently.

    Refuses also what would fill a memory or a stack: nesting without end, aliases of aliases, a value inside itself.
    """

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._depth += 1
        if self._depth > _DEEPEST:
            line = self.peek_event().start_mark.line + 1  # pyright: ignore
            raise ValueError(f"line {line}: values are nested more than {_DEEPEST} deep: leave out some brackets")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None:
            _n_values(node, {})
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        except (ValueError, KeyError, IndexError, AttributeError, TypeError, OverflowError):
            # What PyYAML makes of `!!int ""` or 2024-99-99.
            kind = shown(node.tag.rpartition(":")[2])[1:-1]
            raise ValueError(
                f"line {node.start_mark.line + 1}: a value that is no {kind}: write it in quotes"
            ) from None

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":  # `<<` may come twice
                continue
            line = key.start_mark.line + 1
            if key.value in lines:
                raise ValueError(
                    f"line {line}: the key {shown(key.value)} comes a second time (first in line {lines[key.value]}): "
                    "leave one out"
                )
            lines[key.value] = line
        return node


def _n_values(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for, aliases followed. ValueError where they are too many, or it holds itself."""
    if id(node) not in known:
        known[id(node)] = -1
        children = node.value if isinstance(node, yaml.CollectionNode) else []
        flat = [part for child in children for part in (child if isinstance(child, tuple) else (child,))]
        known[id(node)] = 1 + sum(_n_values(child, known) for child in flat)
    found = known[id(node)]
    line = node.start_mark.line + 1
    if isinstance(node, yaml.ScalarNode) and any("\ud800" <= character <= "\udfff" for character in node.value):
        raise ValueError(f"line {line}: the text holds half of a surrogate pair, which is no character: repair it")
    if found < 0:
        raise ValueError(f"line {line}: a value holds itself: leave out the alias")
    if found > _MOST_VALUES:
        raise ValueError(f"line {line}: more than {_MOST_VALUES} values, aliases counted each time: leave some out")
    return found


def load_yaml(text: str) -> Any:
    """The value of a YAML text. ValueError, with the line, where a key comes twice, or of what is made to fill a
    memory; yaml.YAMLError where it is none.
    """
    if len(text) > _LARGEST_BYTES:
        raise ValueError(f"more than {_LARGEST_BYTES} characters in one YAML value: leave some out")
    return yaml.load(text, Loader=_OnceLoader)  # a safe loader


def wrong_yaml(error: yaml.YAMLError) -> str:
    """Where a YAML text is none, and why, on one line."""
    text = visible_line(" ".join(str(error).split()))
    return text if len(text) <= 300 else f"{text[:150]} ... {text[-147:]}"


def read_yaml(path: Path, what: str, *, example: str) -> dict[str, Any]:
    """The file's keys with their values; `what` names its kind in errors. Raises ValueError where it holds none."""
    name = visible_line(str(path))  # an experiment names its recipe's
    try:
        with path.open(encoding="utf-8") as text:
            tree = load_yaml(text.read(_LARGEST_BYTES + 1))
    except FileNotFoundError:
        raise ValueError(f"{what} {name} does not exist: give the path of a YAML {what}, such as {example}") from None
    except (IsADirectoryError, UnicodeDecodeError) as error:
        raise ValueError(f"{what} {name} cannot be read as a UTF-8 text file ({error})") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{what} {name} is not valid YAML: {wrong_yaml(error)}") from None
    except ValueError as error:
        raise ValueError(f"{what} {name}, {error}") from None
    if not isinstance(tree, dict):
        raise ValueError(f"{what} {name} must hold keys such as those of {example}, got {type(tree).__name__}")
    return tree


def put(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key in nested dictionaries; sections that are not there are made.

    Raises ValueError where a section is a value: the sentence begins with its name.
    """
    *sections, last = key.split(".")
    node: Any = tree
    for section in sections:
        if node.get(section) is None:
            node[section] = {}
        node = node[section]
        if not isinstance(node, dict):
            raise ValueError(f"{shown(section)} is a value, not a section")
    node[last] = value


def sentences(error: ValidationError, root: type[BaseModel], *, whole: str, missing: str = "") -> str:
    """Every mistake of an error: the dotted key, what was got, the nearest key where one is unknown.

    `root` is the model that was validated, `whole` its name where no key is to blame; `missing` says why a missing key
    has no default.
    """
    mistakes = error.errors()
    told: list[str] = []
    for item in mistakes[:_MOST_MISTAKES]:
        text = visible_line(_sentence(item, root, whole, missing))
        if sum(map(len, told)) + len(text) > _LONGEST and told:
            break
        told.append(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}...")
    more = [f"and {len(mistakes) - len(told)} more mistakes"] if len(mistakes) > len(told) else []
    return "; ".join([*told, *more])


def _sentence(item: Any, root: type[BaseModel], whole: str, missing: str) -> str:
    # Which member of a union was tried is no key.
    unknown = item["type"] == "extra_forbidden"  # its key, the last part, may be called anything
    parts = item["loc"][:-1] if unknown else item["loc"]
    location = [part for part in parts if isinstance(part, str) and "[" not in part and part != "str"]
    if unknown:
        location.append(str(item["loc"][-1]))
    key = ".".join(location)
    match item["type"]:
        case "extra_forbidden":
            known = _keys(location[:-1], root)
            near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys here: {listed(known, 40)}"
            return f"unknown key {shown(key)}; {hint}"
        case "missing":
            return f"missing key {shown(key)}{missing}"
        case _:
            message = item["msg"].removeprefix("Value error, ")
            got = item["input"]
            said = "" if isinstance(got, dict) or "got" in message else f", got {shown(got)}"
            if item["type"] == "string_type" and isinstance(got, bool):
                said += " (YAML reads no, yes, on and off so: write it in quotes)"
            return f"{key or whole}: {message[0].lower()}{message[1:]}{said}"


def _keys(location: Sequence[str], root: type[BaseModel]) -> list[str]:
    """The known keys of a section, found by walking the models from the root."""
    model = root
    for part in location:
        field = model.model_fields.get(part)
        candidates = [field.annotation, *get_args(field.annotation)] if field else []
        sections = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if not sections:
            return []
        model = sections[0]
    return list(model.model_fields)

"""YAML files as nested dictionaries, dotted keys set in them, and each of pydantic's errors as one sentence.

What recipes (config.py) and experiments (experiment_config.py) share.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError


class _OnceLoader(yaml.SafeLoader):
    """Refuses a key that comes twice in one mapping: YAML forbids it, yet PyYAML takes the last one silently."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":  # `<<` may come twice
                continue
            line = key.start_mark.line + 1
            if key.value in lines:
                raise ValueError(
                    f"line {line}: the key {key.value!r} comes a second time (first in line {lines[key.value]}): leave "
                    "one out"
                )
            lines[key.value] = line
        return node


def load_yaml(text: str) -> Any:
    """The value of a YAML text. ValueError, with the line, where a key comes twice; yaml.YAMLError where it is none."""
    return yaml.load(text, Loader=_OnceLoader)  # a safe loader


def read_yaml(path: Path, what: str, *, example: str) -> dict[str, Any]:
    """The file's keys with their values; `what` names its kind in errors. Raises ValueError where it holds none."""
    try:
        tree = load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{what} {path} does not exist: give the path of a YAML {what}, such as {example}") from None
    except (IsADirectoryError, UnicodeDecodeError) as error:
        raise ValueError(f"{what} {path} cannot be read as a UTF-8 text file ({error})") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{what} {path} is not valid YAML: {' '.join(str(error).split())}") from None
    except ValueError as error:
        raise ValueError(f"{what} {path}, {error}") from None
    if not isinstance(tree, dict):
        raise ValueError(f"{what} {path} must hold keys such as those of {example}, got {type(tree).__name__}")
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
            raise ValueError(f"{section!r} is a value, not a section")
    node[last] = value


def sentences(error: ValidationError, root: type[BaseModel], *, whole: str, missing: str = "") -> str:
    """Every mistake of an error: the dotted key, what was got, the nearest key where one is unknown.

    `root` is the model that was validated, `whole` its name where no key is to blame; `missing` says why a missing key
    has no default.
    """
    return "; ".join(_sentence(item, root, whole, missing) for item in error.errors())


def _sentence(item: Any, root: type[BaseModel], whole: str, missing: str) -> str:
    # Which member of a union was tried is no key.
    location = [part for part in item["loc"] if isinstance(part, str) and "[" not in part and part != "str"]
    key = ".".join(location)
    match item["type"]:
        case "extra_forbidden":
            known = _keys(location[:-1], root)
            near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys here: {', '.join(known)}"
            return f"unknown key {key!r}; {hint}"
        case "missing":
            return f"missing key {key!r}{missing}"
        case _:
            message = item["msg"].removeprefix("Value error, ")
            got = item["input"]
            shown = "" if isinstance(got, dict) or "got" in message else f", got {got!r}"
            if item["type"] == "string_type" and isinstance(got, bool):
                shown += " (YAML reads no, yes, on and off so: write it in quotes)"
            return f"{key or whole}: {message[0].lower()}{message[1:]}{shown}"


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

"""Write docs/keys.md: every key of a recipe and of an experiment, from the models that check them.

Types, ranges and defaults are the models' own. What a key is for is said in the recipes, in the comment behind it:
every-key.yaml first, then one-gpu-lora.yaml for sections that are left out by default, then experiment-demo.yaml.
"""

import inspect
import re
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from crossward.config import Config
from crossward.experiment_config import Experiment

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "docs" / "keys.md"
HEAD = """# Every key

Made by `make docs` from the models that check a recipe. An unknown key is refused, and the nearest known one named. On
the command line a key is written with dots: `crossward run recipe.yaml sample.n=4`. To copy lines from:
[every-key.yaml](../recipes/every-key.yaml).

A key without a default must be given, as it decides what is computed.
"""
EXPERIMENT = """## An experiment

What `crossward experiment` reads: a recipe, and what is changed in it. [experiments.md](experiments.md) says how it all
goes together.
"""
Meanings = Mapping[str, str]


def render() -> str:
    """The whole page."""
    recipes = ROOT / "recipes"
    said = {**meanings(recipes / "one-gpu-lora.yaml"), **meanings(recipes / "every-key.yaml")}
    parts = [HEAD, "## The recipe itself", "", *_section(Config, said)]
    first: dict[type[BaseModel], str] = {}
    for path, model in sections(Config):
        before = first.setdefault(model, path)
        same = ["The keys of " + _link(before) + ", for held-out prompts.", ""]
        parts += [f"## {path}", "", *(_section(model, said, path) if before == path else same)]
    told = meanings(recipes / "experiment-demo.yaml")
    parts += [EXPERIMENT, *_section(Experiment, told)]
    for path, model in sections(Experiment):
        parts += [f"### {path}", "", *_section(model, told, path)]
    return "\n".join(parts).rstrip() + "\n"


def meanings(path: Path) -> dict[str, str]:
    """What the comments of a recipe say, by dotted key; lines that are commented out count too.

    A comment on the line before holds for a key without one of its own.
    """
    found: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        match = re.match(r"(?P<indent> *)(?:# (?P<more> *))?(?P<item>- )?(?P<key>[a-z_.]+):(?P<rest>.*)$", line)
        if match is None:
            continue
        depth = sum(len(match[part] or "") for part in ("indent", "more", "item"))
        above = [(indent, key) for indent, key in above if indent < depth]
        key = ".".join([*(key for _, key in above), match["key"]])
        _, mark, comment = match["rest"].partition(" # ")
        if mark:
            found.setdefault(key, comment.strip())
        above.append((depth, match["key"]))
    return found


def sections(model: type[BaseModel], before: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """The sections within a section, with their dotted names, in order; each before its own."""
    for name, field in model.model_fields.items():
        for inner in _models(field.annotation):
            yield f"{before}{name}", inner
            yield from sections(inner, f"{before}{name}.")


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]


def _section(model: type[BaseModel], said: Meanings, path: str = "") -> list[str]:
    lines = []
    if told := inspect.getdoc(model):
        lines += [_prose(told), ""]
    lines += ["| key | value | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        key = f"{path}.{name}" if path else name
        lines.append(f"| `{name}` | {_value(field)} | {_default(field, key)} | {_meaning(field, key, said)} |")
    return [*lines, ""]


def _meaning(field: FieldInfo, key: str, said: Meanings) -> str:
    """The comment of a recipe; of a section, where its keys are."""
    if _models(field.annotation):
        return f"{_prose(said[key])}: {_link(key)}" if key in said else _link(key)
    if key not in said:
        raise ValueError(f"no recipe says what {key} is for: write it behind the key in recipes/every-key.yaml")
    return _prose(said[key]).replace("|", "\\|")


def _prose(text: str) -> str:
    """What the code says as Markdown: pages are links, tags are text."""
    return re.sub(r"docs/([\w-]+\.md)", r"[\1](\1)", text).replace("<", "&lt;")


def _link(key: str) -> str:
    return f"[{key}](#{key.replace('.', '')})"


def _default(field: FieldInfo, key: str) -> str:
    """The default as YAML; a long one is in every-key.yaml; of a section, whether it is there at all."""
    if field.is_required():
        return "must be given"
    value = field.get_default(call_default_factory=True)
    assert value is not PydanticUndefined, key
    if isinstance(value, BaseModel):
        return ""
    if value is None or isinstance(value, bool):
        return f"`{'null' if value is None else str(value).lower()}`"
    if isinstance(value, tuple):
        inner = ", ".join(str(getattr(one, "shape", one)) for one in value)
        return f"`[{inner}]`"
    return f"`{value}`".replace("|", "\\|")


def _value(field: FieldInfo) -> str:
    """What may stand there: the words that are allowed, or a kind of value and its range."""
    kind = _kind(field.annotation)
    return f"{kind}{_bounds(field.metadata)}"


def _kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(arguments[0]) + _bounds(arguments[1:])
    if origin is Literal:
        return ", ".join(f"`{word}`" for word in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join("`null`" if one is type(None) else _kind(one) for one in arguments)
    if origin is tuple:
        return f"a list of {_many(_kind(arguments[0]))}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "a section"
    if origin is dict or annotation is dict:
        return "keys and values"
    return {int: "a whole number", float: "a number", str: "a text", bool: "`true`, `false`"}[annotation]


def _many(kind: str) -> str:
    """More of a kind.

    >>> _many("a whole number (from 0)"), _many("`crosslingual`, `translated`")
    ('whole numbers (from 0)', '`crosslingual`, `translated`')
    """
    return re.sub(r"^a (text|section|whole number|number)", r"\1s", kind)


def _bounds(metadata: Any) -> str:
    """The ranges that annotations set, in words."""
    found: list[str] = []
    for one in metadata:
        inner = getattr(one, "metadata", [one])  # a Field within Annotated holds its bounds
        for bound in inner:
            for name, words in (("ge", "from"), ("gt", "over"), ("le", "to"), ("lt", "under")):
                if (limit := getattr(bound, name, None)) is not None:
                    found.append(f"{words} {limit}")
    return f" ({' '.join(found)})" if found else ""


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")

"""Write docs/api.md from signatures and docstrings: what a program may build on. Nothing is imported, only read.

The page is plain Markdown that is kept in the repository, so that it reads the same there and on the site; a test holds
it against the code.
"""

import ast
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TARGET = Path(__file__).parent / "api.md"
SOURCE = Path(__file__).parent.parent / "src"
WIDTH = 100
HEAD = """# Python

Made by `make docs` from the code's own docstrings. `from crossward import ImplicitReward` is the public face; the rest
is what the command line itself is made of. Modules import downwards only: `core` knows no files, no network and no
models. How to hand a run an engine of your own: [extending.md](extending.md).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A heading, the module it is of, and the names that are told; none: every public one."""

    title: str
    module: str
    names: tuple[str, ...] = ()


PARTS = (
    Part(title="The reward", module="crossward.pipeline.implicit_reward", names=("ImplicitReward",)),
    Part(title="A recipe", module="crossward.config", names=("load", "parse")),
    Part(title="A run", module="crossward.pipeline.iterate", names=("run",)),
    Part(title="Engines of one's own", module="crossward.pipeline.given", names=("Given",)),
    Part(
        title="What an engine is",
        module="crossward.engines.protocols",
        names=(
            "Sampler",
            "Scorer",
            "Rater",
            "Judge",
            "LanguageIdentifier",
            "Translator",
            "Sampling",
            "Judged",
            "ToRate",
        ),
    ),
    Part(title="The values", module="crossward.core.records"),
    Part(title="Under which instruction", module="crossward.core.instructions"),
    Part(title="Rewards", module="crossward.core.rewards"),
    Part(title="Length control", module="crossward.core.length_control"),
    Part(title="Pairs", module="crossward.core.pairing"),
    Part(title="Win rates", module="crossward.core.winrates"),
    Part(title="A run's folder", module="crossward.store.run_dir"),
    Part(title="What stages left", module="crossward.pipeline.stage_files"),
    Part(title="Files of groups and scores", module="crossward.store.edges"),
    Part(title="Files of pairs", module="crossward.store.pair_rows", names=("read_pairs", "write_pairs", "PairRow")),
)
Named = ast.ClassDef | ast.FunctionDef


def render() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(line for part in PARTS for line in _part(part))]).rstrip() + "\n"


def _part(part: Part) -> Iterator[str]:
    path = SOURCE / (part.module.replace(".", "/") + ".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    named = {node.name: node for node in tree.body if isinstance(node, Named) and not node.name.startswith("_")}
    missing = set(part.names) - set(named)
    assert not missing, f"{part.module} has no {', '.join(sorted(missing))}"
    yield from (f"## {part.title}", "", f"`{part.module}`", "")
    if not part.names:
        yield from _told(tree)
    for name in part.names or named:
        node = named[name]
        yield from (f"### {name}", "", "```python", _shown(node), "```", "")
        yield from _told(node)
        methods = [m for m in node.body if isinstance(m, ast.FunctionDef)] if isinstance(node, ast.ClassDef) else []
        for method in methods:
            if not method.name.startswith("_"):
                yield from ("```python", f"{name}.{_shown(method)}", "```", "")
                yield from _told(method)


def _told(node: Named | ast.Module) -> Iterator[str]:
    """The docstring; what is set off in it, and examples that are run as tests, become blocks of code."""
    for block in (ast.get_docstring(node) or "").split("\n\n"):
        prose, prompt, example = block.partition(">>> ")
        if block.startswith("    "):
            yield from ("```text", textwrap.dedent(block), "```", "")
        elif prose.strip():
            yield from (_prose(prose.rstrip()), "")
        if prompt:
            yield from ("```pycon", prompt + example, "```", "")


def _shown(node: Named) -> str:
    """A signature: of a class its fields or what it is made with, of a function its arguments."""
    decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
    if isinstance(node, ast.FunctionDef):
        if "property" in decorators:
            return f"{node.name}: {ast.unparse(node.returns) if node.returns else 'object'}  # computed"
        return _signature(node.name, node.args, node.returns)
    bases = ", ".join(ast.unparse(base) for base in node.bases if ast.unparse(base) != "Protocol")
    made = next((m for m in node.body if isinstance(m, ast.FunctionDef) and m.name == "__init__"), None)
    if made is not None:
        return _signature(f"class {node.name}", made.args, None)
    fields = [ast.unparse(field) for field in node.body if isinstance(field, ast.AnnAssign)]
    public = [f"    {field}" for field in fields if not field.startswith("_")]
    return _quoted(
        "\n".join([f"class {node.name}" + (f"({bases})" if bases else "") + (":" if public else ""), *public])
    )


def _signature(name: str, arguments: ast.arguments, returns: ast.expr | None) -> str:
    """On one line where that is short enough, else an argument a line."""
    end = f" -> {ast.unparse(returns)}" if returns is not None else ""
    plain = arguments.args[1:] if arguments.args and arguments.args[0].arg == "self" else arguments.args
    defaults = [None] * (len(plain) - len(arguments.defaults)) + arguments.defaults + arguments.kw_defaults
    shown = [
        ast.unparse(one) + (f" = {ast.unparse(value)}" if value is not None else "")
        for one, value in zip([*plain, *arguments.kwonlyargs], defaults, strict=True)
    ]
    if arguments.vararg is not None:
        shown.insert(len(plain), f"*{ast.unparse(arguments.vararg)}")
    elif arguments.kwonlyargs:
        shown.insert(len(plain), "*")
    line = f"{name}({', '.join(shown)}){end}"
    if len(line) > WIDTH:
        line = "\n".join([f"{name}(", *(f"    {one}," for one in shown), f"){end}"])
    return _quoted(line)


def _quoted(code: str) -> str:
    """Double quotes, as everywhere in the code."""
    return code if '"' in code else code.replace("'", '"')


def _prose(text: str) -> str:
    """A docstring's paragraph as Markdown: what looks like a heading or a tag is text."""
    pieces = text.split("`")
    pieces[::2] = [piece.replace("<", "&lt;") for piece in pieces[::2]]
    return re.sub(r"^#", r"\\#", "`".join(pieces))


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")

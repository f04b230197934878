"""The docs tell of what is there: cli.md is current, every command, path and link in them exists."""

import importlib.util
import re
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from crossward.cli import app

ROOT = Path(__file__).parent.parent
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
VERBS = typer.main.get_command(app)
# Made by `make demo` or by the commands themselves, or named for the reader to replace.
NOT_IN_THE_CHECKOUT = re.compile(r"^(runs/|\.venv|my-|crossward$)")


def blocks(text: str) -> list[str]:
    """The lines of fenced blocks that are not marked as text, continued lines joined, comments cut."""
    found = re.findall(r"```(\w*)\n(.*?)```", text, flags=re.DOTALL)
    fenced = "\n".join(content for language, content in found if language != "text").replace("\\\n", " ")
    return [line.split("  #")[0].strip() for line in fenced.splitlines()]


def commands(path: Path) -> list[list[str]]:
    return [line.split() for line in blocks(path.read_text(encoding="utf-8")) if line.startswith("crossward ")]


def test_cli_md_is_what_the_command_line_says():
    specification = importlib.util.spec_from_file_location("generate_cli", ROOT / "docs" / "generate_cli.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    assert module.TARGET.read_text(encoding="utf-8") == module.render(), "run make docs"


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_commands_name_verbs_options_and_recipes_that_exist(path: Path):
    assert isinstance(VERBS, TyperGroup)
    if path.name == "README.md":
        assert len(commands(path)) >= 8
    for _, verb, *arguments in commands(path):
        assert verb in VERBS.commands, f"{path.name}: crossward {verb}"
        options = {n for option in VERBS.commands[verb].params for n in (*option.opts, *option.secondary_opts)}
        for argument in arguments:
            if argument.startswith("--"):
                assert argument in options, f"{path.name}: crossward {verb} {argument}"
            if argument.startswith("recipes/"):
                assert (ROOT / argument).exists(), f"{path.name}: {argument}"


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_and_paths_lead_somewhere(path: Path):
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+?)\)", text):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"
    for named in re.findall(r"`((?:src/crossward|recipes|docs|experiments|benchmarks)/[\w./-]+)`", text):
        assert (ROOT / named).exists(), f"{path.name} names {named}"
    for named in re.findall(r"`((?:core|engines|store|pipeline|tinyworld)/[\w./-]+\.py)`", text):
        assert (ROOT / "src" / "crossward" / named).exists(), f"{path.name} names {named}"


def test_nothing_is_left_to_fill_in():
    for path in DOCS:
        assert not re.search(r"\b(TODO|FIXME|XXX|DEMO_TABLE|SMOLLM_LINE)\b", path.read_text(encoding="utf-8")), (
            path.name
        )

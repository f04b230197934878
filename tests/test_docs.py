"""The docs tell of what is there: generated pages are current, every command, path, link and example in them holds.

tests/test_docs_commands.py runs what can be run; tests/test_docs_site.py holds the site's own scripts.
"""

import ast
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer
import yaml
from tests.support.docs import PAGES, ROOT, WRITTEN, commands, fenced, headings, prose, script
from typer.core import TyperGroup

from crossward.cli import app

VERBS = typer.main.get_command(app)
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
slug = script("site_hooks").slug


@pytest.mark.parametrize("name", ["generate_cli", "generate_keys", "generate_api"])
def test_generated_pages_are_what_the_code_says(name: str):
    module = script(name)
    assert module.TARGET.read_text(encoding="utf-8") == module.render(), "run make docs"


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_every_line_to_type_can_be_typed(page: Path):
    if page.name == "README.md":
        assert len(commands(page)) >= 8
    for line in commands(page):
        for part in line.split(" && "):
            problem = problem_of(shlex.split(part))
            assert problem is None, f"{page.name}: {part}: {problem}"


def test_readme_begins_with_the_two_commands_to_a_report():
    (first, *_) = fenced(ROOT / "README.md", "")
    clone, demo = first.splitlines()
    assert clone.startswith("git clone ")
    assert demo == "make demo"  # tests/tinyworld/test_demo.py: it ends in a report


def problem_of(words: list[str]) -> str | None:
    """What is wrong with a command, as far as can be told without running it."""
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):  # the environment of one command
        words = words[1:]
    match words:
        case ["crossward", verb, *arguments]:
            return _crossward(verb, arguments)
        case ["make", target]:
            return None if re.search(rf"^{target}:", MAKEFILE, re.MULTILINE) else "no such target"
        case ["python", path, *arguments] if path.endswith(".py"):
            return _script(ROOT / path, arguments)
        case ["bash", path]:
            return None if (ROOT / path).is_file() else "no such file"
        case ["pip", "install", what]:
            extras = re.findall(r"\w+", what.removeprefix("."))
            return next((f"no extra {extra}" for extra in extras if extra not in EXTRAS), None)
        case ["git", "clone", *_] | ["cd", "crossward"] | ["source", ".venv/bin/activate"]:
            return None
        case ["python", "-m", "vllm.entrypoints.openai.api_server", *_]:
            return None
        case _:
            return "not a command that this test knows: is it one? Other blocks name their language (```text)"


def _crossward(verb: str, arguments: list[str]) -> str | None:
    """The real parser reads it: verbs, options, types, choices, what is required. Recipes that are named exist."""
    assert isinstance(VERBS, TyperGroup)
    if verb not in VERBS.commands:
        return "no such verb"
    root = typer.Context(VERBS, info_name="crossward")
    try:
        VERBS.commands[verb].make_context(verb, list(arguments), parent=root)
    except Exception as error:  # the parser's own, whatever library it is of
        return f"{type(error).__name__}: {error}"
    named = [word for word in arguments if re.match(r"(recipes|experiments)/", word)]
    return next((f"no {word}" for word in named if not (ROOT / word).exists()), None)


def _script(path: Path, arguments: list[str]) -> str | None:
    """A script of the repository, and its options."""
    if not path.is_file():
        return "no such file"
    text = "\n".join(file.read_text(encoding="utf-8") for file in path.parent.glob("*.py"))  # with what they share
    options = [word for word in arguments if word.startswith("--")]
    return next((f"no option {option}" for option in options if f'"{option}"' not in text), None)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("crossward scor --input a", "no such verb"),
        ("crossward pair --input a --output b --length-unit words", "is not one of"),
        ("crossward pair --input a", "MissingParameter"),
        ("crossward run recipes/none.yaml", "no recipes/none.yaml"),
        ("make coffee", "no such target"),
        ("python benchmarks/startup.py --fast", "no option --fast"),
        ("pip install '.[everything]'", "no extra everything"),
        ("rm -r runs", "not a command"),
    ],
)
def test_a_line_that_cannot_be_typed_is_seen(line: str, problem: str):
    assert problem in (problem_of(shlex.split(line)) or "")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_lead_somewhere(page: Path):
    text = prose(page)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        target, _, anchor = link.partition("#")
        if target.startswith("http"):
            assert re.fullmatch(r"https?://[\w.-]+(/\S*)?", target), f"{page.name}: {link} is no address"
            continue
        path = page.parent / target if target else page
        assert path.exists(), f"{page.name} links to {link}"
        assert not anchor or anchor in map(slug, headings(path)), f"{page.name} links to {link}: no such heading"
    for named in re.findall(r"`((?:src/crossward|recipes|docs|experiments|benchmarks)/[\w./-]+)`", text):
        assert (ROOT / named).exists(), f"{page.name} names {named}"
    for named in re.findall(r"`((?:core|engines|store|pipeline|tinyworld)/[\w./-]+\.py)`", text):
        assert (ROOT / "src" / "crossward" / named).exists(), f"{page.name} names {named}"


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_blocks_of_code_are_code(page: Path):
    for code in fenced(page, "python"):
        ast.parse(code)
    for text in fenced(page, "yaml"):
        assert isinstance(yaml.safe_load(text), dict)


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_a_list_begins_behind_an_empty_line(page: Path):
    """Without it a list is a list on GitHub, and a paragraph with hyphens on the site."""
    for paragraph in prose(page).split("\n\n"):
        first, *others = paragraph.strip("\n").split("\n")
        items = [line for line in others if re.match(r" *([-*]|\d+\.) ", line)]
        assert not items or re.match(r" *([-*]|\d+\.) ", first), f"{page.name}: {items[0]}"


@pytest.mark.parametrize("name", ["answers_from_a_file.py", "best_against_median.py"])
def test_the_page_on_extending_shows_the_examples_as_they_are(name: str):
    code = (ROOT / "docs" / "examples" / name).read_text(encoding="utf-8")
    assert code in fenced(ROOT / "docs" / "extending.md", "python")
    assert len(code.splitlines()) < 60


def test_every_page_is_in_the_sites_navigation():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = re.findall(r"([\w-]+\.md)$", text, flags=re.MULTILINE)
    assert len(set(listed)) == len(listed)
    assert {page.name for page in PAGES} - {"README.md"} <= set(listed)


def test_nothing_is_left_to_fill_in():
    for page in PAGES:
        assert not re.search(r"\b(TODO|FIXME|XXX|DEMO_TABLE|SMOLLM_LINE)\b", page.read_text(encoding="utf-8")), (
            page.name
        )

"""What the site is made with: its anchors, the pages of linked files, and the check that finds dead links.

The site itself is built by `make docs`, where every warning is an error; it needs packages that the tests do without.
"""

import doctest
from pathlib import Path
from types import ModuleType

import pytest
from tests.support.docs import ROOT, script

hooks, checker, keys, api = map(script, ("site_hooks", "check_site", "generate_keys", "generate_api"))

FIRST = """<html><body><h1 id="top">One</h1>
<a href="second.html#there">right</a> <a href="#top">right</a> <a href="https://example.org/a">right</a>
<link rel="canonical" href="https://example.org/"> <script src="assets/a.js"></script> {wrong}</body></html>"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "a.js").write_text("")
    (tmp_path / "index.html").write_text(FIRST.format(wrong=""))
    (tmp_path / "second.html").write_text('<h2 id="there">Two</h2>')
    return tmp_path


def test_a_whole_site_has_no_faults(site: Path):
    assert checker.faults(site) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ('<a href="third.html">x</a>', "third.html leads nowhere"),
        ('<a href="second.html#here">x</a>', "second.html#here: no such anchor"),
        ('<a href="#here">x</a>', "#here: no such anchor"),
        ('<img src="figure.png">', "figure.png leads nowhere"),
        ('<a href="/second.html">x</a>', "/second.html leads nowhere"),
        ('<script src="https://example.org/a.js"></script>', "is loaded from elsewhere"),
        ('<link rel="stylesheet" href="//example.org/a.css">', "is loaded from elsewhere"),
        ('<a href="htps://example.org">x</a>', "is no address"),
    ],
)
def test_a_fault_is_named_with_its_page(site: Path, wrong: str, said: str):
    (site / "index.html").write_text(FIRST.format(wrong=wrong))
    (found,) = checker.faults(site)
    assert found.startswith(str(site / "index.html"))
    assert said in found


@pytest.mark.parametrize("module", [hooks, keys], ids=lambda module: module.__name__)
def test_examples_in_docstrings_hold(module: ModuleType):
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0


def test_no_pages_are_a_fault(tmp_path: Path):
    assert checker.faults(tmp_path) == [f"{tmp_path}: no pages"]


def test_files_that_pages_link_to_are_found():
    linked = hooks.linked_files(ROOT / "docs" / "recipes.md")
    assert linked["../recipes/demo.yaml"] == ROOT / "recipes" / "demo.yaml"
    assert all(path.suffix in hooks.LANGUAGES for path in linked.values())


def test_a_link_that_is_called_by_a_files_name_is_found_with_its_title():
    found = hooks.NAMED.findall("[keys.md](keys.md), [keys.md](keys.md#pair), [here](api.md), [api.md](log.md)")
    assert found == ["keys.md", "keys.md"]
    assert hooks.title(ROOT / "docs" / "keys.md") == "Every key"


def test_meanings_are_read_from_comments_at_any_depth(tmp_path: Path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "# A recipe: what it is\n\nrun: r # a folder\nsample:\n  n: 4 # how many\n"
        "  # openai: # a server\n  #   model: m # its name\ntables:\n  - shape: cells # a row a cell\n"
    )
    assert keys.meanings(path) == {
        "run": "a folder",
        "sample.n": "how many",
        "sample.openai": "a server",
        "sample.openai.model": "its name",
        "tables.shape": "a row a cell",
    }


def test_every_key_is_on_the_page():
    page = keys.render()
    for model in (keys.Config, keys.Experiment):
        for path, section in keys.sections(model):
            assert f"# {path}\n" in page
            assert all(f"| `{name}` |" in page for name in section.model_fields)


def test_signatures_are_told_as_they_are():
    page = api.render()
    assert "load(path: Path, overrides: Sequence[str] = ()) -> Config" in page
    assert "    reason: SkipReason\n" in page
    assert "ImplicitReward.score(groups:" in page

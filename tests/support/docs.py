"""What README and docs/ say, taken apart: pages, fenced blocks, commands, headings; and docs/'s own scripts."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GENERATED = ("cli.md", "keys.md", "api.md")
WRITTEN = [page for page in PAGES if page.name not in GENERATED]


def script(name: str) -> ModuleType:
    """A script of docs/ as a module."""
    specification = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def fenced(page: Path, *languages: str) -> list[str]:
    """The contents of the fenced blocks in these languages; "" is a block that names none."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return [content for language, content in found if language in languages]


def commands(page: Path) -> list[str]:
    """What a reader types: the lines of blocks that name no language, continued lines joined, comments cut."""
    joined = "\n".join(fenced(page, "")).replace("\\\n", " ")
    lines = (re.split(r"(?:^|\s)#", line)[0].strip() for line in joined.splitlines())
    return [line for line in lines if line]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def headings(page: Path) -> list[str]:
    """The headings as they are read: no marks of code, emphasis or links."""
    found = re.findall(r"^#{1,6} (.+)$", prose(page), flags=re.MULTILINE)
    return [re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", heading) for heading in found]

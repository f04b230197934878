"""What the site needs beyond Markdown: files of the repository that pages link to, each on a page of its own.

The pages link to recipes and examples as files beside docs/, which is right in a checkout. A built site holds docs/
alone, so a linked file becomes a page that shows it, and the link leads there. Called by MkDocs, whose own modules are
imported in functions only.
"""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"\]\(([^)#:\s]+\.(?:yaml|py|sh|jsonl|txt))\)")
NAMED = re.compile(r"\[([\w-]+\.md)\](?=\(\1)")
LANGUAGES = {".yaml": "yaml", ".py": "python", ".sh": "bash", ".jsonl": "json", ".txt": "text"}


def slug(heading: str, separator: str = "-") -> str:
    """The anchor of a heading, as on GitHub: lower case, letters and digits of any script kept, spaces to hyphens.

    >>> slug("Table 4, NLP tasks"), slug("`crossward run`: π_0 & more")
    ('table-4-nlp-tasks', 'crossward-run-π_0--more')
    """
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", separator)


def linked_files(page: Path) -> dict[str, Path]:
    """The links of a page of docs/ to files that are no pages, and the files; only those that are there."""
    links = LINK.findall(page.read_text(encoding="utf-8"))
    found = {link: (page.parent / link).resolve() for link in links}
    return {link: path for link, path in found.items() if path.is_file() and path.is_relative_to(ROOT)}


def title(page: Path) -> str:
    """The heading of a page."""
    return page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ").strip()


def on_config(config: Any) -> Any:
    """Anchors and lists as on GitHub, so that a page is the same in both places: two spaces continue a list's item."""
    from markdown import Extension

    class TwoSpaces(Extension):
        def extendMarkdown(self, md: Any) -> None:
            md.tab_length = 2
            md.build_parser()  # again: what is in it has read the length already

    config.mdx_configs.setdefault("toc", {})["slugify"] = slug
    config.markdown_extensions.insert(0, TwoSpaces())  # before others add to the parser
    return config


def on_files(files: Any, *, config: Any) -> Any:
    """A page for every linked file."""
    from mkdocs.structure.files import File

    pages = sorted(Path(config.docs_dir).glob("*.md"))
    for path in sorted({path for page in pages for path in linked_files(page).values()}):
        name = path.relative_to(ROOT)
        content = path.read_text(encoding="utf-8").rstrip()
        # The search is for pages: whole files would stand before them.
        text = f"---\nsearch: {{exclude: true}}\n---\n# {name}\n\n``````{LANGUAGES[path.suffix]}\n{content}\n``````\n"
        files.append(File.generated(config, f"files/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Links to files lead to their pages, and a link that is called by a file's name is called by its page's title."""
    if page.file.src_uri.startswith("files/"):
        return markdown
    linked = linked_files(Path(config.docs_dir) / page.file.src_uri)

    def to_page(match: re.Match[str]) -> str:
        path = linked.get(match[1])
        return match[0] if path is None else f"](files/{path.relative_to(ROOT)}.md)"

    def to_title(match: re.Match[str]) -> str:
        target = Path(config.docs_dir) / match[1]
        return f"[{title(target)}]" if target.is_file() else match[0]

    return NAMED.sub(to_title, LINK.sub(to_page, markdown))

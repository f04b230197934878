"""What both cards share: YAML front matter, tables, what a run was made with, and whom to cite.

Every name and value comes through core/plain_markdown.py, so that none can end the front matter or become HTML.
"""

import re
from collections.abc import Sequence
from typing import Any

import yaml

from crossward.core.language import NAMES
from crossward.core.plain_markdown import code, one_line
from crossward.pipeline.exports.exported_run import ExportedRun
from crossward.pipeline.provenance import read_provenance
from crossward.store import manifest

UNKNOWN_LICENSE = "unknown"
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")
LICENSE_NOTE = (
    "No licence was stated when this was exported. Responses were written by a model, and prompts come from where the "
    "run's owner took them: the licences of both may bind you. Ask the owner before you build on it."
)
CITATION = """\
```bibtex
@inproceedings{yang2025implicit,
  title     = {Implicit Cross-Lingual Rewarding for Efficient Multilingual Preference Alignment},
  author    = {Yang, Wen and Wu, Junhong and Wang, Chen and Zong, Chengqing and Zhang, Jiajun},
  booktitle = {Findings of the Association for Computational Linguistics: ACL 2025},
  year      = {2025},
  doi       = {10.18653/v1/2025.findings-acl.1088},
  eprint    = {2503.04647}
}
```"""


def card(front: dict[str, Any], parts: Sequence[str]) -> str:
    """A card: front matter, then the parts that are not empty."""
    return front_matter(front) + "\n" + "\n\n".join(part for part in parts if part) + "\n"


def front_matter(values: dict[str, Any]) -> str:
    """The YAML head of a card. Every text in it is one visible line."""
    return f"---\n{yaml.safe_dump(_visible(values), sort_keys=False, allow_unicode=True, width=10**6)}---\n"


def require_license(license: str) -> str:
    """The licence as the hub writes them. Raises ValueError for what is no identifier."""
    if _LICENSE.fullmatch(license) is None:
        raise ValueError(
            f"--license {one_line(license)[:60]!r} is no licence identifier: expected one such as apache-2.0, "
            "cc-by-4.0, other or unknown"
        )
    return license


def license_section(license: str) -> str:
    """What the card says of the licence."""
    return (
        f"## Licence\n\n{LICENSE_NOTE if license == UNKNOWN_LICENSE else f'As stated by its owner: {code(license)}.'}"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; cells are code spans made by the caller, or numbers. A bar ends no cell, in a span neither."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: object) -> str:
    return "–" if value is None else str(value).replace("|", "\\|")


def hub_languages(languages: Sequence[str]) -> list[str]:
    """The languages that the hub knows by their code."""
    return [language for language in languages if language in NAMES]


def provenance_section(run: ExportedRun, stages: Sequence[str]) -> str:
    """Versions, and hashes of the stages named (`iteration-1/pair`), as the run recorded them."""
    lines = ["## Provenance", ""]
    if run.directory.provenance.exists():
        found = read_provenance(run.directory)
        if found is None:
            raise ValueError(
                f"{run.directory.provenance} is damaged: run the recipe again, which writes it anew with the versions "
                "of then, or delete it, and cards name none"
            )
        versions = ", ".join(f"{name} {version}" for name, version in (found.get("packages") or {}).items() if version)
        lines.append(f"- made with {code(versions)}, Python {code(str(found.get('python')))}")
        if git := found.get("git"):
            lines.append(
                f"- Crossward's commit {code(str(git.get('commit')))}{', changed' if git.get('changed') else ''}"
            )
    for title in stages:
        made = manifest.read(run.directory.stage_named(title))
        if made is None:
            continue
        lines.append(f"- {code(title)}: sha256 of its files {code(made.digest)}")
        lines += [f"- {code(title)} was made from {code(name)} {code(digest)}" for name, digest in made.inputs.items()]
    return "\n".join(lines)


def skipped_words(skipped: dict[str, int]) -> str:
    """`tie 3, truncated 1`"""
    return ", ".join(f"{reason} {n}" for reason, n in sorted(skipped.items())) or "none"


def number(value: float | None, style: str = ".3g") -> str | None:
    """A figure of a table, None where there is none."""
    return None if value is None else format(value, style)


def _visible(value: Any) -> Any:
    match value:
        case str():
            return one_line(value)
        case dict():
            return {_visible(key): _visible(item) for key, item in value.items()}
        case list() | tuple():
            return [_visible(item) for item in value]
        case _:
            return value

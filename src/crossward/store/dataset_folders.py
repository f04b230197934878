"""A folder with a data set that somebody sent: that all of it lies in the folder, before `datasets` reads any of it.

What a README, a state or a link names elsewhere, and what would be unpacked, is refused. Knows no rows.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crossward.core.plain_text import shown
from crossward.store.links import require_stays

_LARGEST_BYTES = 2**20  # of a file that says what to read
# Holds other files or links to them; others are known by their first bytes.
_CONTAINERS = frozenset(
    {".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".lz4", ".7z", ".rar", ".eval", ".h5", ".hdf5", ".lance"}
    | {".vortex", ".pkl", ".pickle"}
)
_ELSEWHERE = re.compile(r"[/\\~]|[A-Za-z]:|.*(://|::|\\)|(.*/)?\.\.(/|$)", re.DOTALL)


def require_own_files(folder: Path) -> None:
    """Raise ValueError for a data set's folder that would have anything outside it read, or an archive unpacked."""
    from datasets.utils.extract import Extractor

    for path in _files(folder):
        if not path.is_file():
            raise ValueError(f"{path} is no plain file: leave it out of the data set")
        try:
            packed = _CONTAINERS.intersection(f".{part}" for part in path.name.lower().split(".")[1:])
            if packed or Extractor.infer_extractor_format(path):
                raise ValueError(f"{path} is an archive, which is not unpacked: unpack it yourself, and remove it")
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}") from None
        for where in _named(path, folder):
            if _ELSEWHERE.match(where):
                raise ValueError(
                    f"{path} names {shown(where)} to be read, which is not in the data set's folder: "
                    "name files within it, without .."
                )


def _files(folder: Path) -> Iterator[Path]:
    """Everything but folders; links are followed where they stay within."""
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                path = Path(entry.path)
                if entry.is_symlink():
                    require_stays(path, folder, "data set")
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(path)
                elif not path.is_dir():  # a link to a folder within is met there
                    yield path


def _named(path: Path, folder: Path) -> Iterator[str]:
    """The paths, patterns and addresses that a file names to be read."""
    top = path.parent == folder
    match path.name:
        case "README.md" | ".huggingface.yaml" if top:
            tree = _yaml(path, _front(_text(path)) if path.name == "README.md" else _text(path))
            yield from _texts(tree.get("configs") if isinstance(tree, dict) else None)
        case "state.json":
            tree = _json(path)
            yield from _texts([tree.get(key) for key in tree if "files" in key])
        case "dataset_dict.json":
            yield from _texts(_json(path).get("splits"))
        case _:
            pass


def _text(path: Path) -> str:
    with path.open("rb") as stream:
        content = stream.read(_LARGEST_BYTES + 1)
    if len(content) > _LARGEST_BYTES:
        raise ValueError(f"{path} has more than {_LARGEST_BYTES} bytes: leave some out")
    return content.decode("utf-8", "replace")


def _front(text: str) -> str:
    """The YAML at the beginning of a README, between two lines of three dashes."""
    found = re.match(r"\s*---[\r\n]+(.*?)[\r\n]+---([\r\n]|$)", text, re.DOTALL)
    return found[1] if found else ""


def _yaml(path: Path, text: str) -> Any:
    import yaml

    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise ValueError(f"{path} holds an alias (*name) in its YAML: write its value out")
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError):
        raise ValueError(f"{path} holds YAML that cannot be read: repair it, or remove it") from None


def _json(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(_text(path))
    except (json.JSONDecodeError, RecursionError):
        tree = None
    if not isinstance(tree, dict):
        raise ValueError(f"{path} is not a whole saved dataset's: save it again")
    return tree


def _texts(value: Any) -> Iterator[str]:
    """Every text in a value, names of keys too."""
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str(text):
                yield text
            case list(items):
                waiting.extend(items)
            case dict(items):
                waiting.extend([*items.keys(), *items.values()])
            case _:
                pass

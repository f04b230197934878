"""What the shell offers behind TAB: run folders, recipes, keys, stages, languages. Quick: no model library is loaded.

Whatever goes wrong here offers nothing: a shell has no place for a sentence.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import typer

FOLDERS = 300  # looked into for one TAB at most
_INSIDE_A_RUN = re.compile(r"iteration-\d+|reference|stages|worlds|results|tracking")


def run_folders(incomplete: str) -> list[str]:
    """Folders below what is typed that hold a config.yaml; with nothing typed, below runs/ and here."""
    base = Path(incomplete) if incomplete.endswith("/") else Path(incomplete).parent
    return [name for name in _runs_below(base, depth=5) if name.startswith(incomplete)]


def recipes(incomplete: str) -> list[str]:
    """YAML files in the folder that is typed and those below it; with nothing typed, also recipes/."""
    base = Path(incomplete) if incomplete.endswith("/") else Path(incomplete).parent
    found = [path for pattern in ("*.yaml", "*/*.yaml", "*.yml") for path in base.glob(pattern)]
    names = sorted(str(path) for path in found if path.name != "config.yaml" and not path.parent.name.startswith("."))
    return [name for name in names if name.startswith(incomplete)][:FOLDERS]


def override_keys(incomplete: str) -> list[str]:
    """section.key= for every key of a recipe; the sections while none is typed."""
    from crossward.config import Config

    keys = list(_keys(Config, ""))
    section = incomplete.rpartition(".")[0]
    near = [key for key in keys if key.startswith(incomplete)]
    if section:
        return near
    return sorted({key.partition(".")[0] + ("." if "." in key else "") for key in near})


def stages_of(context: typer.Context, incomplete: str) -> list[str]:
    """The stages that a run has begun; without one, those that a run of two iterations may have."""
    from crossward.store.run_dir import RunDir, Stage

    names: tuple[Stage, ...] = get_args(Stage)
    if (folder := _run_of(context)) is not None and folder.is_dir():
        run = RunDir(folder)
        policies = [run.reference, *(run.iteration(t) for t in run.iterations())]
        stages = [policy.stage(name) for policy in policies for name in names]
        titles = [stage.title for stage in stages if stage.inputs.exists() or stage.manifest.exists()]
    else:
        titles = [f"iteration-{t}/{name}" for t in (1, 2) for name in names]
    return [title for title in titles if title.startswith(incomplete)]


def languages_of(context: typer.Context, incomplete: str) -> list[str]:
    """The languages of the run that is named."""
    found = _tree_of(context).get("languages")
    return [code for code in found if str(code).startswith(incomplete)] if isinstance(found, list) else []


def iterations_of(context: typer.Context, incomplete: str) -> list[str]:
    """The iterations of the run that is named."""
    found = _tree_of(context).get("iterations")
    return [str(t) for t in range(1, found + 1) if str(t).startswith(incomplete)] if isinstance(found, int) else []


def _runs_below(base: Path, depth: int) -> Iterator[str]:
    """Breadth first, every folder once; what is inside a run is not looked into."""
    waiting, entered, left = [(base, depth)], set(), FOLDERS
    while waiting and left:
        folder, deeper = waiting.pop(0)
        left -= 1
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            if (folder / "config.yaml").is_file():
                yield str(folder)
                continue
            with os.scandir(folder) as entries:
                names = sorted(entry.name for entry in entries if entry.is_dir())
        except OSError:
            continue
        names = [name for name in names if not name.startswith(".") and not _INSIDE_A_RUN.fullmatch(name)]
        # What is likeliest to hold runs comes first: the budget of folders may end before the rest.
        names.sort(key=lambda name: name != "runs")
        waiting += [(folder / name, deeper - 1) for name in names if deeper > 0]


def _run_of(context: typer.Context) -> Path | None:
    """The run that the command line names: by itself, or through a recipe and its overrides."""
    known = context.params
    # Behind an option whose value is still missing, the words are not sorted into parameters.
    words = [str(word) for word in (known.get("run"), known.get("recipe"), *context.args) if word]
    overrides = [*(known.get("overrides") or ()), *words[1:]]
    for override in reversed(overrides):
        if str(override).startswith("run="):
            return Path(str(override).removeprefix("run="))
    if not words:
        return None
    if Path(words[0]).is_dir():
        return Path(words[0])
    named = _yaml(Path(words[0])).get("run")
    return Path(named) if isinstance(named, str) else None


def _tree_of(context: typer.Context) -> dict[str, Any]:
    folder = _run_of(context)
    return {} if folder is None else _yaml(folder / "config.yaml")


def _yaml(path: Path) -> dict[str, Any]:
    import yaml

    from crossward.yaml_keys import load_yaml

    try:
        tree = load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return tree if isinstance(tree, dict) else {}


def _keys(model: Any, prefix: str) -> Iterator[str]:
    """Every leaf below a section, with the sign that its value follows."""
    from crossward.sections import Section

    for name, field in model.model_fields.items():
        candidates = [field.annotation, *get_args(field.annotation)]
        inside = next((c for c in candidates if isinstance(c, type) and issubclass(c, Section)), None)
        if inside is None:
            yield f"{prefix}{name}="
        else:
            yield from _keys(inside, f"{prefix}{name}.")

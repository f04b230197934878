"""A model folder with pickled weights into one with safetensors, whole or not at all: weights and what belongs to them.

Refuses to carry along what could run code: pickles, and the model's own Python unless it was asked for.
"""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from crossward.engines.convert_weights import convert_weights, fetched, pickled_files
from crossward.store.files import temporary_of
from crossward.store.links import require_stays

# Configurations, tokenizers, templates, and what people read.
_TAKEN = frozenset({".json", ".txt", ".model", ".jinja", ".tiktoken", ".md", ""})


def convert(model: str, output: Path, *, code: bool = False) -> dict[str, Any]:
    """Write `output`, the folder `model` (or hub name) with its weights as safetensors; returns what was done.

    `code`: copy the model's own Python files too. Raises ValueError where the weights hold anything but tensors.
    """
    folder = fetched(model, code=code)
    if not folder.is_dir():
        raise ValueError(f"{model} is a file: give the folder of a model")
    if output.exists():
        raise ValueError(f"{output} is there already: name a folder that is not")
    for path in sorted(folder.iterdir()):
        if path.is_symlink():
            require_stays(path, folder, "model")
    weights = pickled_files(folder)
    whole = temporary_of(output)
    shutil.rmtree(whole, ignore_errors=True)
    try:
        whole.mkdir(parents=True)
        written = convert_weights(weights, whole)
        copied, left_out = _copy_the_rest(folder, whole, code=code)
        whole.replace(output)
    except BaseException:
        shutil.rmtree(whole, ignore_errors=True)
        raise
    return {
        "model": model,
        "output": str(output),
        "read": [path.name for path in weights],
        "written": list(written.files),
        "tensors": written.tensors,
        "shared_tensors_written_apart": written.shared,
        "bytes": written.n_bytes,
        "copied": copied,
        "left_out": left_out,
    }


def _copy_the_rest(folder: Path, target: Path, *, code: bool) -> tuple[list[str], dict[str, int]]:
    """Names of what was copied, and how many files were left out, by kind."""
    copied: list[str] = []
    left_out: Counter[str] = Counter()
    for path in sorted(folder.iterdir()):
        if not path.is_file():
            left_out["folders"] += 1
        elif path.name.startswith("."):
            left_out["hidden files"] += 1
        elif path.name.endswith((".bin.index.json", ".safetensors.index.json")):  # of files that are not there
            left_out["indices of weights"] += 1
        elif path.suffix in _TAKEN or (code and path.suffix == ".py"):
            shutil.copyfile(path, target / path.name)
            copied.append(path.name)
        else:
            left_out[f"*{path.suffix}"] += 1
    return copied, dict(sorted(left_out.items()))

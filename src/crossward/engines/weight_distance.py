"""How far the weights of one checkpoint on the disk lie from another's, without loading either model.

A sample of matrices is read from safetensors, a few rows of each. A LoRA adapter stands for its base, from which it
moves by little. Says nothing of models that are not on this disk. What is too far is decided in core/model_concerns.py.
"""

import json
from pathlib import Path

MATRICES = 24  # spread over the model, in order of their names
ROWS = 256  # of each, from the middle


def weight_distances(policy: str, reference: str) -> list[float] | None:
    """‖A − B‖ / ‖B‖ of the rows read, for each matrix that both have in one shape; None where that cannot be told."""
    import torch
    from safetensors import SafetensorError

    folders = _weights(Path(policy)), _weights(Path(reference))
    if folders[0] is None or folders[1] is None:
        return None
    try:
        ours, theirs = (_matrices(folder) for folder in folders if folder is not None)
        names = sorted(name for name in ours.keys() & theirs.keys() if ours[name][1] == theirs[name][1])
        found = []
        for name in names[:: max(1, -(-len(names) // MATRICES))]:
            a, b = (_rows(file, name, shape).to(torch.float64) for file, shape in (ours[name], theirs[name]))
            if norm := float(b.norm()):
                found.append(float((a - b).norm()) / norm)
    except (OSError, SafetensorError):
        return None  # a damaged checkpoint is told where it is loaded
    return found or None


def _weights(folder: Path) -> Path | None:
    """The folder itself, or the base's where it holds an adapter; None where that is no folder with safetensors."""
    adapter = folder / "adapter_config.json"
    if adapter.is_file() and not (folder / "config.json").is_file():
        try:
            base = json.loads(adapter.read_bytes())["base_model_name_or_path"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        folder = Path(str(base))
    return folder if folder.is_dir() and any(folder.glob("*.safetensors")) else None


def _matrices(folder: Path) -> dict[str, tuple[Path, tuple[int, ...]]]:
    """File and shape of every matrix, over all shards; quantised ones (integers) are no matrices of numbers."""
    from safetensors import safe_open

    found: dict[str, tuple[Path, tuple[int, ...]]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118 - no mapping
                part = weights.get_slice(name)
                if len(shape := part.get_shape()) == 2 and part.get_dtype() in ("F64", "F32", "F16", "BF16"):
                    found[name] = (file, tuple(shape))
    return found


def _rows(file: Path, name: str, shape: tuple[int, ...]):  # -> torch.Tensor, imported late
    from safetensors import safe_open

    first = max(0, (shape[0] - ROWS) // 2)
    with safe_open(file, framework="pt") as weights:
        return weights.get_slice(name)[first : first + ROWS]

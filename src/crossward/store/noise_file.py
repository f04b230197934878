"""The noise floor that `crossward score --noise` writes beside its output, for `crossward pair --min-margin auto`."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crossward.core.plain_text import shown
from crossward.store.files import write_text
from crossward.store.json_lines import parse_json, read_file


def noise_file(scored: Path) -> Path:
    """The file beside a file of scored groups."""
    return scored.with_name(scored.name + ".noise.json")


def write_noise(scored: Path, noise: Mapping[str, Any]) -> None:
    """Write what was measured: view, dtype, and per language what pipeline/noise.py found."""
    write_text(noise_file(scored), json.dumps(noise, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def read_margins(scored: Path) -> dict[str, float]:
    """The margin under which a pair is noise, by language (nats). Raises ValueError where none was measured."""
    path = noise_file(scored)
    if not path.is_file():
        raise ValueError(
            f"--min-margin auto reads the noise floor from {path}, which does not exist: score with `crossward score "
            "--noise`, or give a number of nats"
        )
    return _margins(path, _read(path))


def known_margins(scored: Path, *, view: str, dtype: str) -> dict[str, float]:
    """The margins where a file lies beside these groups and was measured under the same view and dtype, else none."""
    path = noise_file(scored)
    if not path.is_file():
        return {}
    noise = _read(path)
    return _margins(path, noise) if (noise.get("view"), noise.get("dtype")) == (view, dtype) else {}


def _read(path: Path) -> dict[str, Any]:
    noise = parse_json(read_file(path).decode("utf-8", "replace"), where=str(path))
    if not isinstance(noise, dict) or not isinstance(noise.get("languages"), dict):
        raise ValueError(f"{path}: expected a key 'languages' as `crossward score --noise` writes it: score again")
    return noise


def _margins(path: Path, noise: dict[str, Any]) -> dict[str, float]:
    return {str(code): _margin(found, f"{path}, language {shown(code)}") for code, found in noise["languages"].items()}


def _margin(found: Any, where: str) -> float:
    margin = found.get("margin") if isinstance(found, dict) else None
    if isinstance(margin, bool) or not isinstance(margin, (int, float)) or not math.isfinite(margin) or margin < 0:
        raise ValueError(f"{where}: 'margin' must be a number of nats, 0 or more, got {shown(margin)}: score again")
    return float(margin)

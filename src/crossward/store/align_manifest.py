"""align.json beside an aligned checkpoint: what it was made from, what was left out, and what training said.

Written when training begins, without results, and again when the checkpoint is whole. The same command then finds its
work done or continues it; any other is told what differs.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from crossward.store.files import write_text
from crossward.store.json_fields import shown
from crossward.store.json_lines import parse_json, read_file


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignManifest:
    """`inputs`: model and preferences by hash; `settings`: all that decides the result; `counts`: rows read, trained
    and left out by reason; `training`: steps, seconds and the last step's values, None until the checkpoint is whole.
    """

    inputs: dict[str, Any]
    settings: dict[str, Any]
    counts: dict[str, Any]
    crossward: str  # the version, for people: another one continues
    training: dict[str, Any] | None = None


def manifest_file(output: Path) -> Path:
    """The file beside the checkpoint: inside, it would change what the checkpoint's own hash says."""
    return output.with_name(output.name + ".align.json")


def write_manifest(output: Path, manifest: AlignManifest) -> None:
    """Write align.json, whole or not at all."""
    text = json.dumps(asdict(manifest), ensure_ascii=False, indent=2, sort_keys=True, allow_nan=False)
    write_text(manifest_file(output), text + "\n")


def begun(output: Path, inputs: Mapping[str, Any], settings: Mapping[str, Any]) -> AlignManifest | None:
    """What is known of `output`, None where nothing was begun or nothing is kept of it.

    Raises ValueError where something else lies there: another command's work, or a folder that no command here made.
    """
    path, work = manifest_file(output), output.with_name(output.name + ".work")
    if not path.is_file():
        for found in (output, work):
            if found.exists():
                raise ValueError(
                    f"{found} exists already and no {path.name} says what it was made from: choose another --output, "
                    "or delete it first"
                )
        return None
    known = _read(path)
    differences = [
        f"{shown(key, 40)[1:-1]} was {shown(old.get(key))}, now {shown(new.get(key))}"
        for old, new in ((known.inputs, _as_json(inputs)), (known.settings, _as_json(settings)))
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    if differences and not output.exists() and not any(work.glob("checkpoint-*")):
        return None  # begun, but no step of it is kept
    if differences:
        raise ValueError(
            f"{output} {'was' if output.exists() else 'was begun to be'} made from something else: "
            f"{'; '.join(differences)}: choose another --output, or delete {output}, {work.name} and {path.name} first"
        )
    if known.training is not None and not output.exists():
        raise ValueError(f"{path} tells of a checkpoint, but {output} is gone: restore it, or delete {path.name} too")
    return known


def _read(path: Path) -> AlignManifest:
    content = parse_json(read_file(path).decode("utf-8", "replace"), where=str(path))
    try:
        found = AlignManifest(**content)
    except TypeError:
        raise ValueError(f"{path} is damaged (its keys are not those of an align.json): delete it") from None
    parts = {"inputs": found.inputs, "settings": found.settings, "counts": found.counts}
    parts |= {} if found.training is None else {"training": found.training}
    if wrong := [name for name, part in parts.items() if not isinstance(part, dict)]:
        raise ValueError(f"{path} is damaged (its key {wrong[0]!r} is no object): delete it")
    return found


def _as_json(value: Mapping[str, Any]) -> dict[str, Any]:
    """The value as it will come back from the disk (tuples become lists)."""
    return json.loads(json.dumps(dict(value)))

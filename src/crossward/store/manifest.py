"""The life of a stage: `inputs.json` first, shards, `stage.json` last.

Present with equal inputs and settings = done; absent = only missing shards are redone; present but different = stop and
say what changed. Knows hashes and names, not what the shards hold.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from crossward.store.changes import changes, shown
from crossward.store.checked_files import CheckedFiles, CountBytes, file_sha256, refuse_others
from crossward.store.files import is_temporary, remove, sync_file, write_bytes
from crossward.store.json_lines import loose_json
from crossward.store.parquet_files import count_rows
from crossward.store.run_dir import StageDir, is_inside
from crossward.store.stage_counts import wrong_count


@dataclass(frozen=True, slots=True, kw_only=True)
class StageManifest:
    """What a finished stage was made from and what it made.

    `shards` maps each file's path inside the stage to its rows (None where it is no table) and its sha256.
    """

    stage: str
    inputs: dict[str, str]
    settings: dict[str, Any]
    counts: dict[str, Any]
    seconds: float
    shards: dict[str, dict[str, Any]]

    @property
    def digest(self) -> str:
        """One hash over the bytes of everything the stage made; what the next stage takes as its input."""
        return content_hash({"stage": self.stage, "shards": self.shards})

    @property
    def by_language(self) -> list[tuple[str, dict[str, Any]]]:
        """The counts of each language, in order."""
        return sorted(self.counts["languages"].items())


def begin(stage_dir: StageDir, inputs: Mapping[str, str], settings: Mapping[str, Any]) -> None:
    """Open a stage: write its inputs, or check that it was opened with these. Call before the first shard is written.

    Raises ValueError that names every changed input and setting.
    """
    wanted = _origin(stage_dir, inputs, settings)
    known = [path for path in (stage_dir.inputs, stage_dir.manifest) if path.exists()]
    for path in known:
        _check_unchanged(stage_dir, _read_json(stage_dir, path), wanted)
    if not known and _holds_files(stage_dir):
        raise ValueError(
            f"stage folder {stage_dir.path} holds files but no inputs.json, so what they were made from is unknown: "
            f"use another run directory or --redo {stage_dir.title}"
        )
    if not stage_dir.inputs.exists():
        _write_json(stage_dir.inputs, wanted)


def finish(
    stage_dir: StageDir,
    inputs: Mapping[str, str],
    settings: Mapping[str, Any],
    *,
    counts: Mapping[str, Any],
    files: Iterable[Path],
    seconds: float,
    advance: CountBytes | None = None,
) -> StageManifest:
    """Close a stage that `begin` opened: hash the files that it made, then write stage.json.

    What it lists is on the disk before it, names too: other libraries write checkpoints, and force nothing there.
    Raises ValueError for a shard that is no file of its.
    """
    origin = _origin(stage_dir, inputs, settings)
    assert _read_json(stage_dir, stage_dir.inputs) == origin, "a stage is finished with what it was begun with"
    checked = CheckedFiles(stage_dir)
    shards = {
        stage_dir.relative(path): {
            "rows": count_rows(path) if path.suffix == ".parquet" else None,
            "sha256": checked.sha256(path, advance),
        }
        for path in sorted(files)
    }
    refuse_others(stage_dir, shards)
    listed = {stage_dir.path / name for name in shards}
    for path in sorted(listed | {path.parent for path in listed}):
        sync_file(path)
    checked.write()
    manifest = StageManifest(**origin, counts=_as_json(counts), seconds=seconds, shards=shards)
    _write_json(stage_dir.manifest, asdict(manifest))
    return manifest


def completed(
    stage_dir: StageDir,
    inputs: Mapping[str, str],
    settings: Mapping[str, Any],
    *,
    advance: CountBytes | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> StageManifest | None:
    """The manifest when the stage is done with these inputs and settings and all it lists is there, else None.

    A manifest that lists a missing shard is void and removed, and `say` hears of it: the shard made anew answers to the
    next manifest. Raises ValueError for a shard whose bytes changed, and for one that is not listed. Shards that were
    not written since they were last hashed are not read again (checked_files.py).
    """
    manifest = read(stage_dir)
    if manifest is None or _origin_of(manifest) != _origin(stage_dir, inputs, settings):
        return None
    refuse_others(stage_dir, manifest.shards.keys())
    missing: list[str] = []
    checked = CheckedFiles(stage_dir)
    for name, shard in manifest.shards.items():
        path = stage_dir.path / name
        weights = name.startswith("checkpoint/")  # always read: they have no checksums of their own, as Parquet has
        hash_of = file_sha256 if weights else checked.sha256
        whole = path.is_file() and hash_of(path, advance) == shard["sha256"]
        if weights and not whole:
            raise ValueError(
                f"checkpoint file {path} is missing or damaged (its sha256 is not the one in stage.json): "
                f"train again with --redo {stage_dir.title}"
            )
        if not path.is_file():
            missing.append(name)
        elif not whole:
            raise ValueError(
                f"shard {path} is damaged or foreign (its sha256 is not the one in stage.json): "
                "delete it and run again, only that shard is redone"
            )
    checked.write()
    if missing:
        say(f"{stage_dir.title}: {len(missing)} of its files are gone (first {missing[0]}): they are made again")
        stage_dir.manifest.unlink()
        return None
    if not _knows_its_inputs(stage_dir, manifest):
        say(f"{stage_dir.title}: inputs.json is missing or damaged: it is written anew from stage.json")
        remove(stage_dir.inputs)
        _write_json(stage_dir.inputs, _origin_of(manifest))
    return manifest


def read(stage_dir: StageDir) -> StageManifest | None:
    """The manifest as written, unchecked against its shards; None where the stage is not finished."""
    if not stage_dir.manifest.exists():
        return None
    try:
        made = StageManifest(**_read_json(stage_dir, stage_dir.manifest))
    except TypeError:
        raise ValueError(_damaged(stage_dir.manifest, "its keys are not a manifest's", stage_dir.title)) from None
    if (why := _wrong_in(stage_dir, made)) is not None:
        raise ValueError(_damaged(stage_dir.manifest, why, stage_dir.title))
    return made


def read_origin(stage_dir: StageDir) -> tuple[dict[str, str], dict[str, Any]]:
    """Inputs and settings that a stage was begun with, from inputs.json."""
    content = _read_json(stage_dir, stage_dir.inputs)
    return content["inputs"], content["settings"]


def last_metrics(stage_dir: StageDir) -> dict[str, Any]:
    """The last whole line of metrics.jsonl (a kill may have cut the line after it); {} where nothing was logged."""
    if not stage_dir.metrics.exists():
        return {}
    for line in reversed(stage_dir.metrics.read_bytes().split(b"\n")):
        try:
            logged = loose_json(line)
        except ValueError:
            continue
        if isinstance(logged, dict):
            return logged
    return {}


def redo(stage_dir: StageDir) -> None:
    """Remove what the stage made; its inputs go last, so that a kill half-way leaves a stage that still knows them."""
    remove(stage_dir.manifest)
    if not stage_dir.path.exists():
        return
    for path in sorted(stage_dir.path.iterdir()):
        if path != stage_dir.inputs:
            remove(path)
    remove(stage_dir.inputs)


def size_of(stage_dir: StageDir, manifest: StageManifest) -> int:
    """Bytes of the files that a manifest lists, as far as they are there."""
    sizes = (stage_dir.path / name for name in manifest.shards)
    return sum(path.stat().st_size for path in sizes if path.is_file())


def content_hash(value: Any) -> str:
    """Hex sha256 of a JSON-able value in canonical form (sorted keys, no spaces, ASCII).

    >>> content_hash({"b": (1, 2), "a": None}) == content_hash({"a": None, "b": [1, 2]})
    True
    """
    return hashlib.sha256(_canonical(value)).hexdigest()


class ListHash:
    """`content_hash` of a list whose items come one after another.

    >>> found = ListHash()
    >>> for item in ({"b": 1}, "a"):
    ...     found.add(item)
    >>> found.value == content_hash([{"b": 1}, "a"])
    True
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256(b"[")
        self._between = b""

    def add(self, item: Any) -> None:
        self._digest.update(self._between + _canonical(item))
        self._between = b","

    @property
    def value(self) -> str:
        """The hash of what was added so far."""
        whole = self._digest.copy()
        whole.update(b"]")
        return whole.hexdigest()


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def _origin(stage_dir: StageDir, inputs: Mapping[str, str], settings: Mapping[str, Any]) -> dict[str, Any]:
    return {"stage": stage_dir.name, "inputs": _as_json(inputs), "settings": _as_json(settings)}


def _origin_of(manifest: StageManifest) -> dict[str, Any]:
    return {"stage": manifest.stage, "inputs": manifest.inputs, "settings": manifest.settings}


def _knows_its_inputs(stage_dir: StageDir, manifest: StageManifest) -> bool:
    try:
        return stage_dir.inputs.exists() and _read_json(stage_dir, stage_dir.inputs) == _origin_of(manifest)
    except ValueError:
        return False


def _as_json(value: Mapping[str, Any]) -> dict[str, Any]:
    """The value as it will come back from the disk (tuples become lists)."""
    return json.loads(json.dumps(dict(value), allow_nan=False))


def _write_json(path: Path, value: dict[str, Any]) -> None:
    sealed = {**value, "checksum": _checksum(value)}
    text = json.dumps(sealed, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, f"{text}\n".encode())


def _read_json(stage_dir: StageDir, path: Path) -> dict[str, Any]:
    try:
        content = loose_json(path.read_bytes())
    except FileNotFoundError:
        raise AssertionError(f"{path} is missing: begin() opens a stage before anything else") from None
    except IsADirectoryError:
        raise ValueError(_damaged(path, "a folder", stage_dir.title)) from None
    except ValueError:
        raise ValueError(_damaged(path, "not valid JSON", stage_dir.title)) from None
    if not isinstance(content, dict) or not {"stage", "inputs", "settings"} <= content.keys():
        raise ValueError(_damaged(path, "its keys are not a manifest's", stage_dir.title))
    if not isinstance(content["inputs"], dict) or not isinstance(content["settings"], dict):
        raise ValueError(_damaged(path, "its inputs and settings are no objects", stage_dir.title))
    if content.pop("checksum", None) not in (None, _checksum(content)):  # none in runs of earlier versions
        raise ValueError(_damaged(path, "not what was written there", stage_dir.title))
    return content


def _wrong_in(stage_dir: StageDir, made: StageManifest) -> str | None:
    """What a reader of the manifest could not do without and does not find; None where all is there.

    Every stage but training counts by language.
    """
    if not isinstance(made.seconds, int | float) or isinstance(made.seconds, bool) or not 0 <= made.seconds < 1e12:
        return "its seconds are no number"
    if not _is_table(made.shards) or not all(map(_is_shard, made.shards.values())):
        return "its shards are no files with rows and sha256"
    if not all(isinstance(digest, str) for digest in made.inputs.values()):
        return "its inputs are no hashes"
    outside = next((name for name in made.shards if not is_inside(name)), None)
    if outside is not None:
        return f"it lists {outside[:60]!r}, which is no file of the stage"
    if not isinstance(made.counts, dict):
        return "its counts are no object"
    if stage_dir.name == "train":
        if not isinstance(made.counts.get("training", {}), dict):
            return "its training is no object"
    elif not _is_table(made.counts.get("languages")):
        return "it counts nothing by language"
    return wrong_count(stage_dir.name, made.counts)


def _checksum(content: Mapping[str, Any]) -> str | None:
    """Of all but the seconds, which no two runs share. A bit that flips on the disk would else be read as a number.

    None for what holds NaN, which is never written.
    """
    try:
        return content_hash({key: value for key, value in content.items() if key != "seconds"})
    except ValueError:
        return None


def _is_shard(shard: Mapping[str, Any]) -> bool:
    rows = shard.get("rows", False)
    return isinstance(shard.get("sha256"), str) and (rows is None or (type(rows) is int and rows >= 0))


def _is_table(value: Any) -> bool:
    """Whether the value is an object of objects."""
    return isinstance(value, dict) and all(isinstance(item, dict) for item in value.values())


def _damaged(path: Path, why: str, stage: str) -> str:
    return f"{path} is damaged ({why}): run again with --redo {stage}"


def _check_unchanged(stage_dir: StageDir, known: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    found = [
        f"{label} {key} was {shown(old)}, now {shown(new)}"
        for label, part in (("input", "inputs"), ("setting", "settings"))
        for key, old, new in changes(known[part], wanted[part])
    ]
    if found:
        raise ValueError(
            f"stage folder {stage_dir.path} was made from something else: {'; '.join(found)}: "
            f"use another run directory or --redo {stage_dir.title}"
        )


def _holds_files(stage_dir: StageDir) -> bool:
    """Whether anything but an interrupted write's leavings is there."""
    return any(path.is_file() and not is_temporary(path) for path in stage_dir.path.rglob("*"))

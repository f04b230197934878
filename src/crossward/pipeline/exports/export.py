"""One export: opens the source, chooses the format, writes a folder whole, and tells what is in it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from crossward import __version__
from crossward.pipeline.exports.alpaca_eval import write_alpaca_eval
from crossward.pipeline.exports.argilla import write_argilla
from crossward.pipeline.exports.cards import UNKNOWN_LICENSE
from crossward.pipeline.exports.csv_table import write_csv_table
from crossward.pipeline.exports.dataset import write_dataset
from crossward.pipeline.exports.exported_run import ExportedRun
from crossward.pipeline.exports.llamafactory import write_llamafactory
from crossward.pipeline.exports.method import replay_notes
from crossward.pipeline.exports.openrlhf import write_openrlhf
from crossward.pipeline.exports.pairs_source import FilePairs, RunPairs, Tally, opened_pairs
from crossward.pipeline.exports.rows import Written
from crossward.pipeline.exports.trl import write_trl
from crossward.store.export_folder import ExportFolder, export_folder

PairFormat = Literal["trl", "llamafactory", "openrlhf", "argilla", "csv", "dataset"]
Format = Literal["trl", "llamafactory", "openrlhf", "argilla", "alpaca-eval", "csv", "dataset", "model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to export. `languages` and `iterations` empty: all languages, the last finished iteration.

    `license`, `base_model` and `link` belong to dataset and model, `bom` and `guard_formulas` to csv.
    """

    format: Format
    iterations: tuple[int, ...] = ()
    languages: tuple[str, ...] = ()
    min_margin: float | None = None
    license: str = UNKNOWN_LICENSE
    base_model: str | None = None
    link: bool = False
    bom: bool = False
    guard_formulas: bool = False
    overwrite: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A finished export: files with their bytes, counts by language, and what the format has to say."""

    format: Format
    output: Path
    files: Mapping[str, int]
    languages: Mapping[str, dict[str, Any]]
    written: Written

    def summary(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "format": self.format,
            "output": str(self.output),
            "files": dict(self.files),
            "languages": dict(self.languages),
            "commands": list(self.written.commands),
            "notes": list(self.written.notes),
        }


def export(source: Path, output: Path, wanted: Wanted) -> Exported:
    """Write one format of a run's folder, or of a .jsonl file of pairs, into the folder `output`."""
    if not source.exists():
        raise ValueError(f"{source} does not exist: name a folder of crossward run, or a .jsonl file of pairs")
    _require_fitting(wanted)
    with export_folder(output, overwrite=wanted.overwrite) as folder:
        written, tallies = _write(folder, source, output, wanted)
        counts = {language: tally.counts() for language, tally in tallies.items()}
        files = {path.relative_to(folder.path).as_posix(): path.stat().st_size for path in folder.files()}
        folder.facts |= {"crossward": __version__, "format": wanted.format, "source": source.resolve().name}
        folder.facts |= {"languages": counts}
    notes = (*_cut_note(tallies), *written.notes) if wanted.format in get_args(PairFormat) else written.notes
    told = Written(commands=written.commands, notes=notes)
    return Exported(format=wanted.format, output=output, files=files, languages=counts, written=told)


def _write(folder: ExportFolder, source: Path, output: Path, wanted: Wanted) -> tuple[Written, dict[str, Tally]]:
    match wanted.format:
        case "alpaca-eval":
            if not source.is_dir():
                raise ValueError(f"{source} is a file: alpaca-eval takes a run, or a folder of crossward evaluate")
            return write_alpaca_eval(folder.path, source, languages=wanted.languages, output=output)
        case "model":
            if not source.is_dir():
                raise ValueError(f"{source} is a file of pairs and holds no checkpoint: name a run's folder")
            from crossward.pipeline.exports.model import write_model  # what it measures with takes seconds to import

            run = ExportedRun.at(source)
            t = run.with_checkpoint(wanted.iterations)
            folder.facts["iterations"] = [t]
            written = write_model(
                folder.path,
                run,
                t,
                license=wanted.license,
                base_model=wanted.base_model,
                link=wanted.link,
                output=output,
            )
            return written, {}
        case format:
            return _write_pairs(folder, source, output, wanted, format)


def _write_pairs(
    folder: ExportFolder, source: Path, output: Path, wanted: Wanted, format: PairFormat
) -> tuple[Written, dict[str, Tally]]:
    opened = opened_pairs(
        source, iterations=wanted.iterations, languages=wanted.languages, min_margin=wanted.min_margin
    )
    with opened as pairs:
        match pairs:
            case RunPairs(run=run, iterations=iterations):
                folder.facts["iterations"] = list(iterations)
            case FilePairs():
                run, iterations = None, ()
        last = max(iterations, default=0)
        path = folder.path
        match format:
            case "trl":
                written = write_trl(path, pairs, output=output)
            case "llamafactory":
                written = write_llamafactory(path, pairs, run=run, iteration=last, output=output)
            case "openrlhf":
                written = write_openrlhf(path, pairs, run=run, iteration=last, output=output)
            case "argilla":
                written = write_argilla(path, pairs, run=run, output=output)
            case "csv":
                written = write_csv_table(
                    path, pairs, output=output, bom=wanted.bom, guard_formulas=wanted.guard_formulas
                )
            case "dataset":
                written = write_dataset(
                    path, pairs, run=run, iterations=iterations, license=wanted.license, output=output
                )
        if not any(tally.n_pairs for tally in pairs.tallies.values()):
            raise ValueError(
                f"{source} has no pairs to export: lower --min-margin, or name other languages or iterations"
            )
        return replace(written, notes=(*written.notes, *replay_notes(run))), pairs.tallies


def _require_fitting(wanted: Wanted) -> None:
    """Raise ValueError where an option belongs to another format: it would be passed over in silence."""
    pairs = get_args(PairFormat)
    belongs: dict[str, tuple[bool, tuple[str, ...]]] = {
        "--bom": (wanted.bom, ("csv",)),
        "--guard-formulas": (wanted.guard_formulas, ("csv",)),
        "--license": (wanted.license != UNKNOWN_LICENSE, ("dataset", "model")),
        "--base-model": (wanted.base_model is not None, ("model",)),
        "--link": (wanted.link, ("model",)),
        "--min-margin": (wanted.min_margin is not None, pairs),
        "--iteration": (bool(wanted.iterations), (*pairs, "model")),
        "--language": (bool(wanted.languages), (*pairs, "alpaca-eval")),
    }
    for option, (given, formats) in belongs.items():
        if given and wanted.format not in formats:
            raise ValueError(f"{option} belongs to --to {', '.join(formats)}, got --to {wanted.format}: leave it out")


def _cut_note(tallies: Mapping[str, Tally]) -> tuple[str, ...]:
    cut = sum(tally.n_cut for tally in tallies.values())
    if not cut:
        return ()
    return (
        f"{cut} pairs hold a response that was cut at the length limit: other trainers add the end of turn and train "
        "it as if it had ended there",
    )

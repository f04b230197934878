"""Every path of a run, and the only place that joins them.

    root/config.yaml  provenance.json  report.html  report.md
    root/prompts/<language>/      the prompts to sample from, where they do not fit into memory
    root/iteration-<t>/<stage>/   iteration 0 is the start policy; reference/ stands beside the iterations

Knows names, never contents. Refuses a language or name that would leave its folder.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from crossward.core.plain_text import visible_line

if TYPE_CHECKING:
    from crossward.store.shared_stages import SharedStages

# A view of an ensemble is scored in a folder of its own, which is a `score` stage too; so with translations.
Stage = Literal[
    "sample",
    "translate",
    "translate-from-english",
    "score",
    "score-crosslingual",
    "score-multilingual",
    "score-translated",
    "rate",
    "pair",
    "train",
    "evaluate",
    "judge",
]
_PART = r"part-(\d{5,})\.parquet"


@dataclass(frozen=True, slots=True)
class StageDir:
    """The folder of one stage of one iteration; `shared` is the pool of finished stages that its run draws from."""

    path: Path
    shared: "SharedStages | None" = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        """Which kind of stage this is: `score` for `score-translated` too."""
        return self.path.name.partition("-")[0]

    @property
    def title(self) -> str:
        """The stage within its run, as `--redo` takes it: `iteration-1/pair`."""
        return f"{self.path.parent.name}/{self.path.name}"

    @property
    def manifest(self) -> Path:
        """What the stage made; written last."""
        return self.path / "stage.json"

    @property
    def inputs(self) -> Path:
        """What the stage is made from; written first."""
        return self.path / "inputs.json"

    @property
    def checked(self) -> Path:
        """What its files were when they were hashed last; may be deleted at any time."""
        return self.path / ".checked.json"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint"

    @property
    def answers(self) -> Path:
        """What a server has answered so far; gone when the stage is done."""
        return self.path / "answers.jsonl"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def training_state(self) -> Path:
        """From where a training that is cut goes on; gone when the checkpoint is there."""
        return self.path / "checkpoint.work"

    @property
    def trained(self) -> Path:
        """What a trainer said of the checkpoint, from when it is there; stage.json holds it too."""
        return self.path / "trained.json"

    def shard(self, language: str, index: int) -> Path:
        """<stage>/<language>/part-00000.parquet"""
        if index < 0:
            raise ValueError(f"shard index must be 0 or more, got {index}")
        return self.path / safe_name(language) / f"part-{index:05d}.parquet"

    def reasons_file(self, language: str, index: int) -> Path:
        """<stage>/<language>/part-00000.reasons.json, beside the shard"""
        return self.shard(language, index).with_suffix(".reasons.json")

    def language_file(self, language: str) -> Path:
        """<stage>/<language>.parquet"""
        return self.path / f"{safe_name(language)}.parquet"

    def tokens_file(self, language: str) -> Path:
        """score/tokens/<language>.jsonl: where in a few prompts' responses the log-ratio lies"""
        return self.path / "tokens" / f"{safe_name(language)}.jsonl"

    @property
    def references(self) -> Path:
        """train/reference-logprobs/: gone when the stage is done"""
        return self.path / "reference-logprobs"

    def reference_file(self, language: str, index: int) -> Path:
        """train/reference-logprobs/<language>/window-00000.parquet"""
        return self.references / safe_name(language) / f"window-{index:05d}.parquet"

    def tokens_files(self) -> list[Path]:
        """The files made by `tokens_file` that are there, in order of language."""
        return sorted(path for path in self.path.glob("tokens/*.jsonl") if not path.name.startswith("."))

    def measures_file(self, language: str) -> Path:
        """<stage>/measures/<language>.jsonl"""
        return self.path / "measures" / f"{safe_name(language)}.jsonl"

    def measured_languages(self) -> list[str]:
        """The languages that have a `measures_file`, in order."""
        return sorted(path.stem for path in (self.path / "measures").glob("*.jsonl") if not path.name.startswith("."))

    def outputs_file(self, language: str) -> Path:
        """evaluate/model_outputs/<language>.json, as alpaca_eval reads them"""
        return self.path / "model_outputs" / f"{safe_name(language)}.json"

    @property
    def annotations(self) -> Path:
        """judge/annotations/, as alpaca_eval writes them"""
        return self.path / "annotations"

    def verdicts_file(self, language: str) -> Path:
        """judge/verdicts/<language>.jsonl"""
        return self.path / "verdicts" / f"{safe_name(language)}.jsonl"

    def verdict_files(self) -> list[Path]:
        """The files made by `verdicts_file` that are there, in order of language."""
        return sorted(self.path.glob("verdicts/*.jsonl"))

    def shards(self, language: str | None = None) -> list[tuple[str, int, Path]]:
        """The shards that are there, or those of one language: language, index and path, in that order."""
        if language is None:
            return [found for code in self.languages() for found in self.shards(code)]
        parts = (_part_of(entry) for entry in _entries(self.path / safe_name(language)))
        return sorted((language, int(match[1]), self.path / language / match[0]) for match in parts if match)

    def languages(self) -> list[str]:
        """The languages that have shards, in order."""
        folders = [entry.name for entry in _entries(self.path) if entry.is_dir() and not entry.name.startswith(".")]
        return sorted(name for name in folders if any(_part_of(entry) for entry in _entries(self.path / name)))

    def language_files(self) -> list[Path]:
        """The files made by `language_file` that are there, in order of language."""
        return sorted(path for path in self.path.glob("*.parquet") if not path.name.startswith("."))

    def relative(self, path: Path) -> str:
        """A path inside the stage as the manifest writes it: from the stage's folder, with forward slashes."""
        return path.relative_to(self.path).as_posix()


@dataclass(frozen=True, slots=True)
class PromptsDir:
    """The folder of one language's prompts, where they are kept on disk."""

    path: Path

    @property
    def record(self) -> Path:
        """What the prompts were read from, and how many there are; written last."""
        return self.path / "prompts.json"

    def part(self, index: int) -> Path:
        """prompts/<language>/part-00000.parquet"""
        return self.path / f"part-{index:05d}.parquet"


@dataclass(frozen=True, slots=True)
class IterationDir:
    """The folder of one policy: `iteration-<t>`, or `reference`."""

    path: Path
    shared: "SharedStages | None" = field(default=None, compare=False, repr=False)

    def stage(self, name: Stage) -> StageDir:
        """The folder of one stage."""
        if name not in get_args(Stage):
            raise ValueError(f"unknown stage {name!r}: expected one of {', '.join(get_args(Stage))}")
        return StageDir(self.path / name, self.shared)


@dataclass(frozen=True, slots=True)
class RunDir:
    """The folder of one run; `shared` as in StageDir."""

    root: Path
    shared: "SharedStages | None" = field(default=None, compare=False, repr=False)

    @property
    def config(self) -> Path:
        return self.root / "config.yaml"

    @property
    def provenance(self) -> Path:
        return self.root / "provenance.json"

    @property
    def report(self) -> Path:
        """The report as a page."""
        return self.root / "report.html"

    @property
    def markdown(self) -> Path:
        """The report's words and tables as Markdown."""
        return self.root / "report.md"

    @property
    def reward_accuracy(self) -> Path:
        """How often the rewards were right, where something can tell."""
        return self.root / "reward-accuracy.json"

    @property
    def judgements(self) -> Path:
        """Every answer of the judge, of all policies: what was paid for stays, whatever is done again."""
        return self.root / "judgements.jsonl"

    @property
    def evaluation(self) -> Path:
        """Win rates of all policies together."""
        return self.root / "evaluation.json"

    @property
    def tracking(self) -> Path:
        """What a tracker was told of the run."""
        return self.root / "tracking.json"

    @property
    def lock(self) -> Path:
        return self.root / ".lock"

    @property
    def prompts(self) -> Path:
        """The prompts to sample from, where they are kept on disk."""
        return self.root / "prompts"

    def prompts_of(self, language: str) -> PromptsDir:
        """prompts/<language>/"""
        return PromptsDir(self.prompts / safe_name(language))

    @property
    def cluster(self) -> Path:
        """What the nodes of a cluster must see of the driver's files; there only while they look."""
        return self.root / ".cluster"

    @property
    def reference(self) -> IterationDir:
        """Where the reference's own answers live (`reference/evaluate`)."""
        return IterationDir(self.root / "reference", self.shared)

    def iteration(self, t: int) -> IterationDir:
        """Iteration t makes policy t; `iteration(0)` holds the start policy's answers."""
        if t < 0:
            raise ValueError(f"iteration must be 0 (the start policy) or more, got {t}")
        return IterationDir(self.root / f"iteration-{t}", self.shared)

    def stage_named(self, title: str) -> StageDir:
        """The stage that a title such as `iteration-1/pair` or `reference/evaluate` names."""
        match = re.fullmatch(rf"(?:(reference)|iteration-(0|[1-9]\d*))/({'|'.join(get_args(Stage))})", title)
        if match is None:
            raise ValueError(
                f"unknown stage {title!r}: expected iteration-<t>/<stage> or reference/<stage>, "
                f"with a stage of {', '.join(get_args(Stage))}, for instance iteration-1/pair"
            )
        reference, t, name = match.groups()
        return StageDir((self.reference if reference else self.iteration(int(t))).path / name, self.shared)

    def require_folder(self) -> None:
        """Raise ValueError where something else than a folder has the run's name."""
        if self.root.exists() and not self.root.is_dir():
            raise ValueError(f"run {self.root} is a file: name a folder with run=FOLDER")

    def iterations(self) -> list[int]:
        """The iterations that have a folder, in order."""
        names = (re.fullmatch(r"iteration-(0|[1-9]\d*)", folder.name) for folder in self.root.glob("iteration-*"))
        return sorted(int(match[1]) for match in names if match)


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """What lies in a folder, in no order; nothing where it is no folder."""
    try:
        with os.scandir(folder) as found:
            yield from found
    except (FileNotFoundError, NotADirectoryError):
        return


def _part_of(entry: os.DirEntry[str]) -> re.Match[str] | None:
    """A shard's name and number; None where the entry is no shard."""
    return re.fullmatch(_PART, entry.name)


def safe_name(name: str) -> str:
    """The name itself, or ValueError where it could not be one plain file name."""
    if not name or name.startswith(".") or ".." in name or re.search(r"[/\\]", name) or visible_line(name) != name:
        raise ValueError(
            f"{name!r} cannot name a file: expected a language code such as 'es', without / \\ or .. and without "
            "characters that steer a terminal or turn the direction of writing"
        )
    return name


def is_inside(name: str) -> bool:
    """Whether a file's name, as a manifest lists it, stays inside its folder.

    >>> [is_inside(name) for name in ("es/part-00000.parquet", "../es", "/etc/passwd", "a/../../b", "a\\\\b", "")]
    [True, False, False, False, False, False]
    """
    return bool(name) and "\\" not in name and not {"", ".", ".."}.intersection(name.split("/"))


def require_no_way_out(root: Path) -> None:
    """Raise ValueError where a link in the folder leads out of it: a stranger's run could show any file as its own."""
    home = root.resolve()
    waiting = [root]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                path = Path(entry.path)
                # realpath: of links that lead in a circle, Path.resolve makes an error of its own.
                if entry.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(home):
                    raise ValueError(
                        f"{path} is a link that leads out of the run {root}, which is not followed: "
                        "put what it leads to in its place, or remove it"
                    )
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(path)

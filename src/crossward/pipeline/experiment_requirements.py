"""What the runs of an experiment lack (a model, a file, a key), told for all of them together before the first begins.

Runs that name the same things are looked at once, and every tokenizer is loaded once. What lies in a world that is not
made yet is left for later.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crossward.config import Config
from crossward.experiment_cells import CellRun
from crossward.pipeline.assemble import Engines, Known
from crossward.pipeline.given import Given
from crossward.pipeline.progress import Silent
from crossward.pipeline.requirements import Part, parts_of, require
from crossward.store.manifest import content_hash
from crossward.store.run_dir import RunDir

# Keys that no requirement depends on: runs that differ in these alone name the same things. Whatever is not named here
# is taken to matter, so that a key forgotten costs time and hides nothing.
_DRAWING = ("n", "temperature", "top_p", "repetition_penalty")
_NO_MATTER = (
    *("run", "seed", "iterations", "shard_size", "score.noise_sample"),
    *(f"{section}.{key}" for section in ("sample", "evaluate") for key in _DRAWING),
    *(f"tracking.{key}" for key in ("project", "name", "folder", "mode")),
    *(f"cluster.{key}" for key in ("address", "replicas", "resources", "restarts", "start_timeout_s")),
    *("reward.reference", "reward.policy", "reward.agreement", "reward.surprisal"),
    *(f"pair.{key}" for key in ("length_unit", "alpha_search", "choice", "upper_bound", "min_margin", "min_responses")),
    *(f"pair.{key}" for key in ("min_characters", "max_characters", "language_confidence")),
    *(f"train.{key}" for key in ("beta", "nll_weight", "nll_normalisation", "learning_rate", "epochs", "max_steps")),
    *(f"train.{key}" for key in ("warmup_ratio", "scheduler", "weight_decay")),
    *(f"train.{key}" for key in ("max_grad_norm", "gradient_checkpointing", "save_dtype", "lora", "replay.share")),
)
_ENDINGS = (".jsonl", ".json", ".csv", ".parquet")  # of files: a name on the hub may have a dot too
_NAMED = 4  # runs or cells named before a sentence; the rest are counted


class LackingError(ValueError):
    """Runs that lack something: `lines` has one for everything that is lacking, with the cells that need it."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = tuple(lines)


@dataclass(slots=True)
class Lookout:
    """Looks at what runs need; remembers what was read of checkpoints from one look to the next."""

    given: Given
    _known: dict[tuple[str, ...], Known] = field(default_factory=dict)  # by whose own code may run
    _parts: dict[str, str | None] = field(default_factory=dict)  # the problem of a part, by what decides it

    def beforehand(self, runs: Sequence[CellRun], worlds: Path, *, ask_hub: bool = True) -> list[str]:
        """What is lacking of all that is neither in the folder `worlds` nor (unless asked) on the hub, a line each."""

        def known(part: Part) -> bool:
            inside = any(path and _within(path, worlds) for path in (*part.files, *part.sources))
            return not inside and (ask_hub or not any(path and _may_be_on_hub(path) for path in part.sources))

        return self._lines(runs, lambda engines: self._problems(part for part in parts_of(engines) if known(part)))

    def wholly(self, runs: Sequence[CellRun]) -> list[str]:
        """What is lacking, a line each; the worlds are there."""
        return self._lines(runs, self._everything)

    def _lines(self, runs: Sequence[CellRun], look: Callable[[Engines], list[str]]) -> list[str]:
        seen: dict[str, list[str]] = {}
        lacking: dict[str, list[CellRun]] = {}
        for run in runs:
            key = content_hash(_what_matters(run.config))
            if key not in seen:
                seen[key] = look(self._engines(run.config))
            for sentence in seen[key]:
                lacking.setdefault(sentence, []).append(run)
        return [f"{_names(found, runs)}: {sentence}" for sentence, found in lacking.items()]

    def _engines(self, config: Config) -> Engines:
        # Opened only to look: how many threads the runs compute with is settled when they do.
        runtime = config.runtime.model_copy(update={"threads": None})
        known = self._known.setdefault(tuple(config.trusted), Known())
        return Engines(config.model_copy(update={"runtime": runtime}), self.given, known)

    def _everything(self, engines: Engines) -> list[str]:
        """Every piece that is lacking; where none is, whether they go together."""
        if problems := self._problems(parts_of(engines)):
            return problems
        problem = _problem(lambda: require(engines, RunDir(Path(engines.config.run)), Silent()))
        return [problem] if problem else []

    def _problems(self, parts: Iterable[Part]) -> list[str]:
        """Each once: one path may be read for several reasons. A hub that does not answer is waited for once."""
        found: list[str] = []
        for part in parts:
            key = content_hash(list(part.by))
            if key not in self._parts:
                self._parts[key] = _problem(part.look)
            if (problem := self._parts[key]) is not None and problem not in found:
                found.append(problem)
        return found


def _problem(look: Callable[[], object]) -> str | None:
    """The sentence of what is lacking, None where nothing is."""
    try:
        look()
    except (ValueError, OSError, ModuleNotFoundError) as error:
        return " ".join(str(error).split())
    except Exception:  # our fault: its run tells it in its turn, with its traceback, and stops no other
        return None
    return None


def _what_matters(config: Config) -> dict[str, Any]:
    tree = config.model_dump(mode="json")
    for key in _NO_MATTER:
        *sections, last = key.split(".")
        node: Any = tree
        for section in sections:
            node = node.get(section) if isinstance(node, dict) else None
        if isinstance(node, dict):
            node.pop(last, None)
    return tree


def _within(path: str, folder: Path) -> bool:
    return Path(path).absolute().is_relative_to(folder.absolute())


def _may_be_on_hub(path: str) -> bool:
    """name or owner/name, where no such file or folder is here."""
    place = Path(path)
    local = place.exists() or place.is_absolute() or place.suffix in _ENDINGS or path.startswith((".", "~"))
    return not local and len(place.parts) <= 2 and not (len(place.parts) == 2 and place.parent.is_dir())


def _names(found: Sequence[CellRun], runs: Sequence[CellRun]) -> str:
    """The cells, or of a cell that has seeds without the lack, the seeds that have it."""
    names: list[str] = []
    for cell in dict.fromkeys(run.cell.name for run in found):
        here = [run for run in found if run.cell.name == cell]
        whole = len(here) == sum(run.cell.name == cell for run in runs)
        names += [f"cell {cell!r}"] if whole else [f"cell {cell!r}, seed {run.seed}" for run in here]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return "; ".join(names[:_NAMED]) + more

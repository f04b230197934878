"""What is measured of a finished run: by metric, policy and language, prompt by prompt wherever a metric is a mean.

Measures of answers come from the evaluate stages, win rates from the judge stages; what a world knows of answers comes
as a function. Kept beside the run, under the hash of the answers that it was taken from.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossward.config import Config
from crossward.core.answer_measures import MEASURES
from crossward.core.seeds_intervals import Ratio
from crossward.experiment_config import JUDGE_METRICS, WORLD_METRICS
from crossward.pipeline.policies import REFERENCE, policies_of
from crossward.pipeline.progress import Progress
from crossward.store import manifest
from crossward.store.checked_files import file_sha256
from crossward.store.files import write_text
from crossward.store.json_lines import loose_json
from crossward.store.manifest import content_hash
from crossward.store.measures_file import read_measures
from crossward.store.rates_file import read_rates
from crossward.store.run_dir import RunDir
from crossward.store.shared_stages import held
from crossward.store.verdict_file import read_verdicts

_FORMAT = 1  # rises when the same answers would be measured otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A value of one policy in one language.

    `ratio` has it prompt by prompt (Σ numerators / Σ denominators); without it `bounds` is its own 95 % interval.
    """

    estimate: float
    ratio: Ratio | None = None
    bounds: tuple[float, float] | None = None

    @classmethod
    def of(cls, ratio: Ratio) -> "Measured | None":
        """The value of a ratio; None where nothing was observed."""
        total = sum(denominator for _, denominator in ratio.values())
        return cls(estimate=sum(n for n, _ in ratio.values()) / total, ratio=ratio) if total else None


ByLanguage = dict[str, Measured]
ByPolicy = dict[str, ByLanguage]
# Of a finished run, some metrics (WORLD_METRICS) by policy and language.
OfWorld = Callable[[Sequence[str], Config, RunDir, Progress], dict[str, ByPolicy]]


def measure_run(
    path: Path, metrics: Sequence[str], config: Config, run: RunDir, of_world: OfWorld | None, progress: Progress
) -> None:
    """Measure a finished run into `path`, unless it holds just that."""
    key = measured_key(metrics, config, run)
    assert key is not None, "a run that ended well has all its answers"
    if read_measured(path, key) is not None:
        return
    world = [metric for metric in metrics if metric in WORLD_METRICS]
    found = of_world(world, config, run, progress) if of_world and world else {}
    for metric in metrics:
        if metric in JUDGE_METRICS:
            found[metric] = _win_rates(metric, run, config.iterations)
        elif metric in MEASURES:
            found[metric] = _answer_measures(metric, run, config.iterations)
    content = {"key": key, "metrics": {name: _plain(found[name]) for name in metrics}}
    write_text(path, json.dumps(content, ensure_ascii=False, sort_keys=True) + "\n")


def measured_key(metrics: Sequence[str], config: Config, run: RunDir) -> str | None:
    """What the measures of a run are taken from, as a hash; None where it is not finished."""
    digests: dict[str, str] = {}
    for name, here in policies_of(run, config.iterations).items():
        answered, judged = (manifest.read(here.stage(stage)) for stage in ("evaluate", "judge"))
        own_baseline = name == REFERENCE and config.evaluate.baseline == REFERENCE
        if answered is None or (config.evaluate.judge is not None and judged is None and not own_baseline):
            return None
        digests |= {f"{name}/{done.stage}": done.digest for done in (answered, judged) if done is not None}
    how: dict[str, Any] = {"length_control": config.evaluate.length_control, "dtype": config.models.dtype}
    if any(metric in JUDGE_METRICS for metric in metrics):
        # A run may be tabulated anew on the same verdicts: these may change, and so may what is in their files.
        how |= {"difficulty": config.evaluate.difficulty, "gamed": config.evaluate.gamed, "rates": _sha256(run)}
    return content_hash({"format": _FORMAT, "metrics": list(metrics), "made from": digests, **how})


def _sha256(run: RunDir) -> str | None:
    """Of the run's win rates; None where it has none."""
    return file_sha256(run.evaluation) if run.evaluation.exists() else None


def read_measured(path: Path, key: str) -> dict[str, ByPolicy] | None:
    """The measures in a file, by metric; None where it is not there or was taken from something else."""
    try:
        content = loose_json(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(content, dict) or content.get("key") != key:
        return None
    try:
        return {
            metric: {
                policy: {language: _measured(value) for language, value in by_language.items()}
                for policy, by_language in by_policy.items()
            }
            for metric, by_policy in content["metrics"].items()
        }
    except (KeyError, IndexError, TypeError, AttributeError):
        return None  # no longer what was written: measured again


def kept_in_pool(run: RunDir, name: str, made_from: Any, compute: Callable[[], Any]) -> Any:
    """A JSON-able value that `made_from` alone decides: computed once for all runs that share a pool."""
    if run.shared is None:
        return compute()
    path = run.shared.root / f"{name}-{content_hash(made_from)[:32]}.json"
    with held(path.with_name(f".{path.stem}.lock")):
        if not path.exists():
            write_text(path, json.dumps(compute(), ensure_ascii=False, sort_keys=True) + "\n")
        return json.loads(path.read_text(encoding="utf-8"))


def _answer_measures(metric: str, run: RunDir, iterations: int) -> ByPolicy:
    number = MEASURES[metric]
    found: ByPolicy = {}
    for name, here in policies_of(run, iterations).items():
        stage = here.stage("evaluate")
        for language in stage.measured_languages():
            pairs = [
                (row.prompt_id, value)
                for row in read_measures(stage.measures_file(language))
                if (value := number(row)) is not None
            ]
            _add(found, name, language, Measured.of(ratio_of(pairs)))
    return found


def _win_rates(metric: str, run: RunDir, iterations: int) -> ByPolicy:
    found: ByPolicy = {}
    if metric == "lc_win_rate":
        for rate in (read_rates(run.evaluation) or {"rates": []})["rates"]:
            if rate["lc_win_rate"] is not None:
                low, high = rate["lc_interval"]
                value = Measured(estimate=rate["lc_win_rate"], bounds=(low, high))
                _add(found, rate["model"], rate["language"], value)
        return found
    for name, here in policies_of(run, iterations).items():
        for path in here.stage("judge").verdict_files():
            pairs = [(v.id, 100 * v.preference) for v in read_verdicts(path) if v.preference is not None]
            _add(found, name, path.stem, Measured.of(ratio_of(pairs)))
    return found


def ratio_of(values: Sequence[tuple[str, float]]) -> Ratio:
    """Values with their prompts' ids as sums and counts by prompt: a mean over all values.

    >>> ratio_of([("a", 1.0), ("b", 4.0), ("a", 2.0)])
    {'a': (3.0, 2.0), 'b': (4.0, 1.0)}
    """
    found: dict[str, tuple[float, float]] = {}
    for prompt, value in values:
        total, n = found.get(prompt, (0.0, 0.0))
        found[prompt] = (total + value, n + 1.0)
    return found


def _add(found: ByPolicy, policy: str, language: str, value: Measured | None) -> None:
    if value is not None:
        found.setdefault(policy, {})[language] = value


def _plain(by_policy: ByPolicy) -> dict[str, Any]:
    return {
        policy: {
            language: {"estimate": value.estimate, "bounds": value.bounds, "ratio": value.ratio}
            for language, value in by_language.items()
        }
        for policy, by_language in by_policy.items()
    }


def _measured(value: Mapping[str, Any]) -> Measured:
    bounds, ratio = value["bounds"], value["ratio"]
    return Measured(
        estimate=value["estimate"],
        bounds=None if bounds is None else (bounds[0], bounds[1]),
        ratio=None if ratio is None else {prompt: (pair[0], pair[1]) for prompt, pair in ratio.items()},
    )

"""What is measured of a run: verdicts and rates as they lie on disk, kept under the hash of what they come from."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.experiments import checked, make_experiment, run_all

from crossward.core.verdicts import Verdict
from crossward.pipeline.experiment_measures import (
    Measured,
    measure_run,
    measured_key,
    policies_of,
    ratio_of,
    read_measured,
)
from crossward.pipeline.progress import Silent
from crossward.store.run_dir import RunDir
from crossward.store.verdict_file import write_verdicts


def verdict(id: str, preference: float | None) -> Verdict:
    return Verdict(
        id=id, language="es", model="π_1", baseline="b", preference=preference, model_length=1, baseline_length=1
    )


def rate(language: str, controlled: float | None, interval: list[float] | None) -> dict[str, Any]:
    return {
        "model": "π_1", "language": language, "baseline": "reference", "n_judged": 9, "n_null": 0, "win_rate": 55.0,
        "win_rate_se": 2.0, "lc_win_rate": controlled, "lc_variant": "joint", "lc_interval": interval,
    }  # fmt: skip


def write_rates(folder: RunDir, *rates: dict[str, Any]) -> None:
    found = {"rates": rates, "averages": [], "differences": []}
    folder.evaluation.write_text(json.dumps(found), encoding="utf-8")


def test_win_rates_come_from_verdicts_and_evaluation_json(tmp_path: Path):
    tree = make_experiment(tmp_path, cells={"a": {}})
    assert not run_all(tree).failures
    _, (run,), directory = checked(tree)
    folder = directory.run("a", 1)
    verdicts = [(verdict("p", 1.0), {}), (verdict("q", 0.5), {}), (verdict("r", None), {})]
    write_verdicts(folder.iteration(1).stage("judge").verdicts_file("es"), verdicts)
    write_rates(folder, rate("es", 61.5, [50.0, 70.0]), rate("en", None, None))
    path, metrics = tmp_path / "measured.json", ("win_rate", "lc_win_rate", "truncated")
    measure_run(path, metrics, run.config, folder, None, Silent())
    key = measured_key(metrics, run.config, folder)
    assert key is not None
    found = read_measured(path, key)
    assert found is not None
    assert found["win_rate"] == {"π_1": {"es": Measured(estimate=75.0, ratio={"p": (100.0, 1.0), "q": (50.0, 1.0)})}}
    assert found["lc_win_rate"] == {"π_1": {"es": Measured(estimate=61.5, bounds=(50.0, 70.0))}}
    assert list(found["truncated"]) == ["reference", "π_0", "π_1"]
    assert read_measured(path, "another key") is None
    path.write_text("{")
    assert read_measured(path, key) is None
    assert measured_key(("n_chars",), run.config, folder) != key
    (folder.iteration(1).stage("evaluate").manifest).unlink()
    assert measured_key(metrics, run.config, folder) is None


def test_rates_that_were_tabulated_anew_are_read_anew(tmp_path: Path):
    tree = make_experiment(tmp_path, cells={"a": {}})
    assert not run_all(tree).failures
    _, (run,), directory = checked(tree)
    folder, path, metrics = directory.run("a", 1), tmp_path / "measured.json", ("lc_win_rate",)

    def measured_with(controlled: float) -> float:
        write_rates(folder, rate("es", controlled, [0.0, 100.0]))
        measure_run(path, metrics, run.config, folder, None, Silent())
        found = read_measured(path, measured_key(metrics, run.config, folder) or "")
        assert found is not None
        return found["lc_win_rate"]["π_1"]["es"].estimate

    assert measured_with(61.5) == 61.5
    assert measured_with(58.0) == 58.0  # the same verdicts, as with other difficulties in the same file

    def key(names: tuple[str, ...], **changes: str) -> str | None:
        evaluate = run.config.evaluate.model_copy(update=changes)
        return measured_key(names, run.config.model_copy(update={"evaluate": evaluate}), folder)

    published = {"length_control": "published", "difficulty": "d.csv", "gamed": "g.csv"}
    for other in ({"difficulty": "e.csv"}, {"gamed": "h.csv"}):
        assert key(metrics, **published | other) != key(metrics, **published)
        assert key(("n_chars",), **published | other) == key(("n_chars",), **published), "they decide no answer"


def test_names_of_policies():
    from crossward.store.run_dir import RunDir

    assert list(policies_of(RunDir(Path("r")), 2)) == ["reference", "π_0", "π_1", "π_2"]


def test_a_mean_over_answers_counts_answers():
    found = Measured.of(ratio_of([("a", 1.0), ("a", 2.0), ("b", 6.0)]))
    assert found is not None
    assert found.estimate == pytest.approx(3.0)
    assert Measured.of({}) is None

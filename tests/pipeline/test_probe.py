"""The probe on a tiny model: it measures with the real engines, stays within its bound, and leaves nothing."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.recipes import config_of, make_recipe

from crossward.core.plan_drawing import drawing_seconds
from crossward.core.workload import Workload
from crossward.pipeline import probe as probing
from crossward.pipeline.assemble import Engines
from crossward.pipeline.plan import workload_of
from crossward.pipeline.plan_inputs import NOTHING_GIVEN, inputs_of
from crossward.pipeline.probe import Probe, machine_row, probe
from crossward.pipeline.progress import Silent
from crossward.pipeline.prompts import training_prompts
from crossward.plan_tables import hardware_table

TABLE = hardware_table()


def probed(folder: Path) -> tuple[Probe, Workload]:
    recipe = make_recipe(folder)
    recipe["sample"] |= {"max_new_tokens": 24}
    config = config_of(recipe)
    engines, prompts = Engines(config), training_prompts(config)
    inputs = inputs_of(config, prompts, {}, engines, NOTHING_GIVEN)
    work = workload_of(config, inputs, "cpu")
    return probe(engines, prompts, {"cpu": work, "gpu": work}, TABLE, Silent()), work


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(probing, "SHORT_S", 0.0)


def test_it_measures_every_kind_of_work_and_the_length_of_responses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(probing.tempfile, "tempdir", str(temporary))
    found, work = probed(tmp_path)
    assert found.sample is not None
    assert found.train is not None
    assert found.response_tokens is not None
    assert 1 <= found.response_tokens <= 24
    assert found.sample.tokens == pytest.approx(8 * found.response_tokens), "two prompts, four responses each: 8 rows"
    for measured in (found.sample, found.score, found.train):
        assert measured.seconds > 0
        assert measured.factor == measured.seconds / measured.estimated
    factors = found.hardware.factors
    assert (factors.sample, factors.train) == (found.sample.factor, found.train.factor)
    assert found.hardware.name == "this machine"
    assert len(found.lines()) == 4
    assert not [*temporary.rglob("*.safetensors"), *temporary.rglob("metrics.jsonl")], "nothing is left"
    assert not (tmp_path / "run").exists()

    drawn = replace(work.drawing, prompts=2, languages=1, response_tokens=found.response_tokens)
    again = drawing_seconds(replace(work, drawing=drawn), drawn, found.hardware)[0].work
    assert again * factors.sample == pytest.approx(found.sample.seconds), "what it drew takes as long as it took"


def test_a_batch_that_would_take_too_long_is_cut_and_tells_no_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(probing, "BUDGET_S", 1e-6)
    found, _ = probed(tmp_path)
    assert found.sample is not None
    assert found.response_tokens is None
    assert found.sample.tokens <= 2 * 4 * 4, "four tokens of each response"


def test_it_needs_prompts_and_an_engine_of_this_machine(tmp_path: Path):
    config = config_of(make_recipe(tmp_path))
    engines, prompts = Engines(config), training_prompts(config)
    work = workload_of(config, inputs_of(config, prompts, {}, engines, NOTHING_GIVEN), "cpu")
    with pytest.raises(ValueError, match="--probe needs the recipe's prompts"):
        probe(engines, {}, {"cpu": work, "gpu": work}, TABLE, Silent())


def test_a_processor_is_recognised_by_its_cores():
    row = machine_row("cpu", TABLE)
    assert row is not None
    assert row.kind == "cpu"

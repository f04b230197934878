"""The tables of a plan: the package's rows, a user's over them, and every mistake in one sentence."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.planning import CPU

from crossward.core.hardware import Factors
from crossward.plan_tables import hardware_table, named, price_table, read_probe, write_probe


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_the_package_has_a_laptop_one_gpu_eight_and_a_cluster():
    table = hardware_table()
    assert {
        "laptop",
        "laptop-8-core",
        "rtx-4090",
        "a100-80gb",
        "h100-80gb",
        "8xh100",
        "cluster-64xh100",
    } <= table.keys()
    assert [table[name].devices for name in ("laptop", "h100-80gb", "8xh100", "cluster-64xh100")] == [1, 1, 8, 64]
    assert table["8xh100"].bandwidth_gb_s == table["h100-80gb"].bandwidth_gb_s, "like"
    for row in table.values():
        assert row.source
        assert set(row.efficiency.assumed) <= set(type(row.efficiency).__dataclass_fields__), row.name


def test_a_file_adds_rows_and_changes_keys_of_others(tmp_path: Path):
    own = write(
        tmp_path / "own.yaml",
        "hardware:\n  h100-80gb: {hour_price: 2.5}\n  mine: {like: h100-80gb, devices: 4, efficiency: quick}\n"
        "efficiencies:\n  gpu: {train_share: 0.4}\n  quick: {read_share: 1, draw_share: 1, bandwidth_share: 1, "
        "score_share: 1, train_share: 1, step_s: 0, layer_s: 0, vllm_step_s: 0, row_s: 0, group_s: 0, pair_s: 0, "
        "start_s: 0, vllm_start_s: 0, train_start_s: 0}\n",
    )
    table = hardware_table(own)
    assert (table["h100-80gb"].hour_price, table["h100-80gb"].memory_gib) == (2.5, 80)
    assert (table["mine"].hour_price, table["mine"].devices, table["mine"].efficiency.score_share) == (2.5, 4, 1.0)
    assert table["8xh100"].efficiency.train_share == 0.4


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("hardware:\n  mine: {like: h100}\n", "'mine' is like 'h100', which is no row"),
        ("hardware:\n  a: {like: b}\n  b: {like: a}\n", "is like itself in the end"),
        ("hardware:\n  mine: {like: laptop, memory_gb: 3}\n", "unknown key 'hardware.mine.memory_gb'"),
        ("hardware:\n  mine: {like: laptop, efficiency: none}\n", "has the efficiency 'none', which is not there"),
        ("hardware:\n  mine: {like: laptop, devices: 0}\n", "hardware.mine.devices"),
        ("hardware:\n  mine: {like: laptop, memory_gib: .inf}\n", "hardware.mine.memory_gib"),
        ("hardware:\n  mine: {kind: cpu}\n", "missing key 'hardware.mine.memory_gib'"),
        ("hardware: 3\n", "must hold rows of keys by name"),
        ("machines: {}\n", "unknown key 'machines'; known keys: efficiencies, hardware"),
        ("efficiencies:\n  gpu: {score_share: 2}\n", "efficiencies.gpu.score_share"),
        ("- 1\n", "must hold keys"),
        ("a: [\n", "is not valid YAML"),
    ],
)
def test_a_mistake_in_a_hardware_file_is_one_sentence(tmp_path: Path, text: str, sentence: str):
    with pytest.raises(ValueError, match="hardware file") as caught:
        hardware_table(write(tmp_path / "own.yaml", text))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(("name", "near"), [("h100", "h100-80gb"), ("labtop", "laptop"), ("8h100", "8xh100")])
def test_an_unknown_name_is_told_the_nearest(name: str, near: str):
    with pytest.raises(ValueError, match=f"unknown hardware '{name}': did you mean '{near}'"):
        named(name, hardware_table())


def test_prices_have_a_date_and_are_overridden_model_by_model(tmp_path: Path):
    package = price_table()
    assert package.models["gpt-4o"] == (2.5, 10.0)
    assert package.as_of.startswith("20")
    own = write(
        tmp_path / "own.yaml", "as_of: '2027-01'\nmodels:\n  gpt-4o: {prompt: 1}\n  mine: {prompt: 3, completion: 4}\n"
    )
    table = price_table(own)
    assert (table.models["gpt-4o"], table.models["mine"], table.as_of) == ((1.0, 10.0), (3.0, 4.0), "2027-01")
    undated = write(tmp_path / "undated.yaml", "models:\n  mine: {prompt: 3, completion: 4}\n")
    assert price_table(undated).as_of == "no date"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("models:\n  mine: {prompt: -1, completion: 1}\n", "models.mine.prompt"),
        ("models:\n  mine: {prompt: 1}\n", "missing key 'models.mine.completion'"),
        ("models: [1]\n", "must hold rows of keys by name"),
        ("model: {}\n", "unknown key 'model'"),
    ],
)
def test_a_mistake_in_a_price_file_is_one_sentence(tmp_path: Path, text: str, sentence: str):
    with pytest.raises(ValueError, match="price file") as caught:
        price_table(write(tmp_path / "own.yaml", text))
    assert sentence in str(caught.value)


def test_what_a_probe_measured_survives_a_file(tmp_path: Path):
    probed = replace(CPU, factors=Factors(sample=1.5, score=0.5, train=2.0), name="this machine")
    write_probe(tmp_path / "kept" / "probe.json", probed, 93.5)
    assert read_probe(tmp_path / "kept" / "probe.json") == (probed, 93.5)


@pytest.mark.parametrize(
    ("text", "sentence"), [("{}", "missing key 'hardware'"), ("{", "cannot be read"), ("[]", "probe file")]
)
def test_a_file_that_no_probe_wrote_is_refused(tmp_path: Path, text: str, sentence: str):
    with pytest.raises(ValueError, match="probe file") as caught:
        read_probe(write(tmp_path / "probe.json", text))
    assert sentence in str(caught.value)
    with pytest.raises(ValueError, match="does not exist: make one with --probe --probe-output"):
        read_probe(tmp_path / "none.json")

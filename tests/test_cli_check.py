"""`crossward check` as people and scripts meet it: the plan beside the findings, every mistake in one sentence."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.support.command import call
from tests.support.recipes import make_recipe, write_recipe

ROOT = Path(__file__).parent.parent
LORA = ROOT / "recipes" / "one-gpu-lora.yaml"


def test_the_plan_stands_under_the_findings_a_table_a_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    recipe = write_recipe(tmp_path, make_recipe(tmp_path))
    called = call(capsys, "check", recipe, "--hardware", "laptop", "--hardware", "8xh100", "--response-tokens", 12)
    assert called.code == 0, called.err
    assert "plan: 12 prompts in 2 languages" in called.out
    assert called.out.index("run folder") < called.out.index("laptop (") < called.out.index("8xh100, 8 devices (")
    assert "CPU hours" in called.out
    assert "GPU hours" in called.out
    assert (
        "hours on 8 devices take a replica on each (the recipe's section cluster); training stays on one" in called.out
    )
    assert "assumed:" not in called.out.split("laptop (")[0], "lengths were given or counted"


def test_disk_has_one_figure_the_plans(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    from crossward.pipeline import check as preflight

    recipe = write_recipe(tmp_path, make_recipe(tmp_path))
    at = ("check", recipe, "--hardware", "laptop", "--json")
    total = json.loads(call(capsys, *at).out)["plan"]["hardware"][0]["disk_bytes"]["total"]
    for free, level, code in ((total + 1, "ok", 0), (total - 1, "error", 2)):
        monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path, free=free: SimpleNamespace(free=free))
        called = call(capsys, *at)
        (disk,) = [finding for finding in json.loads(called.out)["findings"] if finding["subject"] == "disk"]
        assert (disk["level"], called.code) == (level, code)
        assert f"{total / 1e9:.1f} GB needed for all that the plan writes" in disk["text"]
    other = call(capsys, *at, "--languages-count", 50)
    assert other.code == 0, "planned for elsewhere"
    assert "warning" in {finding["level"] for finding in json.loads(other.out)["findings"]}


def test_json_has_findings_and_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    recipe = write_recipe(tmp_path, make_recipe(tmp_path))
    called = call(capsys, "check", recipe, "--json")
    assert called.code == 0, called.err
    told = json.loads(called.out)
    assert told.keys() == {"findings", "plan", "problem"}
    assert told["plan"].keys() == {"inputs", "hardware", "judge", "probe"}
    names = [machine["name"] for machine in told["plan"]["hardware"]]
    assert names[1:] == ["h100-80gb", "8xh100", "cluster-64xh100"], "a laptop, one GPU, eight, a cluster"
    stage = told["plan"]["hardware"][0]["stages"][0]
    assert stage["generated_tokens"] == 12 * 4 * told["plan"]["inputs"]["response_tokens"]
    assert told["plan"]["judge"] is None


def test_a_recipe_of_which_nothing_is_there_yet_is_planned(capsys: pytest.CaptureFixture[str]):
    called = call(
        capsys, "check", LORA, "runtime.device=cpu", "--parameters", "8e9", "--prompts-per-language", 1_000_000,
        "--languages-count", 100, "--json",
    )  # fmt: skip
    told = json.loads(called.out)
    assert called.code == 0, called.err
    assert told["plan"]["inputs"]["prompts"] == 100_000_000
    levels = {finding["subject"]: finding["level"] for finding in told["findings"]}
    assert (levels["prompts"], levels["policy"]) == ("warning", "warning"), "numbers stand in their place"


def test_a_model_that_is_planned_by_its_size_is_not_looked_for_on_the_hub(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    from crossward.engines import models

    def ask(*arguments: object, **options: object) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(models, "find_adapter_config_file", ask)
    recipe = ROOT / "recipes" / "paper" / "table-2-dpo.yaml"
    called = call(capsys, "check", recipe, "--parameters", "8e9", "--prompts-per-language", 10, "--json")
    policy = next(found for found in json.loads(called.out)["findings"] if found["subject"] == "policy")
    assert policy["text"] == "princeton-nlp/Llama-3-Base-8B-SFT-DPO: not looked at, planned by its size"


def test_without_prompts_or_model_there_is_no_plan_and_it_says_why(capsys: pytest.CaptureFixture[str]):
    called = call(capsys, "check", LORA, "runtime.device=cpu", "--json")
    told = json.loads(called.out)
    assert (called.code, told["plan"]) == (2, None)
    assert "give it with --parameters, for instance --parameters 8e9" in told["problem"]
    shown = call(capsys, "check", LORA, "runtime.device=cpu", "--parameters", "8e9", "prompts.limit=null")
    assert shown.code == 2
    assert "no plan: how many prompts there are is not known" in shown.out


def test_a_file_of_hardware_and_one_of_prices_are_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    hardware, prices = tmp_path / "hardware.yaml", tmp_path / "prices.yaml"
    hardware.write_text("hardware:\n  ours: {like: h100-80gb, hour_price: 2.0}\n", encoding="utf-8")
    prices.write_text(
        "as_of: '2031-05'\ncurrency: EUR\nmodels:\n  mine: {prompt: 7, completion: 0}\n", encoding="utf-8"
    )
    arguments = ("--hardware", "ours", "--hardware-file", hardware, "--prices", prices, "--parameters", "8e9")
    judge = "evaluate.judge={base_url: 'http://localhost:1/v1', model: mine}"
    called = call(capsys, "check", LORA, "runtime.device=cpu", judge, "evaluate.baseline=reference", *arguments)
    assert "EUR (list prices of 2031-05, which age)" in called.out
    assert "machine: " in called.out
    assert "hours of devices" in called.out


MISTAKES = [
    (("--hardware", "h100"), "unknown hardware 'h100': did you mean 'h100-80gb'?"),
    (("--hardware-file", "none.yaml"), "hardware file none.yaml does not exist"),
    (("--prices", "none.yaml"), "price file none.yaml does not exist"),
    (("--probe-input", "none.json"), "probe file none.json does not exist"),
    (("--probe", "--probe-input", "none.json"), "give one of them"),
    (("--probe-output", "kept.json"), "give --probe too"),
    (("--parameters", "inf"), "--parameters must be a number from 1 to 1e+15, got inf"),
    (
        ("--parameters", "8e9", "--languages-count", "1" + "0" * 400),
        "--languages-count must be a number from 1 to 1e+15",
    ),
    (("--probe", "--parameters", "8e9"), "--probe measures the recipe's own model: leave --parameters out"),
]


@pytest.mark.parametrize(
    ("arguments", "sentence"), MISTAKES, ids=[" ".join(arguments)[:60] for arguments, _ in MISTAKES]
)
def test_a_mistake_on_the_command_line_is_one_sentence(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], sentence: str
):
    called = call(capsys, "check", LORA, "runtime.device=cpu", *arguments)
    assert called.code == 2
    assert sentence in called.sentence
    assert called.err.count("\n") == 1


def test_a_probe_is_kept_and_used_again(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch):
    from crossward.pipeline import probe

    monkeypatch.setattr(probe, "SHORT_S", 0.0)
    recipe = write_recipe(tmp_path, make_recipe(tmp_path))
    overrides, kept = ("sample.max_new_tokens=24",), tmp_path / "probe.json"
    called = call(capsys, "check", recipe, *overrides, "--probe", "--probe-output", kept)
    assert called.code == 0, called.err
    assert "measured: sampling: " in called.out
    assert "this machine (" in called.out
    again = call(capsys, "check", recipe, *overrides, "--probe-input", kept, "--json")
    told, machine = json.loads(again.out), json.loads(kept.read_text(encoding="utf-8"))
    assert told["plan"]["hardware"][0]["facts"] == machine["hardware"]
    assert told["plan"]["inputs"]["response_tokens"] == machine["response_tokens"]

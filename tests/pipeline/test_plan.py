"""A recipe as a plan: what is read of it, what is assumed and said, and the plan beside what was measured."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.recipes import PROMPTS, config_of, make_recipe

from crossward.config import Config, load
from crossward.core.hardware import Hardware
from crossward.core.plan_models import scoring
from crossward.core.planning import StageCost
from crossward.core.workload import ModelShape
from crossward.pipeline.assemble import Engines
from crossward.pipeline.plan import judge_cost, on_hardware, workload_of
from crossward.pipeline.plan_inputs import NOTHING_GIVEN, Given, Inputs, inputs_of
from crossward.pipeline.prompts import evaluation_prompts, training_prompts
from crossward.plan_tables import hardware_table, price_table

TABLE = hardware_table()
ROOT = Path(__file__).parent.parent.parent
SMOLLM2 = ModelShape(
    parameters=134_515_008,
    layers=30,
    hidden=576,
    intermediate=1536,
    attention_width=576,
    kv_width=192,
    vocabulary=49_152,
    tied=True,
    adapter_width=305_280,
)
# benchmarks/random_model.py, LLAMA_1B with 128,256 words
LLAMA_1B = ModelShape(
    parameters=1_235_814_400,
    layers=16,
    hidden=2048,
    intermediate=8192,
    attention_width=2048,
    kv_width=512,
    vocabulary=128_256,
    tied=True,
    adapter_width=0,
)


def found(recipe: dict[str, Any], given: Given = NOTHING_GIVEN) -> tuple[Config, Inputs]:
    config = config_of(recipe)
    return config, inputs_of(config, training_prompts(config), evaluation_prompts(config), Engines(config), given)


def stages(config: Config, inputs: Inputs, hardware: Hardware) -> dict[str, StageCost]:
    return {stage.name: stage for stage in on_hardware(config, inputs, hardware).plan.stages}


def test_what_is_there_is_counted_and_what_is_not_is_said(tmp_path: Path):
    config, inputs = found(make_recipe(tmp_path))
    tokens = Engines(config).tokens(Engines(config).policy())
    lengths = [len(tokens.prompt_ids(text)) for texts in PROMPTS.values() for text in texts]
    assert (inputs.prompts, inputs.languages, inputs.answers) == (12, 2, 4)
    assert inputs.prompt_tokens == pytest.approx(sum(lengths) / len(lengths))
    assert inputs.judged_tokens > inputs.prompt_tokens, "the steering line"
    assert inputs.foreign_share == 0.5
    assert inputs.response_tokens == 64.0
    assert [line for line in inputs.assumptions if "64 tokens a response of sample are assumed, two thirds" in line]
    told = found(make_recipe(tmp_path), Given(response_tokens=500.0, prompt_tokens=30.0))[1]
    assert (told.response_tokens, told.prompt_tokens) == (96.0, 30.0), "no longer than max_new_tokens"
    assert not told.assumptions


def test_the_size_is_that_of_the_weights(tmp_path: Path):
    from safetensors import safe_open

    recipe = make_recipe(tmp_path)
    with safe_open(str(Path(recipe["models"]["policy"]) / "model.safetensors"), "pt") as file:
        stored = sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118 (not a dictionary)
    assert found(recipe)[1].shape.parameters == stored


def test_a_model_that_is_not_here_needs_its_size(tmp_path: Path):
    recipe = make_recipe(tmp_path)
    recipe["models"] |= {"policy": "someone/a-model-that-nobody-downloaded"}
    with pytest.raises(ValueError, match="is not known, as it is not on this disk: give it with --parameters"):
        found(recipe)
    inputs = found(recipe, Given(parameters=8e9))[1]
    assert inputs.shape.parameters == 8_000_000_000
    assert [line for line in inputs.assumptions if "a typical decoder of 8 billion" in line]
    assert [line for line in inputs.assumptions if "250 tokens a prompt are assumed" in line]


def test_prompts_that_are_not_there_need_their_number(tmp_path: Path):
    config = config_of(make_recipe(tmp_path))
    with pytest.raises(ValueError, match="give --prompts-per-language, for instance"):
        inputs_of(config, {}, {}, Engines(config), NOTHING_GIVEN)
    limited = config.model_copy(update={"prompts": config.prompts.model_copy(update={"limit": 7})})
    assert inputs_of(limited, {}, {}, Engines(limited), NOTHING_GIVEN).prompts == 14


def test_a_hundred_languages_of_a_million_prompts_are_planned_at_once():
    config = load(ROOT / "recipes" / "one-gpu-lora.yaml")
    given = Given(prompts_per_language=1_000_000, languages=100, parameters=8e9)
    started = time.process_time()
    inputs = inputs_of(config, {}, {}, Engines(config), given)
    plans = {name: on_hardware(config, inputs, row) for name, row in TABLE.items()}
    assert time.process_time() - started < 2.0, "nothing is done prompt by prompt"
    assert (inputs.prompts, inputs.answers) == (100_000_000, 20_000)
    sample = plans["h100-80gb"].plan.stages[0]
    assert sample.generated_tokens == 100_000_000 * 10 * 400
    assert (
        plans["cluster-64xh100"].plan.wall_hours < plans["8xh100"].plan.wall_hours < plans["h100-80gb"].plan.wall_hours
    )
    assert not any("drives the run" in remark for remark in plans["laptop"].remarks)
    assert any("1,041,700 shards a stage" in remark for remark in plans["8xh100"].remarks)
    whole = inputs_of(config, {}, {}, Engines(config), replace(given, prompts_per_language=100_000_000, languages=1))
    remarks = on_hardware(config, whole, TABLE["laptop"]).remarks
    assert any(remark.startswith("the process that drives the run needs about 64") for remark in remarks)
    assert any("does not fit" in remark for remark in plans["rtx-4090"].remarks)


def test_auto_is_vllm_on_a_gpu_and_what_is_installed_on_a_cpu(tmp_path: Path):
    recipe = make_recipe(tmp_path)
    recipe["sample"] |= {"engine": "auto"}
    config, inputs = found(recipe)
    assert workload_of(config, inputs, "gpu").engine == "vllm"
    assert workload_of(config, inputs, "cpu").engine == inputs.local_engine


def test_training_all_weights_of_8b_does_not_fit_one_card_and_an_adapter_does():
    full = load(ROOT / "recipes" / "paper" / "table-2-dpo.yaml")
    lora = load(ROOT / "recipes" / "paper" / "table-2-dpo.yaml", ["train.lora={rank: 64}"])
    given = Given(parameters=8.03e9)
    remarks = [
        on_hardware(config, inputs_of(config, {}, {}, Engines(config), given), TABLE["h100-80gb"]).remarks
        for config in (full, lora)
    ]
    assert any("train does not fit: about 13" in line and "train an adapter" in line for line in remarks[0])
    assert not any("does not fit" in line for line in remarks[1])


def judged(prompt_price: float, model: str, **changes: Any) -> Config:
    return load(
        ROOT / "recipes" / "paper" / "table-2-dpo.yaml",
        [
            f"evaluate.judge.prompt_price={prompt_price}",
            "evaluate.judge.completion_price=0",
            "evaluate.judge.max_cost=null",
        ]
        + [f"evaluate.judge.model={model}"]
        + [f"{key}={value}" for key, value in changes.items()],
    )


def test_the_judges_money_is_the_recipes_then_the_tables_then_unknown():
    inputs = inputs_of(judged(1, "gpt-4o"), {}, {}, Engines(judged(1, "gpt-4o")), Given(parameters=8e9))
    costs = {}
    for price, model in ((1, "gpt-4o"), (0, "gpt-4o"), (0, "nobody-knows")):
        config = judged(price, model)
        costs[price, model] = judge_cost(config, workload_of(config, inputs, "gpu"), price_table())
    own, listed, unknown = costs.values()
    assert own is not None
    assert listed is not None
    assert unknown is not None
    assert own.questions == 4 * 805 * 5
    assert own.prompt_tokens == own.questions * (inputs.template_tokens + 250 + 2 * 400)
    assert own.cost == pytest.approx(own.prompt_tokens / 1e6)
    assert (own.origin, listed.origin[:18]) == ("the recipe's prices", "list prices of 202")
    assert listed.cost == pytest.approx(own.prompt_tokens * 2.5e-6 + own.questions * 10e-6)
    assert (unknown.cost, unknown.origin) == (None, "no price of 'nobody-knows' is known")


def smollm2() -> tuple[Config, Inputs]:
    """The recorded run of docs/results.md: 12 prompts in four languages, 160 tokens at most."""
    config = load(ROOT / "recipes" / "smollm2.yaml")
    inputs = Inputs(
        shape=SMOLLM2,
        prompts=48,
        languages=4,
        foreign_share=0.75,
        prompt_tokens=61.0,
        judged_tokens=65.0,
        response_tokens=2 / 3 * 160,
        answers=24,
        answer_languages=4,
        answer_prompt_tokens=61.0,
        answer_tokens=2 / 3 * 160,
    )
    return config, inputs


def test_the_plan_of_smollm2_is_within_half_again_of_what_was_measured():
    """docs/results.md: 288 + 298 s of sampling, 86 + 77 s of training, 26 min 23 s in all; scoring is quicker now."""
    config, inputs = smollm2()
    plan = on_hardware(config, inputs, TABLE["laptop"]).plan
    costs = {stage.name: stage.wall_seconds for stage in plan.stages}
    assert 1 / 1.5 < plan.wall_hours * 3600 / 1583 < 1.5
    assert 1 / 1.5 < costs["sample"] / 293 < 1.5
    assert plan.memory_bytes / 4.5e9 == pytest.approx(1.0, rel=0.5), "peak memory 4.5 GB"


def test_scoring_on_two_cores_is_within_half_again_of_the_benchmark():
    """Row (d) of docs/results.md: 12 groups of 10, 48,322 unique tokens in 79.6 s (float32) and 50.7 s (bfloat16)."""
    config, inputs = smollm2()
    work = workload_of(config, replace(inputs, judged_tokens=362.0, response_tokens=366.5), "cpu")
    for value_bytes, seconds in ((4, 79.6), (2, 50.7)):
        tokens, _, estimated = scoring(replace(work, value_bytes=value_bytes), TABLE["laptop"], 12.0, 10.0)
        assert tokens == pytest.approx(48_322, rel=0.01)
        assert 1 / 1.5 < estimated / seconds < 1.5


def test_scoring_on_an_h100_is_within_half_again_of_what_was_measured():
    """docs/results.md, "On a GPU": 512 groups of 10, 2.15 million unique tokens at 90,641 tokens/s, one model."""
    config, inputs = smollm2()
    config = config.model_copy(update={"models": config.models.model_copy(update={"dtype": "bfloat16"})})
    changed = replace(inputs, shape=LLAMA_1B, judged_tokens=362.0, response_tokens=383.0)
    work = workload_of(config, changed, "gpu")
    tokens, _, seconds = scoring(work, TABLE["h100-80gb"], 512.0, 10.0)
    assert tokens == pytest.approx(2.15e6, rel=0.01)
    assert 1 / 1.5 < tokens / seconds / 90_641 < 1.5


def test_files_too_large_to_be_read_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from crossward.pipeline.check import look
    from crossward.store import large_prompts

    monkeypatch.setattr(large_prompts, "LARGE_BYTES", 10)
    monkeypatch.setattr(large_prompts, "FIRST_ROWS", 2)
    config = config_of(make_recipe(tmp_path))
    looked = look(config)
    (prompts,) = (finding for finding in looked.findings if finding.subject == "prompts")
    assert prompts.text.startswith("en 6, es 6: 0.0 GB, counted and not read")
    assert [len(group) for group in looked.prompts.values()] == [2, 2]
    inputs = inputs_of(config, looked.prompts, looked.held_out, Engines(config), NOTHING_GIVEN, looked.counts)
    assert (inputs.prompts, inputs.foreign_share) == (12, 0.5)

"""The vLLM sampler, on a real vLLM: draws of their own, the right distribution, the right stops, no leaks."""

import json
import math
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from peft import LoraConfig, PeftModel
from tests.support.command import call
from tests.support.families import MAX_POSITIONS, make_family
from tests.support.planted import plant_pickle

from crossward.core.records import Prompt, SampledPrompt
from crossward.engines import vllm_engine
from crossward.engines.hf_sampler import HfSampler
from crossward.engines.models import load_model
from crossward.engines.protocols import ModelSpec, Sampling, VllmOptions
from crossward.engines.tokens import load_tokens
from crossward.engines.vllm_engine import vllm_problem
from crossward.engines.vllm_sampler import VllmSampler

SAMPLING = Sampling(n=3, temperature=0.9, top_p=1.0, max_new_tokens=12, seed=42)
GREEDY = replace(SAMPLING, n=1, temperature=0.0, max_new_tokens=16)
OPTIONS = VllmOptions(cpu_cache_gib=0.125)
# What a checkpoint may say of how to decode; none of it may come through.
LEAKS = {"do_sample": True, "temperature": 0.1, "top_k": 1, "top_p": 0.1, "repetition_penalty": 9.0, "min_p": 0.9}


def prompts_of(*instructions: str, language: str = "es") -> list[Prompt]:
    return [
        Prompt(id=f"p{index}", language=language, instruction=text, english_instruction="Say")
        for index, text in enumerate(instructions)
    ]


PROMPTS = prompts_of("Di Manzana.", "Hola " * 9, "the thing", "Di " * 20)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    """Two ends (<|eot_id|> of the template, <|end_of_text|> of the tokenizer), one BOS, and leaky settings."""
    folder = make_family("llama3", tmp_path_factory.mktemp("llama3"), head_size=32)
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **LEAKS}))
    for name in ("pytorch_model.bin", "consolidated.00.pth", "model.pt", "training_args.bin"):
        plant_pickle(folder / name, folder / "mark")
    return ModelSpec(path=str(folder), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def sampler(spec: ModelSpec) -> Iterator[VllmSampler]:
    sampler = VllmSampler(spec, load_tokens(spec), options=OPTIONS)
    yield sampler
    sampler.close()


def ids_of(sampled: list[SampledPrompt]) -> dict[str, list[tuple[int, ...] | None]]:
    return {group.prompt.id: [response.token_ids for response in group.responses] for group in sampled}


def test_draws_do_not_depend_on_neighbours_order_or_calls(sampler: VllmSampler):
    seen: list[int] = []
    whole = sampler.sample(PROMPTS, SAMPLING, advance=seen.append)
    assert sum(seen) == len(PROMPTS) * SAMPLING.n
    assert [group.prompt for group in whole] == PROMPTS
    for prompt in PROMPTS:
        assert ids_of(sampler.sample([prompt], SAMPLING)) == {prompt.id: ids_of(whole)[prompt.id]}
    assert ids_of(sampler.sample(PROMPTS[::-1], SAMPLING)) == ids_of(whole)
    # Fewer samples, or fewer new tokens, are a beginning of more.
    assert ids_of(sampler.sample(PROMPTS, replace(SAMPLING, n=1))) == {k: v[:1] for k, v in ids_of(whole).items()}
    shorter = ids_of(sampler.sample(PROMPTS, replace(SAMPLING, max_new_tokens=4)))
    assert shorter == {key: [(ids or ())[:4] for ids in value] for key, value in ids_of(whole).items()}


def test_pickles_beside_the_weights_were_not_touched(spec: ModelSpec, sampler: VllmSampler):
    assert sampler.sample(PROMPTS[:1], GREEDY)
    assert not (Path(spec.path) / "mark").exists()


def test_seed_language_id_and_index_each_change_the_draw(sampler: VllmSampler):
    (base,) = sampler.sample(PROMPTS[:1], SAMPLING)
    assert len(set(base.responses)) == SAMPLING.n
    for other in (
        sampler.sample(PROMPTS[:1], replace(SAMPLING, seed=43)),
        sampler.sample([replace(PROMPTS[0], language="de")], SAMPLING),
        sampler.sample([replace(PROMPTS[0], id="other")], SAMPLING),
    ):
        assert not set(other[0].responses) & set(base.responses)


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (2.0, 0.8)])
def test_first_token_frequencies_match_the_softmax(
    spec: ModelSpec, sampler: VllmSampler, temperature: float, top_p: float
):
    """Chi-square over 2,000 draws of one token, expectations from transformers' logits in float64."""
    draws = 2000
    sampling = Sampling(n=draws, temperature=temperature, top_p=top_p, max_new_tokens=1, seed=7)
    (group,) = sampler.sample(PROMPTS[:1], sampling)
    counts = Counter(token for response in group.responses for token in response.token_ids or ())
    ids = load_tokens(spec).prompt_ids(PROMPTS[0].instruction)
    logits = load_model(spec)(input_ids=torch.tensor([ids])).logits[0, -1]
    expected = (logits.double() / temperature).softmax(-1)
    if top_p < 1:
        ordered = expected.sort(descending=True)
        before = ordered.values.cumsum(-1) - ordered.values
        kept = ordered.indices[before < top_p]
        assert set(counts) <= set(kept.tolist())
        expected = torch.zeros_like(expected).scatter(0, kept, expected[kept] / expected[kept].sum())
    frequent = [token for token, p in enumerate(expected.tolist()) if p * draws >= 5]
    statistic = sum((counts[t] - draws * float(expected[t])) ** 2 / (draws * float(expected[t])) for t in frequent)
    assert len(frequent) > 5
    assert statistic < len(frequent) + 3.5 * math.sqrt(2 * len(frequent))


def test_greedy_is_that_of_transformers_whatever_the_checkpoint_says(spec: ModelSpec, sampler: VllmSampler):
    expected = HfSampler(spec, load_tokens(spec)).sample(PROMPTS, GREEDY)
    assert sampler.sample(PROMPTS, GREEDY) == expected


def test_a_repetition_penalty_is_that_of_transformers(spec: ModelSpec, sampler: VllmSampler):
    penalised = replace(GREEDY, repetition_penalty=1.5)
    expected = HfSampler(spec, load_tokens(spec)).sample(PROMPTS, penalised)
    assert expected != HfSampler(spec, load_tokens(spec)).sample(PROMPTS, GREEDY)
    assert sampler.sample(PROMPTS, penalised) == expected


def test_responses_end_with_their_end_of_turn_or_are_marked_as_cut(spec: ModelSpec, sampler: VllmSampler):
    tokens = load_tokens(spec)
    seen: Counter[Any] = Counter()
    sampling = Sampling(n=60, temperature=2.0, top_p=1.0, max_new_tokens=60, seed=1)
    for group in sampler.sample(PROMPTS, sampling):
        for response in group.responses:
            ids = list(response.token_ids or ())
            seen[response.finish_reason, ids[-1] if response.finish_reason == "stop" else None] += 1
            assert not tokens.stop_ids.intersection(ids[:-1])
            assert (ids[-1] in tokens.stop_ids) == (response.finish_reason == "stop")
            assert response.finish_reason == "stop" or len(ids) == 60
            assert response.text == tokens.decode(ids)
    assert set(seen) == {("length", None), *(("stop", token) for token in tokens.stop_ids)}


def test_too_long_names_the_prompt_and_the_numbers(spec: ModelSpec, sampler: VllmSampler):
    length = len(load_tokens(spec).prompt_ids(PROMPTS[0].instruction))
    sampling = replace(GREEDY, max_new_tokens=MAX_POSITIONS - length + 1)
    message = rf"prompt 'p0' \(es\).* {length} prompt \+ {sampling.max_new_tokens} new tokens.* {MAX_POSITIONS}"
    with pytest.raises(ValueError, match=message):
        sampler.sample(PROMPTS[:1], sampling)
    (group,) = sampler.sample(PROMPTS[:1], replace(sampling, max_new_tokens=MAX_POSITIONS - length))
    assert group.responses[0].token_ids


def test_an_adapter_samples_as_in_transformers_and_close_ends_every_process(spec: ModelSpec, tmp_path: Path):
    """The policy of an iteration before: base and LoRA, not merged; afterwards no process of it is left."""
    torch.manual_seed(3)
    config = LoraConfig(r=5, lora_alpha=20, target_modules="all-linear", init_lora_weights=False)
    config.base_model_name_or_path = spec.path
    PeftModel(load_model(spec), config).save_pretrained(str(tmp_path))
    adapter = replace(spec, path=str(tmp_path))
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    sampler = VllmSampler(adapter, load_tokens(adapter), options=OPTIONS)
    assert {process.pid for process in psutil.Process().children(recursive=True)} - before
    sampled = sampler.sample(PROMPTS, GREEDY)
    assert sampled == HfSampler(adapter, load_tokens(adapter)).sample(PROMPTS, GREEDY)
    assert sampled != HfSampler(spec, load_tokens(spec)).sample(PROMPTS, GREEDY)
    own = [process for process in psutil.Process().children(recursive=True) if process.pid not in before]
    sampler.close()
    sampler.close()
    _, alive = psutil.wait_procs(own, timeout=5)
    assert [" ".join(process.cmdline()) for process in alive if "tracker" not in " ".join(process.cmdline())] == []


@pytest.mark.parametrize(("key", "value"), [("use_dora", True), ("modules_to_save", ["lm_head"])])
def test_adapters_that_vllm_cannot_read_are_refused(spec: ModelSpec, tmp_path: Path, key: str, value: Any):
    config = LoraConfig(r=4, target_modules="all-linear", **{key: value})
    config.base_model_name_or_path = spec.path
    PeftModel(load_model(spec), config).save_pretrained(str(tmp_path))
    with pytest.raises(ValueError, match=f"sets {key}, which vLLM does not read: use the engine transformers"):
        VllmSampler(replace(spec, path=str(tmp_path)), load_tokens(spec))


def test_the_verb_takes_vllm_by_itself_and_a_new_engine_gives_the_same_text(
    spec: ModelSpec, sampler: VllmSampler, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    prompts, groups = tmp_path / "prompts.jsonl", tmp_path / "groups.jsonl"
    rows = [{"id": p.id, "instruction": p.instruction, "english_instruction": "Say"} for p in PROMPTS[::-1]]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    called = call(
        capsys, "sample", "--policy", spec.path, "--dtype", "float32", "--device", "cpu", "--language", "es",
        "--input", prompts, "--output", groups, "--n", 3, "--temperature", 0.9, "--max-new-tokens", 12, "--json",
    )  # fmt: skip
    assert called.code == 0, called.err
    assert "vllm" not in called.err.replace(str(tmp_path), "").lower()
    made = [json.loads(line) for line in groups.read_text(encoding="utf-8").splitlines()]
    expected = {g.prompt.id: [r.text for r in g.responses] for g in sampler.sample(PROMPTS, SAMPLING)}
    assert {row["id"]: row["responses"] for row in made} == expected


def test_without_vllm_one_line_says_how_to_install_it(spec: ModelSpec, monkeypatch: pytest.MonkeyPatch):
    assert vllm_problem("cpu") is None
    monkeypatch.setattr(vllm_engine.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"^vLLM is not installed: pip install 'crossward\[vllm\]'$"):
        VllmSampler(spec, load_tokens(spec))


def test_a_vllm_of_another_device_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(vllm_engine, "_is_cpu_build", lambda: False)
    assert "built for cuda, but the device is cpu" in str(vllm_problem("cpu"))


def test_what_vllm_wrote_is_searched_for_the_first_error(tmp_path: Path):
    said = (tmp_path / "said").open("w+b")
    said.write(
        b"INFO fine\n(Worker pid=7) ERROR x.py:1] ValueError: heads of 7\n(EngineCore) RuntimeError: see above\n"
    )
    with said:
        assert vllm_engine._cause(said) == "ValueError: heads of 7"


def test_vllms_processes_end_when_this_one_is_killed():
    """The guard's pipe closes with this process; here it is closed by hand, beside a process that stands for vLLM's."""
    victim = subprocess.Popen(["sleep", "60"])
    guard = vllm_engine._guard([str(victim.pid)])
    assert guard.stdin is not None
    assert victim.poll() is None
    guard.stdin.close()
    assert victim.wait(timeout=20) == -signal.SIGKILL
    assert guard.wait(timeout=20) == 0


def test_no_engine_imports_vllm_before_it_opens_one():
    for path in Path(vllm_engine.__file__).parent.glob("*.py"):
        assert "vllm" not in {
            line.split(".")[0] for line in re.findall(r"^(?:from|import) (\S+)", path.read_text(), re.M)
        }

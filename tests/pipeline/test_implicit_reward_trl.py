"""TRL's own trainers call ImplicitReward: what they hand over is scored as `crossward score` would, and they learn."""

import copy
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback
from trl import GRPOConfig, GRPOTrainer
from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

from crossward import ImplicitReward
from crossward.core.records import Prompt, Response, SampledPrompt
from crossward.pipeline.progress import Silent
from crossward.tinyworld.prepare import prepare
from crossward.tinyworld.world import MAX_NEW_TOKENS, prompts


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trl")
    prepare(folder, preset="fast", seed=3, progress=Silent())
    return folder


def questions() -> Dataset:
    return Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": prompt.instruction}],
                "language": prompt.language,
                "english_instruction": prompt.english_instruction,
            }
            for language in ("en", "es", "sw")
            for prompt in prompts("icr", language)
        ]
    ).shuffle(seed=0)


class Recorder:
    """Passes every call on to the reward and keeps it."""

    def __init__(self, reward: ImplicitReward) -> None:
        self._reward = reward
        self.__name__ = reward.__name__
        self.calls: list[tuple[dict[str, Any], list[float | None]]] = []

    def __call__(self, **given: Any) -> list[float | None]:
        found = self._reward(**given)
        self.calls.append((given, found))
        return found


def scored_again(reward: ImplicitReward, given: dict[str, Any], stops: set[int]) -> list[float | None]:
    """The same rewards, asked for one completion at a time as groups."""
    again = []
    rows = zip(*(given[name] for name in ("prompts", "completion_ids", "language", "english_instruction")), strict=True)
    for prompt, ids, language, twin in rows:
        end = next((i + 1 for i, token in enumerate(ids) if token in stops), None)
        group = SampledPrompt(
            prompt=Prompt(id="1", language=language, instruction=prompt[0]["content"], english_instruction=twin),
            responses=(Response(text="", token_ids=tuple(ids[:end]), finish_reason="stop" if end else "length"),),
        )
        again += reward.score([group])[0]
    return again


def common(folder: Path, steps: int) -> dict[str, Any]:
    return {
        "output_dir": str(folder / "out"),
        "max_steps": steps,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "seed": 0,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
    }


def test_grpo_hands_over_ids_and_columns_and_its_reward_rises(world: Path, tmp_path: Path):
    tokenizer = AutoTokenizer.from_pretrained(world / "policy")
    config = GRPOConfig(
        per_device_train_batch_size=96, num_generations=8, max_completion_length=MAX_NEW_TOKENS, beta=0.0,
        **common(tmp_path, steps=6),
    )  # fmt: skip
    with ImplicitReward(world / "policy", world / "reference", beta=1.0, dtype="float32", device="cpu") as reward:
        recorder = Recorder(reward)
        trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(world / "policy"),
            reward_funcs=recorder,
            args=config,
            train_dataset=questions(),
            processing_class=tokenizer,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        assert len(recorder.calls) == 6
        given, found = recorder.calls[0]
        assert len(found) == 96
        assert scored_again(reward, given, {tokenizer.eos_token_id}) == pytest.approx(found, abs=1e-4)
    rewards = [line["reward"] for line in trainer.state.log_history if "reward" in line]
    assert any("rewards/implicit_reward_crosslingual/mean" in line for line in trainer.state.log_history)
    assert sum(rewards[-2:]) / 2 > rewards[0] + 0.2, rewards


def test_online_dpo_pads_its_ids_and_the_padding_is_not_scored(world: Path, tmp_path: Path):
    tokenizer = AutoTokenizer.from_pretrained(world / "policy")
    model = AutoModelForCausalLM.from_pretrained(world / "policy")
    config = OnlineDPOConfig(
        per_device_train_batch_size=32, max_new_tokens=MAX_NEW_TOKENS, max_length=128, temperature=1.0,
        **common(tmp_path, steps=2),
    )  # fmt: skip
    with ImplicitReward(world / "policy", world / "reference", beta=1.0, dtype="float32", device="cpu") as reward:
        recorder = Recorder(reward)
        trainer = OnlineDPOTrainer(
            model=model,
            ref_model=copy.deepcopy(model),
            reward_funcs=recorder,
            args=config,
            train_dataset=questions(),
            processing_class=tokenizer,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        given, found = recorder.calls[0]
        assert any(ids[-1] == tokenizer.pad_token_id for ids in given["completion_ids"]), "nothing was padded"
        assert scored_again(reward, given, {tokenizer.eos_token_id}) == pytest.approx(found, abs=1e-4)
    assert len(recorder.calls) == 2

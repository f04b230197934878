"""What rivals need: a reward model that is one, and offline pairs that can be replayed."""

from pathlib import Path

import pytest

from crossward.engines.protocols import ModelSpec, ToRate
from crossward.engines.reward_model import RewardModelRater
from crossward.pipeline.progress import Silent
from crossward.store.preference_file import read_preferences
from crossward.tinyworld.prepare import prepare
from crossward.tinyworld.presets import PRESETS
from crossward.tinyworld.rivals import prepare_rivals
from crossward.tinyworld.world import prompts


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    prepare(folder, preset="fast", seed=5, progress=Silent())
    prepare_rivals(folder, preset="fast", seed=5, mode="plain", progress=Silent())
    return folder


def test_the_offline_pairs_are_read_and_are_english(world: Path):
    found = read_preferences(str(world / "preferences.jsonl"))
    amounts = PRESETS["fast"]
    made = amounts.template_pairs + amounts.corrupted_pairs
    n = len(found.pairs) + sum(found.left_out.values())
    assert made <= n <= made + amounts.on_policy_pairs
    asked = {prompt.instruction for prompt in prompts("english-preferences", "en")}
    assert {pair.instruction for pair in found.pairs} <= asked


def test_the_reward_model_rates_the_chosen_higher(world: Path):
    """Trained for two steps only: it need not be good, but better than a coin on what it was trained on."""
    rater = RewardModelRater(ModelSpec(path=str(world / "reward-model"), dtype="float32", device="cpu"))
    pairs = read_preferences(str(world / "preferences.jsonl")).pairs
    prompt = prompts("english-preferences", "en")[0]
    asked = [
        ToRate(prompt=prompt, instruction=pair.instruction, responses=(pair.chosen, pair.rejected)) for pair in pairs
    ]
    ratings = [rating for rating in rater.rate(asked) if None not in rating]
    right = sum(chosen > rejected for chosen, rejected in ratings)  # pyright: ignore[reportOperatorIssue]
    assert right > 0.5 * len(ratings)


def test_what_is_there_stays(world: Path):
    before = {path: path.stat().st_mtime_ns for path in world.rglob("*") if path.is_file()}
    prepare_rivals(world, preset="fast", seed=5, mode="plain", progress=Silent())
    assert {path: path.stat().st_mtime_ns for path in world.rglob("*") if path.is_file()} == before


def test_a_half_made_world_is_not_continued_as_another(tmp_path: Path):
    (tmp_path / "begun.json").write_text('{"format": 1, "preset": "fast", "seed": 1}\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"holds another tiny world .*seed.*1"):
        prepare(tmp_path, preset="fast", seed=2, progress=Silent())

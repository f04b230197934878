"""How much of the tiny world is trained before the method begins."""

from dataclasses import dataclass
from typing import Literal

PresetName = Literal["fast", "small", "demo"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """Steps of imitation, English preference pairs by kind, and how often each request of the method is asked."""

    sft_steps: int
    on_policy_pairs: int
    template_pairs: int
    corrupted_pairs: int
    repeats: int


PRESETS: dict[PresetName, Preset] = {
    # Seconds, for tests: the models are bad, every path is the same.
    "fast": Preset(sft_steps=30, on_policy_pairs=64, template_pairs=128, corrupted_pairs=64, repeats=1),
    # Under a minute on one core, for experiments: answers are whole lists, worse than the demo's.
    "small": Preset(sft_steps=450, on_policy_pairs=1000, template_pairs=4000, corrupted_pairs=1000, repeats=1),
    "demo": Preset(sft_steps=1300, on_policy_pairs=3000, template_pairs=12000, corrupted_pairs=3000, repeats=4),
}

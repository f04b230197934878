"""Offline preference pairs that a recipe mixes into training: read once, before anything runs."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from crossward.config import Config
from crossward.core.records import Prompt
from crossward.core.replay import drawn
from crossward.engines.models import base_spec, max_positions, read_config
from crossward.engines.protocols import Judged, ModelSpec
from crossward.engines.tokens import ChatTokens
from crossward.pipeline.align_rows import fitting, with_own_ids
from crossward.pipeline.progress import Progress
from crossward.store.pair_rows import PairRow
from crossward.store.preference_file import Preferences, read_preferences


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """A file's pairs, and which share of all pairs they are to be."""

    pairs: tuple[PairRow, ...]
    sha256: str
    share: float

    def draw(self, own: Iterable[Prompt], *, seed: int) -> list[Judged]:
        """The offline pairs that go with the method's own, as (chosen, rejected) to score under the reference."""
        offline = [(pair.instruction, pair) for pair in self.pairs]
        known = {pair.instruction for pair in self.pairs}
        taken, n_own = set[str](), 0
        for prompt in own:  # one at a time: there may be many more than offline pairs
            n_own += 1
            if prompt.instruction in known:
                taken.add(prompt.instruction)
        found = drawn(offline, n_own=n_own, share=self.share, taken=taken, seed=seed)
        return [
            Judged(
                instruction=pair.instruction, responses=(pair.chosen, pair.rejected), name=f"offline pair {pair.id!r}"
            )
            for pair in found
        ]


def read_pairs(path: str) -> Preferences:
    """The pairs of a file. Raises ValueError where it cannot be read or holds none."""
    found = read_preferences(path)
    if not found.pairs:
        raise ValueError(
            f"train.replay.path {path} holds single answers ({found.format}) and no pairs: DPO needs a chosen and a "
            "rejected answer to each prompt"
        )
    return found


def read_replay(config: Config, policy: ModelSpec, tokens: ChatTokens, progress: Progress) -> Replayed | None:
    """What a recipe replays; None where it replays nothing. What the policy cannot be trained on is left out and said.

    Raises ValueError where the file holds no pairs, or none that fits.
    """
    section = config.train.replay
    if section is None:
        return None
    found = read_pairs(section.path)
    positions = max_positions(read_config(base_spec(policy)))
    rows = with_own_ids(found.pairs, tokens, progress)
    fit, too_long = fitting(rows, tokens, max_length=config.train.max_length, positions=positions)
    left_out = Counter(found.left_out) + too_long
    told = ", ".join(f"{reason} {n}" for reason, n in left_out.most_common()) or "nothing"
    if not fit:
        raise ValueError(f"train.replay.path {section.path}: no pair is left to train on ({told}): look at the file")
    progress.say(f"{len(fit)} offline pairs to replay from {section.path}; left out: {told}")
    return Replayed(pairs=tuple(cast(list[PairRow], fit)), sha256=found.sha256, share=section.share)

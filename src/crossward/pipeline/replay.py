"""Offline preference pairs that a recipe mixes into training: read once, before anything runs."""

from collections.abc import Sequence
from dataclasses import dataclass

from crossward.config import Config
from crossward.core.records import Prompt
from crossward.core.replay import drawn
from crossward.engines.protocols import Judged
from crossward.store.pair_rows import PairRow
from crossward.store.preference_file import read_preferences


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """A file's pairs, and which share of all pairs they are to be."""

    pairs: tuple[PairRow, ...]
    sha256: str
    share: float

    def draw(self, own: Sequence[Prompt], *, seed: int) -> list[Judged]:
        """The offline pairs that go with the method's own, as (chosen, rejected) to score under the reference."""
        taken = {prompt.instruction for prompt in own}
        offline = [(pair.instruction, pair) for pair in self.pairs]
        found = drawn(offline, n_own=len(own), share=self.share, taken=taken, seed=seed)
        return [
            Judged(
                instruction=pair.instruction, responses=(pair.chosen, pair.rejected), name=f"offline pair {pair.id!r}"
            )
            for pair in found
        ]


def read_replay(config: Config) -> Replayed | None:
    """What a recipe replays; None where it replays nothing. Raises ValueError where the file holds no pairs."""
    section = config.train.replay
    if section is None:
        return None
    found = read_preferences(section.path)
    if not found.pairs:
        raise ValueError(
            f"train.replay.path {section.path} holds single answers ({found.format}) and no pairs: DPO needs a chosen "
            "and a rejected answer to each prompt"
        )
    return Replayed(pairs=found.pairs, sha256=found.sha256, share=section.share)

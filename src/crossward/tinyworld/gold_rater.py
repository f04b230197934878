"""Gold as a rater: the ceiling of the tiny world's tables, made with the truth that no real run has."""

from collections import Counter
from collections.abc import Sequence

from crossward.engines.protocols import Advance, ToRate, no_progress
from crossward.pipeline.given import Given
from crossward.tinyworld.identifier import VocabularyIdentifier
from crossward.tinyworld.vocabulary import LANGUAGES
from crossward.tinyworld.world import gold


class GoldRater:
    """protocols.Rater: the gold of every response, 0 to 1, by rule."""

    name = "gold"

    def __init__(self) -> None:
        self.failures: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()

    def rate(self, groups: Sequence[ToRate], *, advance: Advance = no_progress) -> list[tuple[float | None, ...]]:
        """Gold reads the prompt itself, whatever view the instruction is of."""
        found: list[tuple[float | None, ...]] = []
        for group in groups:
            found.append(tuple(gold(group.prompt, response.text) for response in group.responses))
            advance(len(group.responses))
        return found

    def close(self) -> None:
        """Nothing is held."""


GIVEN = Given(
    open_rater=GoldRater,
    rater_identity="gold of the tiny world",
    open_identifier=lambda: VocabularyIdentifier(LANGUAGES),
)

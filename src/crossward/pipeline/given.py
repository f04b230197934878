"""Engines that a program hands to a run, where a recipe cannot name them: a sampler, a rater, an identifier.

A recipe asks for them with `sample.engine: given`, `reward.kind: given` and `pair.language_filter: given`. This is how
a rival of one's own is run, and how the tiny world's gold, which is known by rule, makes the ceiling of its tables.
"""

from collections.abc import Callable
from dataclasses import dataclass

from crossward.engines.protocols import LanguageIdentifier, Rater, Sampler


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What was handed over; the identities go into the manifests, so that another sampler or rater is told apart."""

    open_sampler: Callable[[], Sampler] | None = None
    sampler_identity: str = ""
    open_rater: Callable[[], Rater] | None = None
    rater_identity: str = ""
    open_identifier: Callable[[], LanguageIdentifier] | None = None

    def require_sampler(self) -> Callable[[], Sampler]:
        """What opens the sampler. Raises ValueError where none was handed over."""
        if self.open_sampler is None:
            raise ValueError(
                "sample.engine is 'given', but nothing was given: call crossward.pipeline.iterate.run with given=Given("
                "open_sampler=...), or name another sample.engine"
            )
        return self.open_sampler

    def require_rater(self) -> Callable[[], Rater]:
        """What opens the rater. Raises ValueError where none was handed over."""
        if self.open_rater is None:
            raise ValueError(
                "reward.kind is 'given', but nothing was given: call crossward.pipeline.iterate.run with given=Given("
                "open_rater=...), or name another reward.kind"
            )
        return self.open_rater

    def require_identifier(self) -> Callable[[], LanguageIdentifier]:
        """What opens the language identifier. Raises ValueError where none was handed over."""
        if self.open_identifier is None:
            raise ValueError(
                "pair.language_filter is 'given', but nothing was given: call crossward.pipeline.iterate.run with "
                "given=Given(open_identifier=...), or set pair.language_filter to lingua or none"
            )
        return self.open_identifier


NOTHING_GIVEN = Given()

"""A preference pair as other tools take it: plain texts and numbers, from a run or from a file of pairs.

What is not known (a file of another tool has no scores) is None, or "" where it is a text. Knows no tool and no file.
"""

from dataclasses import dataclass

from crossward.core.records import FinishReason, PreferencePair, RatedResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedPair:
    """One pair. Scores are log-ratio − α·length in nats, or in a rater's own unit where `rated`."""

    id: str
    language: str
    instruction: str
    english_instruction: str
    chosen: str
    rejected: str
    iteration: int | None = None
    chosen_score: float | None = None
    rejected_score: float | None = None
    alpha: float | None = None
    rated: bool = False
    chosen_finish_reason: FinishReason = "stop"
    rejected_finish_reason: FinishReason = "stop"

    @property
    def score_margin(self) -> float | None:
        """chosen_score − rejected_score; None where a score is not known."""
        if self.chosen_score is None or self.rejected_score is None:
            return None
        return self.chosen_score - self.rejected_score

    @property
    def cut(self) -> bool:
        """Whether a response was cut at the length limit: other tools train it as if it had ended there."""
        return "length" in (self.chosen_finish_reason, self.rejected_finish_reason)


def exported_pair(pair: PreferencePair, iteration: int) -> ExportedPair:
    """A pair of a run."""
    return ExportedPair(
        id=pair.prompt.id,
        language=pair.prompt.language,
        instruction=pair.prompt.instruction,
        english_instruction=pair.prompt.english_instruction,
        chosen=pair.chosen.response.text,
        rejected=pair.rejected.response.text,
        iteration=iteration,
        chosen_score=pair.chosen_score,
        rejected_score=pair.rejected_score,
        alpha=pair.alpha,
        rated=isinstance(pair.chosen, RatedResponse),
        chosen_finish_reason=pair.chosen.response.finish_reason,
        rejected_finish_reason=pair.rejected.response.finish_reason,
    )

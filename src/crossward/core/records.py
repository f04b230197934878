"""The values that flow through the method; each stage wraps what the stage before made.

Prompt -> SampledPrompt -> ScoredPrompt -> PreferencePair or Skipped. The unit is the group: one prompt with its N
responses. Values know no files and no models; joins are by id, never by row number.
"""

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length"]
View = Literal["crosslingual", "multilingual", "translated"]
RatedBy = Literal["ensemble", "reward-model", "judge", "translation-likelihood", "given", "direction"]
SkipReason = Literal[
    "empty",
    "truncated",
    "duplicate",
    "too-short",
    "too-long",
    "wrong-language",
    "too-few-responses",
    "above-upper-bound",
    "tie",
    "below-margin",
    "views-disagree",
    "untranslated",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One instruction in one language, with its English twin (the same id; for English, the same text)."""

    id: str
    language: str
    instruction: str
    english_instruction: str

    @property
    def conversation(self) -> tuple[str, ...]:
        """All that is said before the model answers, user and assistant in turn; the instruction is the last."""
        return (self.instruction,)


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUp(Prompt):
    """An instruction within a conversation: `earlier` is what was said before, user and assistant in turn.

    Sampled as any prompt is; the method itself has none, and no file of prompts or groups keeps `earlier`.
    """

    earlier: tuple[str, ...]

    @property
    def conversation(self) -> tuple[str, ...]:
        """What was said before, and the instruction."""
        return (*self.earlier, self.instruction)


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What a model answered.

    `token_ids` are the sampler's own ids, the end-of-turn token included when (and only when) the response ended by
    itself; None for text that came from elsewhere. `finish_reason` is "stop" when it ended by itself, "length" when it
    was cut.
    """

    text: str
    token_ids: tuple[int, ...] | None = None
    finish_reason: FinishReason = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledPrompt:
    """A group: one prompt and its N responses."""

    prompt: Prompt
    responses: tuple[Response, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseLogprob:
    """log π(y|x) in nats, summed over the response's own tokens, and how many tokens were summed.

    `token_logprobs` are the terms of the sum, where they were asked for.
    """

    logprob: float
    n_tokens: int
    token_logprobs: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredResponse:
    """A response with log π(y|x) under the policy and under the reference (nats, summed over `n_tokens` tokens).

    `judged` is the text that was scored in the response's place: its English translation in the translated view.
    `penalty` (nats, 0 or more) is taken off the log-ratio for tokens that the reference finds implausible.
    """

    response: Response
    policy_logprob: float
    reference_logprob: float
    n_tokens: int
    judged: Response | None = None
    penalty: float = 0.0

    @property
    def log_ratio(self) -> float:
        """log π(y|x) − log π_ref(y|x): the implicit reward at β = 1 (nats)."""
        return self.policy_logprob - self.reference_logprob

    @property
    def score(self) -> float:
        """What responses of a group are ranked by: the log-ratio, less the penalty where there is one (nats)."""
        return self.log_ratio - self.penalty

    @property
    def n_chars(self) -> int:
        """Length of the text in characters (Unicode code points)."""
        return len(self.response.text)

    @property
    def n_response_tokens(self) -> int:
        """Length of the response itself in tokens, whatever was judged in its place; 0 where it is not known."""
        return self.n_tokens if self.judged is None else len(self.response.token_ids or ())


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredPrompt:
    """A group whose responses were all scored under one instruction, `judged_under`, chosen by `view`."""

    prompt: Prompt
    view: View
    judged_under: str
    responses: tuple[ScoredResponse, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedResponse:
    """A response with a rating that is not one log-ratio: another model's, a judge's, or several views' together.

    Higher is better; the unit is the rater's own. `parts` are the numbers that a rating was made of, one a view, and
    `n_tokens` is the length of the response (0 where it is not known).
    """

    response: Response
    rating: float
    n_tokens: int
    parts: tuple[float, ...] = ()

    @property
    def score(self) -> float:
        """What responses of a group are ranked by: the rating."""
        return self.rating

    @property
    def n_chars(self) -> int:
        """Length of the text in characters (Unicode code points)."""
        return len(self.response.text)

    @property
    def n_response_tokens(self) -> int:
        """Length of the response in tokens; 0 where it is not known."""
        return self.n_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedPrompt:
    """A group whose responses were all rated by one source, under `judged_under` where the source reads it."""

    prompt: Prompt
    rated_by: RatedBy
    judged_under: str
    responses: tuple[RatedResponse, ...]


Ranked = ScoredPrompt | RatedPrompt  # what pairs are made from
RankedResponse = ScoredResponse | RatedResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferencePair:
    """Chosen and rejected response of one prompt. A score is log-ratio (or rating) − α·length; the margin is their
    difference.
    """

    prompt: Prompt
    chosen: RankedResponse
    rejected: RankedResponse
    alpha: float
    chosen_score: float
    rejected_score: float

    @property
    def margin(self) -> float:
        """chosen_score − rejected_score (nats, or the rater's unit); negative only where it was drawn at random."""
        return self.chosen_score - self.rejected_score


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A prompt that gave no pair, and why."""

    prompt: Prompt
    reason: SkipReason

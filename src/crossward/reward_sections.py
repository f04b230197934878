"""The sections of a recipe that say who judges responses, under which instruction, and who translates.

As in sections.py: frozen, unknown keys refused, and recipes/every-key.yaml says what each key is for.
"""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from crossward.core.instructions import STEERING_LINE
from crossward.core.records import View
from crossward.sections import Address, Positive, Reference, Section, Variable


class SteeringSection(Section):
    """The line of the crosslingual view: in which language it speaks, where it stands, and its words.

    `line` is a template with {language}; `lines` are whole lines by language code, which go before it.
    """

    place: Literal["before", "after", "none"] = "before"
    language: Literal["english", "target"] = "english"
    line: str = STEERING_LINE
    lines: dict[str, str] = Field(default_factory=dict)

    @field_validator("line")
    @classmethod
    def _names_the_language(cls, line: str) -> str:
        if "{language}" not in line:
            raise ValueError(f"the line must say which language it asks for, as {{language}}, got {line!r}")
        return line

    @model_validator(mode="after")
    def _line_is_used(self) -> "SteeringSection":
        if self.language == "target" and self.line != STEERING_LINE:
            raise ValueError("language 'target' has lines of its own: give yours by language code under lines")
        return self


class Surprisal(Section):
    """What is done about tokens that π_ref finds implausible: excess = Σ max(0, −log π_ref(y_t) − threshold), in nats.

    `use` penalty: weight·excess is taken off the log-ratio. gate: responses with more excess a token than the group's
    median may not be chosen.
    """

    use: Literal["penalty", "gate"] = "penalty"
    weight: Annotated[float, Field(gt=0)] = 1.0
    threshold: Annotated[float, Field(ge=0)] = 4.0


class RewardModel(Section):
    """A sequence classifier with one output: a folder or a hub name."""

    path: str
    revision: str | None = None


class RatingJudge(Section):
    """Who rates answers from 0 to 5: the policy itself where no server and no checkpoint is named (self-rewarding)."""

    base_url: Address | None = None
    model: str | None = None
    api_key_env: Variable | None = None
    checkpoint: str | None = None
    concurrency: Positive = 32
    timeout_s: Annotated[float, Field(gt=0)] = 600.0
    attempts: Positive = 6
    template: str | None = None
    draws: Positive = 1
    temperature: Annotated[float, Field(ge=0)] = 0.0
    max_new_tokens: Positive = 512

    @model_validator(mode="after")
    def _at_most_one(self) -> "RatingJudge":
        server = (self.base_url is not None, self.model is not None)
        if server not in ((True, True), (False, False)) or (server[0] and self.checkpoint is not None):
            raise ValueError("name one judge: base_url and model of a server, or a checkpoint, or none (the policy)")
        if self.draws > 1 and self.temperature == 0:
            raise ValueError(f"{self.draws} draws at temperature 0 are all the same: take one draw, or a temperature")
        return self


class Reward(Section):
    """Who judges the responses, under which instruction, and over which reference.

    `kind` implicit: log π/π_ref, the method. The others are rivals: a reward model, a judge that rates from 0 to 5,
    the likelihood of the English answers as translations (MAPO), or a rater that a program hands to `run` (given).
    `view` ensemble: the mean of the `views`' log-ratios, each standardised within its group; with `agreement` a pair
    must be ordered so in every view.
    """

    kind: Literal["implicit", "reward-model", "judge", "translation-likelihood", "given"] = "implicit"
    view: Literal["crosslingual", "multilingual", "translated", "ensemble"] = "crosslingual"
    views: tuple[View, ...] = ("crosslingual", "translated")
    agreement: bool = False
    reference: Reference = "initial"
    policy: Literal["current", "initial"] = "current"
    steering: SteeringSection = SteeringSection()
    surprisal: Surprisal | None = None
    reward_model: RewardModel | None = None
    judge: RatingJudge = RatingJudge()

    @field_validator("views")
    @classmethod
    def _two_or_more(cls, views: tuple[View, ...]) -> tuple[View, ...]:
        if len(set(views)) < 2 or len(set(views)) < len(views):
            raise ValueError(f"an ensemble needs two or more different views, got {', '.join(views) or 'none'}")
        return views

    @model_validator(mode="after")
    def _fits(self) -> "Reward":
        if (self.kind == "reward-model") != (self.reward_model is not None):
            raise ValueError("reward.kind 'reward-model' and reward.reward_model (a path) go together: got one of them")
        if self.kind != "implicit" and self.view == "ensemble":
            raise ValueError(f"an ensemble is of log-ratios: reward.kind {self.kind!r} takes one view")
        if self.surprisal is not None and self.kind != "implicit":
            raise ValueError(f"surprisal is taken off log-ratios, which reward.kind {self.kind!r} has none of")
        if self.surprisal is not None and self.surprisal.use == "gate" and self.view == "ensemble":
            raise ValueError("surprisal's gate is of one view: with an ensemble take its penalty")
        if self.policy == "initial" and self.reference == "previous":
            raise ValueError(
                "reward.policy 'initial' over reward.reference 'previous' is π_0 over π_0 in iteration 2, a reward of "
                "0: take the reference 'initial'"
            )
        if self.agreement and self.view != "ensemble":
            raise ValueError(f"agreement is between the views of an ensemble: reward.view is {self.view!r}")
        return self

    @property
    def scored_views(self) -> tuple[View, ...]:
        """The views that are needed, one or more."""
        return self.views if self.view == "ensemble" else (self.view,)


class TranslatorSection(Section):
    """Who translates: responses into English for the translated view, answers for the method lidr.

    `engine` policy: the policy of the iteration itself, as published. `parse` tags: the translation stands between
    <translated> and </translated>; plain: the whole answer is the translation; auto: as the template asks.
    """

    engine: Literal["policy", "transformers", "vllm", "openai", "seq2seq"] = "policy"
    model: str | None = None
    base_url: Address | None = None
    api_key_env: Variable | None = None
    concurrency: Positive = 32
    timeout_s: Annotated[float, Field(gt=0)] = 600.0
    request_attempts: Positive = 6
    template: str | None = None
    parse: Literal["auto", "tags", "plain"] = "auto"
    max_new_tokens: Positive = 8192
    attempts: Positive = 1
    checks: bool = False

    @model_validator(mode="after")
    def _named(self) -> "TranslatorSection":
        if (self.engine == "policy") != (self.model is None):
            raise ValueError(f"translator.engine {self.engine!r} and translator.model do not go together")
        if (self.engine == "openai") != (self.base_url is not None):
            raise ValueError("translator.engine 'openai' and translator.base_url go together: got one of them")
        return self

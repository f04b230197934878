"""The recipe: one YAML file, a section a stage, checked as a whole before anything runs.

An unknown key is refused, and the nearest known one named. The sections are in sections.py. The pipeline unpacks all
into plain arguments; core and engines never see them.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from crossward.core.language import language_name
from crossward.core.plain_text import shown
from crossward.reward_sections import Reward, TranslatorSection
from crossward.sections import (
    Cluster,
    Evaluate,
    Models,
    Pair,
    Positive,
    Prompts,
    Runtime,
    Sample,
    Score,
    Section,
    Tracking,
    Train,
)
from crossward.yaml_keys import load_yaml, put, read_yaml, sentences

MOST_ITERATIONS = 1000  # every verb over a run looks for the stages of each


class Config(Section):
    """A whole recipe.

    `method` reward: best against worst of N by a reward. lidr: Language Imbalance Driven Rewarding (arXiv 2410.08964),
    a rival: greedy answers against their translations, with no reward at all.
    `compatibility: published` switches on the quirks of the published code: in scoring the shifted mask, a forced end
    of turn and 4 decimals, in pairing characters, grid α and no filter (docs/paper-differences.md).
    """

    run: str
    languages: Annotated[tuple[str, ...], Field(min_length=1)]
    iterations: Annotated[int, Field(ge=1, le=MOST_ITERATIONS)] = 2
    seed: int = 42
    shard_size: Positive = 96
    method: Literal["reward", "lidr"] = "reward"
    compatibility: Literal["none", "published"] = "none"
    models: Models
    prompts: Prompts
    sample: Sample = Sample()
    reward: Reward = Reward()
    translator: TranslatorSection = TranslatorSection()
    score: Score = Score()
    pair: Pair = Pair()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    runtime: Runtime = Runtime()
    cluster: Cluster | None = None
    tracking: Tracking = Tracking()

    @field_validator("languages")
    @classmethod
    def _known_and_once(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        for language in languages:
            language_name(language)
        if twice := {language for language in languages if languages.count(language) > 1}:
            raise ValueError(f"each language may be named once, got {', '.join(sorted(twice))} twice")
        return languages

    @model_validator(mode="after")
    def _rivals_have_what_they_need(self) -> "Config":
        for name in (self.method, self.reward.kind):
            if name in ("lidr", "translation-likelihood") and "en" not in self.languages:
                raise ValueError(f"{name} compares with English answers: add en to languages")
        greedy = self.sample.n == 1 and self.sample.temperature == 0
        if self.method == "lidr" and not greedy:
            raise ValueError(
                "method lidr compares greedy answers: set sample.n to 1 and sample.temperature to 0, got "
                f"{self.sample.n} and {self.sample.temperature}"
            )
        if self.method == "reward" and self.sample.n < 2:
            raise ValueError(
                f"sample.n: a pair needs at least two responses to choose from, got n = {self.sample.n}; the paper "
                "uses 10"
            )
        for name in (self.method, self.reward.kind):
            if name in ("lidr", "translation-likelihood") and self.languages == ("en",):
                raise ValueError(f"{name} compares other languages with English: name one beside en")
        if self.reward.kind == "translation-likelihood" and self.reward.view == "translated":
            raise ValueError("translation-likelihood rates responses as they are, not their translations: another view")
        return self

    @model_validator(mode="after")
    def _published_code_has_it(self) -> "Config":
        if self.compatibility == "published":
            unknown = {
                f"reward.kind {self.reward.kind!r}": self.reward.kind != "implicit",
                "reward.surprisal": self.reward.surprisal is not None,
                "reward.agreement": self.reward.agreement,
                f"pair.choice {self.pair.choice!r}": self.pair.choice == "mean-2sd",
                f"pair.min_margin {self.pair.min_margin}": self.pair.min_margin != 0.0,
                "pair.min_characters or max_characters": (self.pair.min_characters, self.pair.max_characters)
                != (1, None),
            }
            if named := [name for name, is_set in unknown.items() if is_set]:
                raise ValueError(f"compatibility 'published' does as the published code, which has no {named[0]}")
        return self

    @model_validator(mode="after")
    def _pairs_are_possible(self) -> "Config":
        if self.method == "reward" and self.sample.temperature == 0:
            raise ValueError(
                f"sample.temperature 0 gives the same response {self.sample.n} times, of which no pair can be made: "
                "set it above 0"
            )
        if self.method == "reward" and self.pair.min_responses > self.sample.n:
            raise ValueError(
                f"pair.min_responses {self.pair.min_responses} is more than the {self.sample.n} responses of sample.n: "
                "no prompt could give a pair"
            )
        return self

    @model_validator(mode="after")
    def _auto_margin_is_measured(self) -> "Config":
        rated = self.reward.kind if self.reward.kind != "implicit" else self.reward.view
        if self.pair.min_margin == "auto" and rated not in ("crosslingual", "multilingual", "translated"):
            raise ValueError(
                f"pair.min_margin 'auto' is the noise floor of log-ratios in nats, which the ratings of {rated!r} are "
                "not: give a number in their unit"
            )
        surprisal = self.reward.surprisal
        if self.pair.min_margin == "auto" and surprisal is not None and surprisal.use == "penalty":
            raise ValueError(
                "pair.min_margin 'auto' is the noise floor of bare log-ratios, and reward.surprisal takes a penalty "
                "off them: give a number of nats, or use: gate"
            )
        if self.pair.min_margin == "auto" and self.score.noise_sample == 0:
            raise ValueError(
                "pair.min_margin is 'auto' but score.noise_sample is 0, so there is no noise floor to take: set "
                "score.noise_sample to 1 or more, or pair.min_margin to a number of nats"
            )
        return self

    @model_validator(mode="after")
    def _engines_fit(self) -> "Config":
        if (self.sample.engine == "openai") != (self.sample.openai is not None):
            raise ValueError(
                "sample.engine 'openai' and the section sample.openai (base_url, model) go together: got one of them"
            )
        if self.sample.engine == "openai" and self.sample.repetition_penalty != 1.0:
            raise ValueError(
                "sample.repetition_penalty is not in OpenAI's protocol: leave it out or use transformers or vllm"
            )
        if self.sample.engine in ("openai", "given") and self.iterations > 1:
            raise ValueError(
                f"sample.engine {self.sample.engine!r} serves one policy, but each iteration samples from another: set "
                "iterations to 1"
            )
        if self.score.engine == "vllm" and self.compatibility == "published":
            raise ValueError("compatibility 'published' scores with transformers: leave score.engine at transformers")
        return self

    @model_validator(mode="after")
    def _trusted_are_named(self) -> "Config":
        trusted = self.models.trust_remote_code
        for path in () if isinstance(trusted, bool) else trusted:
            if path not in self._checkpoints:
                raise ValueError(
                    f"models.trust_remote_code names {path!r}, which no other key does: write a model as "
                    "models.policy, models.reference, reward.reward_model.path, reward.judge.checkpoint, "
                    "translator.model or evaluate.judge.checkpoint has it"
                )
        return self

    @property
    def _checkpoints(self) -> set[str]:
        """Every model that the recipe loads itself."""
        reward, judge, translator = self.reward, self.evaluate.judge, self.translator
        own = (
            self.models.policy,
            self.models.reference,
            None if reward.reward_model is None else reward.reward_model.path,
            reward.judge.checkpoint,
            None if translator.engine == "openai" else translator.model,
            None if judge is None else judge.checkpoint,
        )
        return {path for path in own if path is not None}

    @property
    def trusted(self) -> list[str]:
        """The models whose own code may run, in order; none unless the recipe says so."""
        asked = self.models.trust_remote_code
        if isinstance(asked, bool):
            return sorted({self.models.policy, self.models.reference}) if asked else []
        return sorted(asked)

    @model_validator(mode="after")
    def _replicas_have_own_devices(self) -> "Config":
        if self.cluster is not None and ":" in self.runtime.device:
            raise ValueError(
                f"runtime.device {self.runtime.device!r} names one GPU, but in a cluster each replica is given its "
                "own: set it to auto, cuda or cpu"
            )
        return self

    @model_validator(mode="after")
    def _evaluation_languages(self) -> "Config":
        for language in self.evaluate.languages or ():
            language_name(language)
        return self


def load(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a recipe, apply `section.key=value` overrides, check it.

    Relative paths in it stay relative to the working directory. Raises ValueError with one sentence per mistake.
    """
    tree = read_yaml(path, "recipe", example="recipes/smollm2.yaml")
    for override in overrides:
        _apply(tree, override)
    return parse(tree, where=str(path))


def parse(tree: dict[str, Any], *, where: str) -> Config:
    """Check a recipe given as nested dictionaries; `where` names it in errors."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        why = ": it has no default because it decides what is computed"
        raise ValueError(f"{where}: {sentences(error, Config, whole='recipe', missing=why)}") from None


def _apply(tree: dict[str, Any], override: str) -> None:
    """Set one `a.b.c=value` in the tree; the value is read as YAML, and never repeated: it may be a key.

    What stands before = is told where it looks like a recipe's key, and not like the end of something in base64.
    """
    key, equals, value = override.partition("=")
    first = (key.split() or [""])[0]
    plain = re.fullmatch(r"[a-z_]+(\.[a-z_]+)*", first) and (equals or "." in first)
    told = f"override {shown(first)}" if plain else "an override (not repeated here, it may hold a key)"
    if not equals or not key:
        raise ValueError(f"{told} must look like section.key=value, for instance sample.n=4")
    try:
        put(tree, key, load_yaml(value))
    except yaml.YAMLError:
        raise ValueError(f"{told}: its value is none of YAML: look at its quotes and brackets") from None
    except ValueError as error:
        raise ValueError(f"{told}: {error}") from None

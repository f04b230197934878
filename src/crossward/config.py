"""The recipe: one YAML file, a section a stage, checked as a whole before anything runs.

An unknown key is refused, and the nearest known one named. The sections are in sections.py. The pipeline unpacks all
into plain arguments; core and engines never see them.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from crossward.core.language import language_name
from crossward.reward_sections import Reward, TranslatorSection
from crossward.sections import (
    Evaluate,
    Models,
    Pair,
    Positive,
    Prompts,
    Runtime,
    Sample,
    Score,
    Section,
    Train,
)


class Config(Section):
    """A whole recipe.

    `method` reward: best against worst of N by a reward. lidr: Language Imbalance Driven Rewarding (arXiv 2410.08964),
    a rival: greedy answers against their translations, with no reward at all.
    `compatibility: published` switches on the quirks of the published code: in scoring the shifted mask, a forced end
    of turn and 4 decimals, in pairing characters, grid α and no filter (docs/paper-differences.md).
    """

    run: str
    languages: Annotated[tuple[str, ...], Field(min_length=1)]
    iterations: Positive = 2
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
        if self.reward.kind != "implicit" and self.compatibility == "published":
            raise ValueError(f"compatibility 'published' knows the implicit reward only, not {self.reward.kind!r}")
        return self

    @model_validator(mode="after")
    def _auto_margin_is_measured(self) -> "Config":
        rated = self.reward.kind if self.reward.kind != "implicit" else self.reward.view
        if self.pair.min_margin == "auto" and rated not in ("crosslingual", "multilingual", "translated"):
            raise ValueError(
                f"pair.min_margin 'auto' is the noise floor of log-ratios in nats, which the ratings of {rated!r} are "
                "not: give a number in their unit"
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
        if self.sample.engine == "openai" and self.iterations > 1:
            raise ValueError(
                "sample.engine 'openai' serves one policy, but each iteration samples from another: set iterations to 1"
            )
        if self.score.engine == "vllm" and self.compatibility == "published":
            raise ValueError("compatibility 'published' scores with transformers: leave score.engine at transformers")
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
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(
            f"recipe {path} does not exist: give the path of a YAML recipe, such as recipes/smollm2.yaml"
        ) from None
    except (IsADirectoryError, UnicodeDecodeError) as error:
        raise ValueError(f"recipe {path} cannot be read as a UTF-8 text file ({error})") from None
    except yaml.YAMLError as error:
        raise ValueError(f"recipe {path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise ValueError(f"recipe {path} must hold keys such as 'models:' and 'languages:', got {type(tree).__name__}")
    for override in overrides:
        _apply(tree, override)
    return parse(tree, where=str(path))


def parse(tree: dict[str, Any], *, where: str) -> Config:
    """Check a recipe given as nested dictionaries; `where` names it in errors."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ValueError(f"{where}: " + "; ".join(_sentence(item) for item in error.errors())) from None


def _apply(tree: dict[str, Any], override: str) -> None:
    """Set one `a.b.c=value` in the tree; the value is read as YAML."""
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ValueError(f"override {override!r} must look like section.key=value, for instance sample.n=4")
    *sections, last = key.split(".")
    node: Any = tree
    for section in sections:
        if node.get(section) is None:
            node[section] = {}
        node = node[section]
        if not isinstance(node, dict):
            raise ValueError(f"override {override!r}: {section!r} is a value, not a section")
    try:
        node[last] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise ValueError(f"override {override!r}: {value!r} is not a YAML value") from None


def _sentence(item: Any) -> str:
    """One pydantic error as one sentence: the dotted key, what was got, the nearest key where one is unknown."""
    location = [part for part in item["loc"] if isinstance(part, str)]
    key = ".".join(location)
    match item["type"]:
        case "extra_forbidden":
            near = difflib.get_close_matches(location[-1], _keys(location[:-1]), n=1, cutoff=0.4)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys here: {', '.join(_keys(location[:-1]))}"
            return f"unknown key {key!r}; {hint}"
        case "missing":
            return f"missing key {key!r}: it has no default because it decides what is computed"
        case _:
            message = item["msg"].removeprefix("Value error, ")
            got = item["input"]
            shown = "" if isinstance(got, dict) or "got" in message else f", got {got!r}"
            if item["type"] == "string_type" and isinstance(got, bool):
                shown += " (YAML reads no, yes, on and off so: write it in quotes)"
            return f"{key or 'recipe'}: {message[0].lower()}{message[1:]}{shown}"


def _keys(location: Sequence[str]) -> list[str]:
    """The known keys of a section, found by walking the models from the root."""
    model: type[BaseModel] = Config
    for part in location:
        field = model.model_fields.get(part)
        candidates = [field.annotation, *get_args(field.annotation)] if field else []
        sections = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if not sections:
            return []
        model = sections[0]
    return list(model.model_fields)

"""The recipe: one YAML file, a section a stage, checked as a whole before anything runs.

Frozen pydantic models that refuse unknown keys and name the nearest known one. Nothing that changes the science
(models, languages, prompts) has a default. The pipeline unpacks these into plain arguments; core and engines never
see them.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from crossward.core.language import language_name
from crossward.core.records import View

Reference = Literal["initial", "previous"]
Dtype = Literal["float32", "bfloat16"]
Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, le=1)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Models(Section):
    """The English-aligned policy and the reference that it was aligned from: folders or hub names."""

    policy: str
    reference: str
    dtype: Dtype = "bfloat16"
    policy_revision: str | None = None
    reference_revision: str | None = None
    trust_remote_code: bool = False


class Prompts(Section):
    """Where prompts come from. `path` may hold {language}; `english` defaults to the path with {language} = en."""

    path: str
    english: str | None = None
    config: str | None = None
    split: str = "train"
    id_field: str = "id"
    instruction_field: str = "instruction"
    limit: Positive | None = None
    allow_missing: bool = False

    def of(self, language: str) -> str:
        """The source for one language."""
        if language == "en" and self.english is not None:
            return self.english
        return self.path.replace("{language}", language)


class Decoding(Section):
    """How answers are drawn; temperature 0 is greedy."""

    n: Positive
    temperature: Annotated[float, Field(ge=0)]
    top_p: Share = 1.0
    max_new_tokens: Positive


class OpenAi(Section):
    """A server of OpenAI's chat completions that serves models.policy; the key stays in the environment."""

    base_url: str
    model: str
    api_key_env: str | None = None
    concurrency: Positive = 32
    timeout_s: Annotated[float, Field(gt=0)] = 600.0
    attempts: Positive = 6


class Sample(Decoding):
    """paper: N = 10, temperature 0.9, top-p 1.0, up to 2,400 new tokens.

    `engine`: auto is vLLM where it is installed for the device, else transformers. It holds for evaluate's answers
    too, but for openai: those are answered with auto.
    """

    engine: Literal["auto", "transformers", "vllm", "openai"] = "auto"
    openai: OpenAi | None = None
    n: Positive = 10
    temperature: Annotated[float, Field(ge=0)] = 0.9
    max_new_tokens: Positive = 2400

    @field_validator("n")
    @classmethod
    def _at_least_two(cls, n: int) -> int:
        if n < 2:
            raise ValueError(f"a pair needs at least two responses to choose from, got n = {n}; the paper uses 10")
        return n


class Reward(Section):
    """Under which instruction a response is judged, and over which reference."""

    view: View = "crosslingual"
    reference: Reference = "initial"


class Score(Section):
    """How log-probabilities are computed.

    `noise_sample` prompts of each language are scored again, in other batches and in float32, for the noise floor: 8
    prompts of five languages with ten responses each are 400 responses. `engine` is that of policy and reference.
    """

    engine: Literal["transformers", "vllm"] = "transformers"
    noise_sample: Annotated[int, Field(ge=0)] = 8


class Pair(Section):
    """Which responses become a pair, and which responses are left out first.

    `min_margin` is in nats; `auto` takes the noise floor's margin of each language.
    """

    length_unit: Literal["characters", "tokens", "none"] = "characters"
    choice: Literal["reward", "random"] = "reward"
    upper_bound: float | None = None
    min_margin: float | Literal["auto"] = 0.0
    min_responses: Annotated[int, Field(ge=2)] = 2
    language_filter: Literal["lingua", "none"] = "lingua"
    language_confidence: Share = 0.9

    @field_validator("min_margin", mode="before")
    @classmethod
    def _nats_or_auto(cls, value: object) -> object:
        number = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")
        if not number and value != "auto":
            raise ValueError(f"expected a number of nats, 0 or more, or 'auto' (the noise floor), got {value!r}")
        return value


class LoraSection(Section):
    """LoRA instead of full fine-tuning."""

    rank: Positive = 16
    alpha: Annotated[float, Field(gt=0)] = 32.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: str | tuple[str, ...] = "all-linear"


class Train(Section):
    """DPO + NLL. `reference` previous: the policy that the iteration starts from; initial: models.reference."""

    reference: Reference = "previous"
    beta: Annotated[float, Field(gt=0)] = 0.1
    nll_weight: Annotated[float, Field(ge=0)] = 1.0
    learning_rate: Annotated[float, Field(gt=0)] = 5e-7
    epochs: Annotated[float, Field(gt=0)] = 1.0
    batch_size: Positive = 32
    micro_batch_size: Positive = 1
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.1
    scheduler: Literal["cosine", "linear", "constant"] = "cosine"
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    max_length: Positive = 4096
    gradient_checkpointing: bool = False
    save_dtype: Dtype = "float32"
    lora: LoraSection | None = None

    @model_validator(mode="after")
    def _divides(self) -> "Train":
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size must be a multiple of micro_batch_size, got {self.batch_size} and {self.micro_batch_size}"
            )
        return self


class Evaluate(Decoding):
    """Answers of every policy to held-out prompts. Defaults: X-AlpacaEval decoding (0.6, 0.9, one answer, 2,048)."""

    prompts: Prompts | None = None
    languages: tuple[str, ...] | None = None
    n: Positive = 1
    temperature: Annotated[float, Field(ge=0)] = 0.6
    top_p: Share = 0.9
    max_new_tokens: Positive = 2048


class Vllm(Section):
    """What vLLM may take: a share of each GPU's memory, GPUs per model, GiB of cache on a CPU. Eager: no compiling."""

    memory_share: Share = 0.9
    tensor_parallel_size: Positive = 1
    cpu_cache_gib: Annotated[float, Field(gt=0)] = 2.0
    eager: bool = False


class Runtime(Section):
    """Where and in what portions the work is done; no key here changes what is computed."""

    device: str = "auto"
    sample_rows: Positive = 64
    score_tokens: Positive | None = None
    threads: Positive | None = None
    vllm: Vllm = Vllm()


class Config(Section):
    """A whole recipe.

    `compatibility: published` switches on the quirks of the published code: in scoring the shifted mask, a forced end
    of turn and 4 decimals, in pairing characters, grid α and no filter (docs/paper-differences.md).
    """

    run: str
    languages: Annotated[tuple[str, ...], Field(min_length=1)]
    iterations: Positive = 2
    seed: int = 42
    shard_size: Positive = 96
    compatibility: Literal["none", "published"] = "none"
    models: Models
    prompts: Prompts
    sample: Sample = Sample()
    reward: Reward = Reward()
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
    def _auto_margin_is_measured(self) -> "Config":
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

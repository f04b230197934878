"""The sections of a recipe, one a stage: frozen pydantic models that refuse unknown keys.

Nothing that changes the science (models, languages, prompts) has a default. recipes/every-key.yaml says what each
key is for; config.py puts them together and reads them.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from crossward.core.addresses import require_address, require_no_password, require_variable
from crossward.core.judging import Order
from crossward.core.pairing import AlphaSearch, Choice, LengthUnit
from crossward.core.winrates import Variant

Reference = Literal["initial", "previous"]
Dtype = Literal["float32", "bfloat16"]
Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Address = Annotated[str, AfterValidator(require_address)]
Variable = Annotated[str, AfterValidator(require_variable)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Models(Section):
    """The English-aligned policy and the reference that it was aligned from: folders or hub names.

    `trust_remote_code` names the models of the recipe that may run code of their own; true is policy and reference.
    """

    policy: str
    reference: str
    dtype: Dtype = "bfloat16"
    policy_revision: str | None = None
    reference_revision: str | None = None
    trust_remote_code: bool | tuple[str, ...] = False


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
    repetition_penalty: Annotated[float, Field(ge=1)] = 1.0


class OpenAi(Section):
    """A server of OpenAI's chat completions that serves models.policy; the key stays in the environment."""

    base_url: Address
    model: str
    api_key_env: Variable | None = None
    concurrency: Positive = 32
    timeout_s: Annotated[float, Field(gt=0)] = 600.0
    attempts: Positive = 6


class Sample(Decoding):
    """paper: N = 10, temperature 0.9, top-p 1.0, up to 2,400 new tokens.

    `engine`: auto is vLLM where it is installed for the device, else transformers. It holds for evaluate's answers
    too, but for openai and given (a sampler that a program hands to `run`): those are answered with auto.
    """

    engine: Literal["auto", "transformers", "vllm", "openai", "given"] = "auto"
    openai: OpenAi | None = None
    n: Positive = 10
    temperature: Annotated[float, Field(ge=0)] = 0.9
    max_new_tokens: Positive = 2400


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

    length_unit: LengthUnit = "characters"
    alpha_search: AlphaSearch = "exact"
    choice: Choice = "reward"
    upper_bound: float | None = None
    min_margin: float | Literal["auto"] = 0.0
    min_responses: Annotated[int, Field(ge=2)] = 2
    min_characters: Positive = 1
    max_characters: Positive | None = None
    language_filter: Literal["lingua", "given", "none"] = "lingua"
    language_confidence: Share = 0.9

    @model_validator(mode="after")
    def _bounds(self) -> "Pair":
        if self.max_characters is not None and self.max_characters < self.min_characters:
            raise ValueError(
                f"max_characters must be min_characters ({self.min_characters}) or more, got {self.max_characters}"
            )
        return self

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


class Replay(Section):
    """Offline preference pairs, mixed into every iteration's: `share` of all pairs that are trained on, drawn by lot.

    Any file that `crossward align` reads. DICE's experience replay (its γ is `share`; arXiv 2406.09760).
    """

    path: str
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5


class Train(Section):
    """DPO + NLL. `reference` previous: the policy that the iteration starts from; initial: models.reference.

    `nll_normalisation` sequence: the mean over a response's tokens, then over the pairs (LLaMA-Factory, the paper's
    runs); tokens: over all chosen tokens of a micro-batch (TRL), which weighs long responses more. `launch`: the words
    of a command that starts the processes to train in; None: in this one.
    """

    reference: Reference = "previous"
    beta: Annotated[float, Field(gt=0)] = 0.1
    nll_weight: Annotated[float, Field(ge=0)] = 1.0
    nll_normalisation: Literal["sequence", "tokens"] = "sequence"
    replay: Replay | None = None
    learning_rate: Annotated[float, Field(gt=0)] = 5e-7
    epochs: Annotated[float, Field(gt=0)] = 1.0
    max_steps: Positive | None = None
    batch_size: Positive = 32
    micro_batch_size: Positive = 1
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.1
    scheduler: Literal["cosine", "linear", "constant"] = "cosine"
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    max_length: Positive = 4096
    gradient_checkpointing: bool = False
    save_dtype: Dtype = "float32"
    launch: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    lora: LoraSection | None = None

    @model_validator(mode="after")
    def _divides(self) -> "Train":
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size must be a multiple of micro_batch_size, got {self.batch_size} and {self.micro_batch_size}"
            )
        return self


class Judge(Section):
    """Who compares answers with the baseline's: a server (`base_url`, `model`), or a `checkpoint` behind vLLM.

    Prices are money per million tokens; past `max_cost` or `max_tokens` a run no question is asked.
    """

    base_url: Address | None = None
    model: str | None = None
    api_key_env: Variable | None = None
    checkpoint: str | None = None
    dtype: Dtype = "bfloat16"
    template: str | None = None
    order: Order = "seeded"
    concurrency: Positive = 32
    timeout_s: Annotated[float, Field(gt=0)] = 120.0
    attempts: Positive = 12
    prompt_price: Annotated[float, Field(ge=0)] = 0.0
    completion_price: Annotated[float, Field(ge=0)] = 0.0
    max_cost: Annotated[float, Field(ge=0)] | None = None
    max_tokens: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _one_judge(self) -> "Judge":
        server = (self.base_url is not None, self.model is not None)
        if server not in ((True, True), (False, False)) or server[0] == (self.checkpoint is not None):
            raise ValueError("name one judge: base_url and model of a server, or a checkpoint")
        return self


class Evaluate(Decoding):
    """Answers of every policy to held-out prompts. Defaults: X-AlpacaEval decoding (0.6, 0.9, one answer, 2,048).

    With a `judge` the first answers are compared with those of a `baseline`: a path of answers (model_outputs.json)
    with {language}, or `reference`, models.reference's own answers in this run.
    """

    prompts: Prompts | None = None
    languages: tuple[str, ...] | None = None
    n: Positive = 1
    temperature: Annotated[float, Field(ge=0)] = 0.6
    top_p: Share = 0.9
    max_new_tokens: Positive = 2048
    reference_answers: str | None = None
    judge: Judge | None = None
    baseline: str | None = None
    length_control: Variant = "joint"
    difficulty: str | None = None
    gamed: str | None = None

    @model_validator(mode="after")
    def _judged_against_something(self) -> "Evaluate":
        if (self.judge is None) != (self.baseline is None):
            raise ValueError("judge and baseline (a path of answers, or reference) go together: got one of them")
        if self.judge is not None and self.prompts is None:
            raise ValueError("a judge needs answers: name held-out prompts")
        if (self.difficulty or self.gamed) and self.length_control != "published":
            raise ValueError("difficulty and gamed belong to length_control published")
        return self


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


class ClusterReplicas(Section):
    """How many copies of each model; None: as many as there is room for."""

    sample: Positive | None = None
    score_policy: Positive | None = None
    score_reference: Positive | None = None
    translate: Positive | None = None
    judge: Positive | None = None


class ClusterResources(Section):
    """What one replica takes of its node.

    `cpus` None: runtime.threads, else 1. `gpus` None: on CUDA one, or as many as runtime.vllm.tensor_parallel_size.
    """

    cpus: Annotated[float, Field(ge=0)] | None = None
    gpus: Annotated[float, Field(ge=0)] | None = None
    memory_gib: Annotated[float, Field(gt=0)] | None = None
    custom: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)


class Cluster(Section):
    """Sampling, scoring, translating and judging by many replicas in a Ray cluster (docs/scaling.md).

    `address` None starts one on this machine. No key here changes what is computed.
    """

    address: Annotated[str, Field(min_length=1), AfterValidator(require_no_password)] | None = None
    replicas: Positive | Literal["auto"] | ClusterReplicas = "auto"
    resources: ClusterResources = ClusterResources()
    restarts: Annotated[int, Field(ge=0)] = 3
    start_timeout_s: Annotated[float, Field(gt=0)] = 300.0


class Tracking(Section):
    """Who is told of training steps and finished stages; no key here changes what is computed.

    `name` defaults to the run folder's, `folder` to one within the run (trackio: to trackio's own). `mode` is of
    wandb: offline writes files, which `wandb sync` uploads.
    """

    tracker: Literal["none", "trackio", "tensorboard", "wandb"] = "none"
    project: Annotated[str, Field(min_length=1)] = "crossward"
    name: str | None = None
    folder: str | None = None
    mode: Literal["offline", "online"] = "offline"

"""From a recipe's sections to the plain values that core and engines take: they never see the recipe itself."""

from pathlib import Path

from crossward.config import Config
from crossward.core.pairing import PairingRules
from crossward.core.spending import Budget
from crossward.engines.endpoint import Endpoint
from crossward.engines.protocols import Lora, ModelSpec, Sampling, Training, VllmOptions
from crossward.engines.workers import IN_PROCESS
from crossward.pipeline.cluster import recipe_workers
from crossward.pipeline.judges import JudgeSettings, read_template
from crossward.pipeline.progress import SILENT
from crossward.reward_sections import RatingJudge, TranslatorSection
from crossward.sections import Decoding, Judge


def sampling_of(decoding: Decoding, seed: int) -> Sampling:
    """A decoding section with its seed."""
    return Sampling(
        n=decoding.n,
        temperature=decoding.temperature,
        top_p=decoding.top_p,
        max_new_tokens=decoding.max_new_tokens,
        seed=seed,
        repetition_penalty=decoding.repetition_penalty,
    )


def rules_of(config: Config, seed: int) -> PairingRules:
    """The pairing rules of a recipe."""
    published = config.compatibility == "published"
    return PairingRules(
        length_unit="characters" if published else config.pair.length_unit,
        alpha_search="published-grid" if published else config.pair.alpha_search,
        choice=config.pair.choice,
        seed=seed,
        upper_bound=config.pair.upper_bound,
        min_margin=0.0 if config.pair.min_margin == "auto" else config.pair.min_margin,
        min_responses=config.pair.min_responses,
        min_characters=config.pair.min_characters,
        max_characters=config.pair.max_characters,
        language_confidence=config.pair.language_confidence,
        filter_responses=not published,
        agreement=config.reward.agreement,
        gate=config.reward.surprisal is not None and config.reward.surprisal.use == "gate",
    )


def training_of(config: Config, seed: int) -> Training:
    """The training settings of a recipe."""
    section = config.train
    lora = section.lora
    return Training(
        beta=section.beta,
        nll_weight=section.nll_weight,
        learning_rate=section.learning_rate,
        epochs=section.epochs,
        max_steps=section.max_steps,
        batch_size=section.batch_size,
        micro_batch_size=section.micro_batch_size,
        warmup_ratio=section.warmup_ratio,
        scheduler=section.scheduler,
        weight_decay=section.weight_decay,
        max_grad_norm=section.max_grad_norm,
        max_length=section.max_length,
        seed=seed,
        gradient_checkpointing=section.gradient_checkpointing,
        save_dtype=section.save_dtype,
        nll_normalisation=section.nll_normalisation,
        lora=None if lora is None else Lora(**lora.model_dump()),
    )


def vllm_options(config: Config) -> VllmOptions:
    """What vLLM may take."""
    return VllmOptions(**config.runtime.vllm.model_dump(), threads=config.runtime.threads)


def server_of(
    section: Judge | RatingJudge | TranslatorSection, *, attempts: int, first_pause_s: float = 1.0
) -> Endpoint | None:
    """The server that a section names; None where it names none."""
    if section.base_url is None or section.model is None:
        return None
    return Endpoint(
        base_url=section.base_url,
        model=section.model,
        api_key_env=section.api_key_env,
        concurrency=section.concurrency,
        timeout_s=section.timeout_s,
        attempts=attempts,
        first_pause_s=first_pause_s,
    )


def judge_settings(config: Config) -> JudgeSettings:
    """The judge that a recipe names. Raises ValueError where its key or its template is not there."""
    section = config.evaluate.judge
    assert section is not None
    checkpoint = None
    if section.checkpoint is not None:
        checkpoint = ModelSpec(
            path=section.checkpoint,
            dtype=section.dtype,
            device=config.runtime.device,
            trust_remote_code=section.checkpoint in config.trusted,
        )
    settings = JudgeSettings(
        endpoint=server_of(section, attempts=section.attempts, first_pause_s=0.5),
        checkpoint=checkpoint,
        template=None if section.template is None else Path(section.template),
        order=section.order,
        seed=config.seed,
        budget=Budget(
            prompt_price=section.prompt_price,
            completion_price=section.completion_price,
            max_cost=section.max_cost,
            max_tokens=section.max_tokens,
        ),
        vllm=vllm_options(config),
        workers=recipe_workers(config, {"judge": "vllm"}, SILENT) if checkpoint is not None else IN_PROCESS,
    )
    read_template(settings.template)
    return settings

"""From a recipe to its translator: the policy of the iteration, another model, or a server."""

from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from crossward.engines.endpoint import Endpoint
from crossward.engines.models import model_fingerprint
from crossward.engines.protocols import ModelSpec, Translator, VllmOptions
from crossward.pipeline.assemble import Engines, Model
from crossward.pipeline.progress import Progress
from crossward.pipeline.translators import TranslatorSettings, opened_translator, read_translation_template


def recipe_translator(engines: Engines, policy: Model, progress: Progress) -> AbstractContextManager[Translator]:
    """The translator of a recipe, to be opened with `with`."""
    return opened_translator(translator_settings(engines, policy.spec), progress=progress)


def translator_settings(engines: Engines, policy: ModelSpec) -> TranslatorSettings:
    """Who translates. Raises ValueError where what is named does not go together."""
    section, runtime = engines.config.translator, engines.config.runtime
    endpoint = None
    if section.engine == "openai":
        assert section.base_url is not None
        assert section.model is not None
        endpoint = Endpoint(
            base_url=section.base_url,
            model=section.model,
            api_key_env=section.api_key_env,
            concurrency=section.concurrency,
            timeout_s=section.timeout_s,
            attempts=section.request_attempts,
        )
    model = policy if section.model is None else engines.model_spec(section.model)
    sampling = engines.config.sample.engine
    own = "auto" if sampling == "openai" else sampling  # the policy translates with what samples from it
    return TranslatorSettings(
        engine=own if section.engine == "policy" else section.engine,
        model=None if endpoint is not None else model,
        endpoint=endpoint,
        template=None if section.template is None else Path(section.template),
        parse=section.parse,
        max_new_tokens=section.max_new_tokens,
        attempts=section.attempts,
        seed=engines.config.seed,
        batch_rows=runtime.sample_rows,
        vllm=VllmOptions(**runtime.vllm.model_dump(), threads=runtime.threads),
    )


def require_translator(engines: Engines, policy: ModelSpec) -> str:
    """The translator in words; raises ValueError where what it needs is not there. No weights are loaded."""
    settings = translator_settings(engines, policy)
    engine = settings.resolved_engine()
    if engine != "seq2seq":
        read_translation_template(settings.template, parse=settings.parse)
    return f"{settings.name} with {engine}"


def translator_identity(engines: Engines, policy: Model) -> str:
    """A hash or name of the weights that translate, for the manifest; a server's address is not in it."""
    section = engines.config.translator
    if section.model is None:
        return policy.fingerprint
    if section.engine == "openai":
        return f"model {section.model}"
    return model_fingerprint(engines.model_spec(section.model))


def translator_manifest(engines: Engines) -> dict[str, Any]:
    """What translations depend on besides the weights and the seed."""
    section = engines.config.translator
    words = {}
    if section.engine != "seq2seq":
        template = None if section.template is None else Path(section.template)
        words = asdict(read_translation_template(template, parse=section.parse))
    return {"engine": section.engine, "max_new_tokens": section.max_new_tokens, "seed": engines.config.seed, **words}

"""From a recipe to its translator: the policy of the iteration, another model, or a server."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from crossward.engines.models import model_fingerprint
from crossward.engines.protocols import KeptRows, ModelSpec, Translator
from crossward.pipeline.assemble import Engines, Model
from crossward.pipeline.translators import TranslatorSettings, open_translator, read_translation_template
from crossward.pipeline.unpack import server_of


def recipe_translator(engines: Engines, policy: Model, kept: KeptRows | None) -> Translator:
    """The translator of a recipe; what a server says is in `kept` at once."""
    return open_translator(translator_settings(engines, policy.spec), kept=kept, progress=engines.progress)


def translator_settings(engines: Engines, policy: ModelSpec) -> TranslatorSettings:
    """Who translates. Raises ValueError where what is named does not go together."""
    section = engines.config.translator
    endpoint = server_of(section, attempts=section.request_attempts)
    model = policy if section.model is None else engines.model_spec(section.model)
    sampling = engines.config.sample.engine
    own = "auto" if sampling in ("openai", "given") else sampling  # its weights translate, whoever samples
    return TranslatorSettings(
        engine=own if section.engine == "policy" else section.engine,
        model=None if endpoint is not None else model,
        endpoint=endpoint,
        template=None if section.template is None else Path(section.template),
        parse=section.parse,
        max_new_tokens=section.max_new_tokens,
        attempts=section.attempts,
        seed=engines.config.seed,
        batch_rows=engines.config.runtime.sample_rows,
        vllm=engines.vllm_options,
    )


def require_translator(engines: Engines, policy: ModelSpec) -> str:
    """The translator in words; raises ValueError where what it needs is not there. No weights are loaded."""
    settings = translator_settings(engines, policy)
    pairs = into_english(engines.config.languages)
    if engines.config.method == "lidr":
        pairs += [(english, language) for language, english in pairs]
    return f"{settings.name} with {settings.require(pairs)}"


def into_english(languages: Sequence[str]) -> list[tuple[str, str]]:
    """What the responses of a recipe are translated from and into."""
    return [(language, "en") for language in languages if language != "en"]


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

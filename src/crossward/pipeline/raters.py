"""From a recipe to the rater that it names: a reward model, a judge that gives points, a likelihood of translations.

Engines are imported late. What a rater's ratings depend on (its identity and settings) goes into the stage's manifest.
"""

from pathlib import Path
from typing import Any

from crossward.core.rating import Template
from crossward.core.translation import TranslationTemplate
from crossward.engines.endpoint import require_endpoint
from crossward.engines.models import base_spec, max_positions, model_fingerprint, read_config
from crossward.engines.protocols import ModelSpec, Rater, Sampler
from crossward.engines.seq2seq_tokens import require_seq2seq
from crossward.engines.tokens import load_tokens
from crossward.pipeline.assemble import Engines, Model
from crossward.pipeline.choose import endpoint_sampler, local_sampler, require_chat_model, resolved
from crossward.pipeline.progress import Progress
from crossward.pipeline.recipe_translator import into_english
from crossward.pipeline.translators import read_translation_template, require_no_words
from crossward.pipeline.unpack import server_of
from crossward.store.manifest import content_hash


def open_rater(engines: Engines, policy: Model, *, answers: Path, progress: Progress) -> Rater:
    """The rater of a recipe; `policy` is the iteration's, which may rate its own answers.

    `answers`: where a server's are kept until the stage has them.
    """
    reward = engines.config.reward
    match reward.kind:
        case "reward-model":
            from crossward.engines.reward_model import RewardModelRater

            return RewardModelRater(_reward_model(engines), batch_tokens=engines.config.runtime.score_tokens)
        case "judge":
            return _judge(engines, policy, answers, progress)
        case "translation-likelihood":
            return _translation_likelihood(engines, policy)
        case "given":
            return engines.given.require_rater()()
        case "implicit":
            raise AssertionError("the implicit reward is scored, not rated")


def require_rater(engines: Engines) -> str:
    """The rater in words; raises ValueError where what it needs is not there. No weights are loaded."""
    match engines.config.reward.kind:
        case "reward-model":
            from crossward.engines.reward_model import require_reward_model

            spec = _reward_model(engines)
            require_reward_model(spec)
            return f"reward model {spec.path}"
        case "judge":
            return f"judge {_require_judge(engines)}, 0 to 5 points"
        case "translation-likelihood":
            return f"likelihood of the English answers under {_require_likelihood(engines)}"
        case "given":
            engines.given.require_rater()
            return f"given: {engines.given.rater_identity}"
        case "implicit":
            return "log π/π_ref"


def rater_identity(engines: Engines, policy: Model) -> str:
    """A hash or name of what rates, for the manifest."""
    config = engines.config
    section = config.reward.judge
    match config.reward.kind:
        case "reward-model":
            return model_fingerprint(_reward_model(engines))
        case "judge" if section.checkpoint is not None:
            return model_fingerprint(engines.model_spec(section.checkpoint))
        case "judge" if section.model is not None:
            return f"model {section.model}"
        case "translation-likelihood" if config.translator.model is not None:
            return model_fingerprint(engines.model_spec(config.translator.model))
        case "given":
            return engines.given.rater_identity
        case _:
            return policy.fingerprint


def rater_settings(engines: Engines) -> dict[str, Any]:
    """What ratings depend on besides the models."""
    section = engines.config.reward.judge
    match engines.config.reward.kind:
        case "judge":
            return {
                "template": content_hash(_rating_template(engines).text),
                "seed": engines.config.seed,
                "draws": section.draws,
                "temperature": section.temperature,
                "max_new_tokens": section.max_new_tokens,
            }
        case "translation-likelihood" if engines.config.translator.engine != "seq2seq":
            return {"template": content_hash(_plain_template(engines).text)}
        case _:
            return {}


def _require_judge(engines: Engines) -> str:
    """Who judges; raises ValueError for what would fail at the first question."""
    section = engines.config.reward.judge
    _rating_template(engines)
    if (server := server_of(section, attempts=section.attempts)) is not None:
        return f"{server.model} at {require_endpoint(server)}"
    if section.checkpoint is None:
        return "the policy itself"
    require_chat_model(engines.model_spec(section.checkpoint))
    return section.checkpoint


def _require_likelihood(engines: Engines) -> str:
    """Whose likelihood is taken; raises ValueError for what would fail at the first answer."""
    section = engines.config.translator
    if section.engine in ("vllm", "openai"):
        raise ValueError(
            f"reward.kind 'translation-likelihood' reads log-probabilities, which translator.engine "
            f"{section.engine!r} does not give: take policy, transformers or seq2seq"
        )
    spec = None if section.model is None else engines.model_spec(section.model)
    if spec is not None and section.engine == "seq2seq":
        require_no_words(None if section.template is None else Path(section.template))
        require_seq2seq(spec, into_english(engines.config.languages))
        return spec.path
    _plain_template(engines)
    if spec is None:
        return "the policy itself"
    require_chat_model(spec)
    return spec.path


def _judge(engines: Engines, policy: Model, answers: Path, progress: Progress) -> Rater:
    from crossward.engines.rating_judge import RatingJudge

    section = engines.config.reward.judge
    server = server_of(section, attempts=section.attempts)
    spec = policy.spec if section.checkpoint is None else engines.model_spec(section.checkpoint)
    tokens = None if server is not None else load_tokens(spec)
    sampler: Sampler
    if server is not None:
        sampler = endpoint_sampler(server, None, answers=answers, progress=progress)
    elif section.checkpoint is None:
        sampler = engines.sampler(policy, "evaluate")  # with its weights, whoever serves it
    else:
        assert tokens is not None
        engine, rows = resolved("auto", spec), engines.config.runtime.sample_rows
        sampler = local_sampler(engine, spec, tokens, batch_rows=rows, options=engines.vllm_options)
    return RatingJudge(
        sampler,
        _rating_template(engines),
        name=section.model or spec.path,
        draws=section.draws,
        temperature=section.temperature,
        max_new_tokens=section.max_new_tokens,
        seed=engines.config.seed,
        tokens=tokens,
        limit=None if server is not None else max_positions(read_config(base_spec(spec))),
    )


def _rating_template(engines: Engines) -> Template:
    from crossward.engines.rating_judge import read_template

    template = engines.config.reward.judge.template
    return read_template(None if template is None else Path(template))


def _translation_likelihood(engines: Engines, policy: Model) -> Rater:
    from crossward.engines.hf_scorer import HfScorer
    from crossward.engines.translation_likelihood import (
        ChatTranslationLikelihood,
        TranslationLikelihoodRater,
        plain_request,
    )

    section, runtime = engines.config.translator, engines.config.runtime
    spec = policy.spec if section.model is None else engines.model_spec(section.model)
    if section.engine == "seq2seq":
        from crossward.engines.seq2seq_translator import Seq2SeqTranslator

        translator = Seq2SeqTranslator(spec, name=spec.path, identity=spec.path, batch_rows=runtime.sample_rows)
        return TranslationLikelihoodRater(translator, name=spec.path)
    scorer = HfScorer(spec, load_tokens(spec), batch_tokens=runtime.score_tokens)
    request = plain_request(_plain_template(engines))
    return TranslationLikelihoodRater(ChatTranslationLikelihood(scorer, request), name=spec.path)


def _plain_template(engines: Engines) -> TranslationTemplate:
    """The request that is scored; a translation between tags would not be what an English answer is."""
    return read_translation_template(Path(engines.config.translator.template or "plain"), parse="plain")


def _reward_model(engines: Engines) -> ModelSpec:
    section = engines.config.reward.reward_model
    assert section is not None
    return engines.model_spec(section.path, section.revision)

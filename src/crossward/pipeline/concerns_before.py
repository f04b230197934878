"""What a careful colleague would say of a recipe before it runs: `concerns_before`.

Weights are compared on the disk and answers counted in tokens; no model is loaded. Where the run's folder is there
already, its finished stages speak too.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from crossward.config import Config
from crossward.core.answer_concerns import english_not_evaluated
from crossward.core.chance import Share
from crossward.core.concerns import Concern, by_weight
from crossward.core.judge_concerns import few_to_judge
from crossward.core.model_concerns import few_responses, limit_cuts, not_the_child
from crossward.core.records import Prompt, Response
from crossward.engines.tokens import ChatTokens
from crossward.engines.weight_distance import weight_distances
from crossward.pipeline.assemble import Engines
from crossward.pipeline.concerns import concerns_of, takes_log_ratios
from crossward.pipeline.measures import read_references
from crossward.store.reference_answers import ReferenceAnswers
from crossward.store.run_dir import RunDir


def concerns_before(config: Config, held_out: Mapping[str, Sequence[Prompt]]) -> list[Concern]:
    """Every concern that can be known beforehand, heaviest first; what cannot be read is left to the other checks."""
    directory = RunDir(Path(config.run))
    found = concerns_of(directory, config) if directory.config.exists() else _of_models(config)
    if config.method == "reward" and config.compatibility == "none":
        found += _told(few_responses(config.sample.n))
    if held_out and "en" not in held_out:
        found.append(english_not_evaluated(sorted(held_out)))
    if config.evaluate.judge is not None and not directory.evaluation.exists():
        found += _told(few_to_judge({code: len(prompts) for code, prompts in held_out.items()}))
    return by_weight(found + _of_limits(config, held_out))


def _of_models(config: Config) -> list[Concern]:
    if not takes_log_ratios(config):
        return []
    distances = weight_distances(config.models.policy, config.models.reference)
    return _told(not_the_child(distances)) if distances is not None else []


def _of_limits(config: Config, held_out: Mapping[str, Sequence[Prompt]]) -> list[Concern]:
    """Where reference answers are named: would answers as long as these fit?"""
    try:
        references = read_references(config.evaluate.reference_answers, held_out)
        if not references:
            return []
        engines = Engines(config)
        tokens = engines.tokens(engines.policy())
    except (ValueError, OSError):
        return []
    lengths = {code: _lengths(answers, held_out[code], tokens) for code, answers in references.items()}
    concerns: list[Concern] = []
    for key, limit in (
        ("evaluate.max_new_tokens", config.evaluate.max_new_tokens),
        ("sample.max_new_tokens", config.sample.max_new_tokens),
    ):
        longer = {
            code: Share(part=sum(n > limit for n in found) / len(found), n=len(found))
            for code, found in lengths.items()
            if found
        }
        concerns += _told(limit_cuts(key, limit, longer))
    return concerns


def _lengths(answers: ReferenceAnswers, prompts: Sequence[Prompt], tokens: ChatTokens) -> list[int]:
    known = [answer for prompt in prompts if (answer := answers.of(prompt)) is not None]
    return [len(tokens.response_ids(Response(text=answer))) for answer in known]


def _told(concern: Concern | None) -> list[Concern]:
    return [] if concern is None else [concern]

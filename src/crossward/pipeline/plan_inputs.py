"""What a plan has to know of a recipe beside its keys: how many prompts, how long, how large a model.

Read where it is there (prompts, tokenizer, configuration), given on the command line, or assumed; every assumption is
said in a sentence. Nothing is downloaded and no prompt is made up: a sample of those at hand is tokenised.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from crossward.config import Config
from crossward.core.instructions import Steering, judged_under
from crossward.core.judging import estimated_tokens
from crossward.core.records import Prompt
from crossward.core.workload import Engine, ModelShape, typical_shape
from crossward.engines.model_shape import read_shape
from crossward.engines.tokens import ChatTokens
from crossward.pipeline.assemble import Engines, Prompts
from crossward.pipeline.judges import read_template

SAMPLED = 200  # prompts of a language that are tokenised
PROMPT_TOKENS = 250.0  # docs/paper.md's
RESPONSE_TOKENS = 400.0  # likewise
RESPONSE_SHARE = 2.0 / 3.0  # of max_new_tokens: 0.53 in the tiny world's demo, 0.8 with SmolLM2
HELD_OUT = 805  # X-AlpacaEval's questions
MOST = 1e15  # what is larger, or no number, is a slip of the fingers


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the command line says in the place of what is not there yet, for the plan alone."""

    prompts_per_language: int | None = None
    languages: int | None = None
    prompt_tokens: float | None = None
    response_tokens: float | None = None
    parameters: float | None = None

    def __post_init__(self) -> None:
        for name, value in (
            ("--parameters", self.parameters),
            ("--prompt-tokens", self.prompt_tokens),
            ("--response-tokens", self.response_tokens),
            ("--prompts-per-language", self.prompts_per_language),
            ("--languages-count", self.languages),
        ):
            if value is not None and not 1 <= value <= MOST:
                raise ValueError(f"{name} must be a number from 1 to {MOST:g}, got {value}")


NOTHING_GIVEN = Given()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Prompts in all, mean tokens of each as sampled and as judged under, of a response and of an answer.

    `assumptions` are sentences about what nobody measured.
    """

    shape: ModelShape
    prompts: int
    languages: int
    foreign_share: float
    prompt_tokens: float
    judged_tokens: float
    response_tokens: float
    answers: int
    answer_languages: int
    answer_prompt_tokens: float
    answer_tokens: float
    template_tokens: float = 0.0
    local_engine: Engine = "transformers"
    assumptions: tuple[str, ...] = ()


@dataclass(slots=True)
class _Said:
    """Sentences, as they come."""

    lines: list[str] = field(default_factory=list)

    def __call__(self, line: str) -> None:
        if line not in self.lines:
            self.lines.append(line)


def inputs_of(
    config: Config,
    prompts: Prompts,
    held_out: Prompts,
    engines: Engines,
    given: Given,
    counts: Mapping[str, int] | None = None,
) -> Inputs:
    """What is there of `prompts` and `held_out` may be empty. ValueError, one sentence, where a number is lacking.

    `counts` are those of all prompts by language, where `prompts` are only the first of them.
    """
    counts = counts or {language: len(group) for language, group in prompts.items()}
    said = _Said()
    shape = _shape(config, engines, given, said)
    counting = _counter(engines, said) if given.parameters is None else None
    count, languages = _counts(config, counts, given)
    if given.prompt_tokens is None:
        steering = Steering(**config.reward.steering.model_dump())
        views = config.reward.scored_views
        mean, judged = _lengths(
            prompts,
            counting,
            (
                lambda prompt: [prompt.instruction],
                lambda prompt: [judged_under(prompt, view, steering) for view in views],
            ),
        ) or (None, None)
    else:
        mean, judged = given.prompt_tokens, given.prompt_tokens
    if mean is None or judged is None:
        said(f"{PROMPT_TOKENS:.0f} tokens a prompt are assumed (docs/paper.md's): no prompt could be tokenised")
        mean = judged = PROMPT_TOKENS
    answers, answer_languages, answer_prompt = _answers(config, held_out, counting, given, mean, said)
    return Inputs(
        shape=shape,
        prompts=count,
        languages=languages,
        foreign_share=_foreign(config, counts, languages),
        prompt_tokens=mean,
        judged_tokens=judged,
        response_tokens=_response(config.sample.max_new_tokens, "sample", given, said),
        answers=answers,
        answer_languages=answer_languages,
        answer_prompt_tokens=answer_prompt,
        answer_tokens=_response(config.evaluate.max_new_tokens, "evaluate", given, said) if answers else 0.0,
        template_tokens=_template(config),
        local_engine=_engine(engines) if given.parameters is None else "transformers",
        assumptions=tuple(said.lines),
    )


def _shape(config: Config, engines: Engines, given: Given, said: _Said) -> ModelShape:
    if given.parameters is not None:
        said(f"a typical decoder of {given.parameters / 1e9:g} billion parameters is assumed (--parameters)")
        return typical_shape(given.parameters)
    spec = engines.model_spec(config.models.policy, config.models.policy_revision)
    shape = read_shape(spec)
    if shape is None:
        raise ValueError(
            f"the size of {config.models.policy} is not known, as it is not on this disk: give it with --parameters, "
            "for instance --parameters 8e9"
        )
    return shape


def _counter(engines: Engines, said: _Said) -> Callable[[str], int] | None:
    """How many tokens a text has as a prompt; None where there is no tokenizer on this disk."""
    try:
        if read_shape(engines.model_spec(engines.config.models.policy, engines.config.models.policy_revision)) is None:
            return None
        tokens: ChatTokens = engines.tokens(engines.policy())
    except (ValueError, OSError) as error:
        said(f"prompts are not tokenised: {' '.join(str(error).split())}")
        return None
    return lambda text: len(tokens.prompt_ids(text))


def _counts(config: Config, counts: Mapping[str, int], given: Given) -> tuple[int, int]:
    """(prompts in all, languages)."""
    languages = given.languages or len(config.languages)
    if given.prompts_per_language is not None:
        return given.prompts_per_language * languages, languages
    if counts and given.languages is None:
        return sum(counts.values()), languages
    each = max(counts.values(), default=0) or config.prompts.limit
    if not each:
        raise ValueError(
            "how many prompts there are is not known, as their files are not there: give --prompts-per-language, for "
            "instance --prompts-per-language 1000"
        )
    return each * languages, languages


def _foreign(config: Config, counts: Mapping[str, int], languages: int) -> float:
    """The share of prompts in other languages than English."""
    total = sum(counts.values())
    if total and languages == len(config.languages):
        return 1.0 - counts.get("en", 0) / total
    return 1.0 - ("en" in config.languages) / languages


Texts = Callable[[Prompt], Sequence[str]]


def _lengths(prompts: Prompts, counting: Callable[[str], int] | None, texts: tuple[Texts, ...]) -> list[float] | None:
    """Mean tokens of each kind of text, over up to SAMPLED prompts of every language, evenly through its file."""
    chosen = [
        prompt for group in prompts.values() for prompt in islice(group, 0, None, max(1, -(-len(group) // SAMPLED)))
    ]
    if counting is None or not chosen:
        return None
    found = [[counting(text) for prompt in chosen for text in of(prompt)] for of in texts]
    return [sum(lengths) / len(lengths) for lengths in found]


def _answers(
    config: Config,
    held_out: Prompts,
    counting: Callable[[str], int] | None,
    given: Given,
    prompt_tokens: float,
    said: _Said,
) -> tuple[int, int, float]:
    """(held-out prompts, their languages, mean tokens of one); none where the recipe names none."""
    section = config.evaluate
    if section.prompts is None:
        return 0, 0, 0.0
    languages = len(section.languages) if section.languages is not None else given.languages or len(config.languages)
    found = _lengths(held_out, counting, (lambda prompt: [prompt.instruction],))
    each = max((len(group) for group in held_out.values()), default=0) or section.prompts.limit
    if not each:
        said(f"{HELD_OUT} held-out prompts a language are assumed (X-AlpacaEval's): their files are not there")
        each = HELD_OUT
    return each * languages, languages, found[0] if found else prompt_tokens


def _response(most: int, stage: str, given: Given, said: _Said) -> float:
    if given.response_tokens is not None:
        return min(given.response_tokens, float(most))
    mean = min(RESPONSE_SHARE * most, RESPONSE_TOKENS)
    said(
        f"{mean:.0f} tokens a response of {stage} are assumed, two thirds of its max_new_tokens ({most}), at most "
        f"{RESPONSE_TOKENS:.0f}: measure them with --probe, or give --response-tokens"
    )
    return mean


def _template(config: Config) -> float:
    """Tokens of a judge's question beside instruction and answers; 0 where nobody judges."""
    if config.evaluate.judge is None:
        return 0.0
    try:
        template = read_template(None)
    except (ValueError, OSError):
        return 200.0
    return float(estimated_tokens([{"role": role, "content": text} for role, text in template.messages]))


def _engine(engines: Engines) -> Engine:
    """What `auto` is on this machine."""
    try:
        return "vllm" if engines.sample_engine("evaluate")["engine"] == "vllm" else "transformers"
    except (ValueError, OSError):
        return "transformers"

"""From a recipe to engines, which are imported late so that start-up is quick."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from crossward.config import Config
from crossward.core.instructions import Steering, judged_under
from crossward.core.records import Prompt
from crossward.engines.endpoint import Endpoint, require_endpoint
from crossward.engines.models import base_spec, fingerprint_size, max_positions, model_fingerprint, read_config, settle
from crossward.engines.prompt_lengths import longest_prompt
from crossward.engines.protocols import (
    LanguageIdentifier,
    ModelSpec,
    Sampler,
    Scorer,
    Trainer,
    VllmOptions,
)
from crossward.engines.tokens import ChatTokens, compare_tokens, load_tokens
from crossward.engines.workers import IN_PROCESS, Workers
from crossward.pipeline.choose import endpoint_sampler, local_sampler, local_scorer, require_engine, resolved
from crossward.pipeline.cluster import recipe_workers
from crossward.pipeline.given import NOTHING_GIVEN, Given
from crossward.pipeline.progress import SILENT, Progress, in_megabytes
from crossward.pipeline.unpack import vllm_options

Prompts = Mapping[str, Sequence[Prompt]]
OpenScorer = Callable[[], Scorer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A checkpoint and the hash of its content."""

    spec: ModelSpec
    fingerprint: str


@dataclass(slots=True)
class Known:
    """What was read of checkpoints: tokenizers by fingerprint, that by path and revision."""

    tokens: dict[str, ChatTokens] = field(default_factory=dict)
    fingerprints: dict[tuple[str, str | None], str] = field(default_factory=dict)


@dataclass(slots=True)
class Engines:
    """Opens engines for one recipe. A checkpoint is hashed and its tokenizer loaded once for all that share `known`:
    recipes that are looked at together.
    """

    config: Config
    given: Given = NOTHING_GIVEN
    known: Known = field(default_factory=Known)
    progress: Progress = SILENT

    def __post_init__(self) -> None:
        settle(threads=self.config.runtime.threads)

    def __reduce__(self) -> tuple[Any, ...]:
        """In another process it reads for itself, and tells nobody."""
        return Engines, (self.config, self.given)

    def workers(self, *, here: bool = False) -> Workers:
        """Who does the shards of a stage; `here`: it must be this process."""
        if here or self.config.cluster is None:
            return IN_PROCESS
        scoring, own = self.config.score.engine, self.sample_engine("evaluate")["engine"]
        translating = own if self.config.translator.engine == "policy" else self.config.translator.engine
        engines = {"sampler": own, "policy": scoring, "reference": scoring, "translator": translating}
        engines["scorer"] = "transformers"  # the noise floor's, in float32
        return recipe_workers(self.config, engines, self.progress)

    def model(self, path: str, revision: str | None, *, fingerprint: str | None = None) -> Model:
        """A model of the recipe; hashes its files where `fingerprint` is not known already."""
        spec = self.model_spec(path, revision)
        if fingerprint is None:
            name, found = (path, revision), self.known.fingerprints
            if name not in found:
                with in_megabytes(self.progress, f"hashing {path}", fingerprint_size(spec)) as advance:
                    found[name] = model_fingerprint(spec, advance=advance)
            fingerprint = found[name]
        else:  # a checkpoint that the run trained: the policy's code, if any
            spec = replace(spec, trust_remote_code=self.config.models.policy in self.config.trusted)
        return Model(spec=spec, fingerprint=fingerprint)

    def model_spec(self, path: str, revision: str | None = None) -> ModelSpec:
        """A checkpoint as the recipe loads all of them."""
        return ModelSpec(
            path=path,
            dtype=self.config.models.dtype,
            device=self.config.runtime.device,
            revision=revision,
            trust_remote_code=path in self.config.trusted,
        )

    @property
    def vllm_options(self) -> VllmOptions:
        """What vLLM may take."""
        return vllm_options(self.config)

    def policy(self) -> Model:
        return self.model(self.config.models.policy, self.config.models.policy_revision)

    def reference(self) -> Model:
        return self.model(self.config.models.reference, self.config.models.reference_revision)

    def tokens(self, model: Model) -> ChatTokens:
        loaded = self.known.tokens
        if model.fingerprint not in loaded:
            loaded[model.fingerprint] = load_tokens(model.spec)
        return loaded[model.fingerprint]

    def require_comparable(self, policy: Model, reference: Model) -> str:
        """The two models differ and read the same ids for the same text; says what was seen.

        Raises ValueError where they do not, unless the recipe takes no log-ratio of them: a rival's reward, and DPO
        anchored to the policy that it starts from.
        """
        config = self.config
        if config.train.reference == "previous" and (config.method == "lidr" or config.reward.kind != "implicit"):
            return "no log-ratio of theirs is taken: not compared"
        if policy.fingerprint == reference.fingerprint:
            raise ValueError(
                f"policy {policy.spec.path} and reference {reference.spec.path} have the same weights, so every reward "
                "would be exactly 0: name the aligned model and the model that it was aligned from"
            )
        if differences := compare_tokens(self.tokens(policy), self.tokens(reference)):
            raise ValueError(
                f"policy {policy.spec.path} and reference {reference.spec.path} differ: {'; '.join(differences)}: "
                "a log-ratio needs the same ids under both, so use the checkpoint that the policy was aligned from"
            )
        return "other weights; the same vocabulary, chat template and end of turn"

    def require_room(self, policy: Model, prompts: Prompts, held_out: Prompts) -> str:
        """Prompts as sampled, judged and evaluated, with their responses, fit into the model; says what was seen.

        Raises ValueError where they do not.
        """
        positions = max_positions(read_config(base_spec(policy.spec)))
        reward = self.config.reward
        steering = Steering(**reward.steering.model_dump())
        said = ""
        for key, groups, views, new in (
            ("sample", prompts, reward.scored_views, self.config.sample.max_new_tokens),
            ("evaluate", held_out, (), self.config.evaluate.max_new_tokens),
        ):
            n_texts = (1 + len(views)) * sum(map(len, groups.values()))
            longest = 0
            with self.progress.task(f"longest prompt of {key}: prompts", n_texts) as advance:
                for group in groups.values():
                    texts = (
                        text
                        for prompt in group
                        for text in (prompt.instruction, *(judged_under(prompt, view, steering) for view in views))
                    )
                    longest = longest_prompt(self.tokens(policy), texts, longest=longest, advance=advance)
            if n_texts and positions is not None and longest + new > positions:
                raise ValueError(
                    f"the longest prompt of {key}, as sampled or judged, has {longest} tokens and {key}.max_new_tokens "
                    f"is {new}, but the model has {positions} positions: lower {key}.max_new_tokens or leave the "
                    "longest prompts out"
                )
            said = said or f"longest prompt {longest} tokens, {new} new ones, {positions} positions"
        return said

    def sample_engine(self, stage: Literal["sample", "evaluate"]) -> dict[str, str]:
        """What draws a stage's responses, as its manifest records it: another engine draws other texts."""
        section, models = self.config.sample, self.config.models
        if section.openai is not None and stage == "sample":
            return {"engine": "openai", "model": section.openai.model}
        if section.engine == "given" and stage == "sample":
            return {"engine": "given", "model": self.given.sampler_identity}
        wanted = "auto" if section.engine in ("openai", "given") else section.engine
        return {"engine": resolved(wanted, self.model_spec(models.policy, models.policy_revision))}

    def require_sample_engine(self, stage: Literal["sample", "evaluate"]) -> str:
        """The engine of a stage in words; raises ValueError where it is not there. A server is not asked."""
        section = self.config.sample
        if section.engine == "given" and stage == "sample" and self.given.require_sampler():
            return f"given by the program: {self.given.sampler_identity or 'unnamed'}"
        if section.openai is None or stage == "evaluate":
            engine = self.sample_engine(stage)["engine"]
            note = "" if section.engine == engine else ", chosen by auto"
            return require_engine(engine, self.config.runtime.device) + note
        endpoint = Endpoint(**section.openai.model_dump())
        return f"openai: {endpoint.model} at {require_endpoint(endpoint)}"

    def sampler(self, model: Model, stage: Literal["sample", "evaluate"], *, answers: Path | None = None) -> Sampler:
        """The sampler of a stage; `answers`: where a server's are kept until the stage has them."""
        server = self.config.sample.openai
        if server is not None and stage == "sample":
            return endpoint_sampler(
                Endpoint(**server.model_dump()), model.spec, answers=answers, progress=self.progress
            )
        engine, rows = self.sample_engine(stage)["engine"], self.config.runtime.sample_rows
        if engine == "given":
            return self.given.require_sampler()()
        return local_sampler(engine, model.spec, self.tokens(model), batch_rows=rows, options=self.vllm_options)

    def scorer(self, model: Model) -> Scorer:
        """A scorer of the given model, with the published code's quirks where the recipe asks for them."""
        from crossward.engines.published_scorer import PublishedScorer

        match self.config.compatibility:
            case "none":
                engine, tokens, at_once = self.config.score.engine, self.tokens(model), self.config.runtime.score_tokens
                return local_scorer(engine, model.spec, tokens, batch_tokens=at_once, options=self.vllm_options)
            case "published":
                return PublishedScorer(model.spec, self.tokens(model))

    def exact_scorers(self, policy: Model, reference: Model) -> tuple[OpenScorer, OpenScorer] | None:
        """Openers of both models in float32, which the noise floor holds the scores against; None where they are."""
        if self.config.models.dtype == "float32":
            return None
        ours, base = (replace(model, spec=replace(model.spec, dtype="float32")) for model in (policy, reference))
        opened = self.scorer if self.config.compatibility == "published" else self.training_reference
        return partial(opened, ours), partial(opened, base)

    def training_reference(self, model: Model) -> Scorer:
        """The reference of training is always scored correctly: no quirk of the published scorer is in its trainer."""
        from crossward.engines.hf_scorer import HfScorer

        return HfScorer(model.spec, self.tokens(model), batch_tokens=self.config.runtime.score_tokens)

    def trainer(self, model: Model) -> Trainer:
        """What trains a checkpoint: this process, or those that the recipe's command starts."""
        from crossward.engines.launched_trainer import LaunchedTrainer
        from crossward.engines.trl_trainer import TrlTrainer

        match self.config.train.launch:
            case None:
                return TrlTrainer(model.spec, self.tokens(model), say=self.progress.say)
            case launch:
                return LaunchedTrainer(model.spec, self.tokens(model), launch, say=self.progress.say)

    def identified_by(self, languages: Sequence[str]) -> dict[str, Any]:
        """What `identifier` depends on, for the manifests of stages that use it."""
        kind = self.config.pair.language_filter
        known = {} if kind == "none" else {"identified": sorted({*languages, "en"})}
        return {"language_filter": kind, **known}

    def identifier(self, languages: Sequence[str]) -> LanguageIdentifier | None:
        """The language identifier for these languages and English; None where it is switched off."""
        from crossward.engines.lingua_identifier import LinguaIdentifier

        match self.config.pair.language_filter:
            case "none":
                return None
            case "lingua":
                return LinguaIdentifier(tuple(sorted({*languages, "en"})))
            case "given":
                return self.given.require_identifier()()


def checkpoint(engines: Engines, folder: Path, digest: str) -> Model:
    """The policy that an iteration trained; its stage's digest covers every file of it."""
    return engines.model(str(folder), None, fingerprint=digest)

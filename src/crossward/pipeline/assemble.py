"""From a recipe to engines: the one place that chooses among them, and imports them late so that start-up is quick."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crossward.config import Config, Decoding
from crossward.core.instructions import judged_under
from crossward.core.pairing import PairingRules
from crossward.core.records import Prompt
from crossward.engines.models import base_spec, max_positions, model_fingerprint, read_config, settle
from crossward.engines.protocols import (
    LanguageIdentifier,
    Lora,
    ModelSpec,
    Sampler,
    Sampling,
    Scorer,
    Trainer,
    Training,
)
from crossward.engines.tokens import ChatTokens, compare_tokens, load_tokens

Prompts = Mapping[str, Sequence[Prompt]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A checkpoint and the hash of its content."""

    spec: ModelSpec
    fingerprint: str


@dataclass(slots=True)
class Engines:
    """Opens engines for one recipe. Tokenizers are loaded once per checkpoint."""

    config: Config
    _tokens: dict[str, ChatTokens] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settle(threads=self.config.runtime.threads)

    def model(self, path: str, revision: str | None, *, fingerprint: str | None = None) -> Model:
        """A model of the recipe; hashes its files where `fingerprint` is not known already."""
        spec = ModelSpec(
            path=path,
            dtype=self.config.models.dtype,
            device=self.config.runtime.device,
            revision=revision,
            trust_remote_code=self.config.models.trust_remote_code,
        )
        return Model(spec=spec, fingerprint=fingerprint or model_fingerprint(spec))

    def policy(self) -> Model:
        return self.model(self.config.models.policy, self.config.models.policy_revision)

    def reference(self) -> Model:
        return self.model(self.config.models.reference, self.config.models.reference_revision)

    def tokens(self, model: Model) -> ChatTokens:
        if model.fingerprint not in self._tokens:
            self._tokens[model.fingerprint] = load_tokens(model.spec)
        return self._tokens[model.fingerprint]

    def require_comparable(self, policy: Model, reference: Model) -> None:
        """Raise ValueError where the two models are one, or would not read the same ids for the same text."""
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

    def require_room(self, policy: Model, prompts: Prompts, held_out: Prompts) -> str:
        """Prompts as sampled, judged and evaluated, with their responses, fit into the model; says what was seen.

        Raises ValueError where they do not.
        """
        positions = max_positions(read_config(base_spec(policy.spec)))
        view = self.config.reward.view
        sampled = [p.instruction for group in prompts.values() for p in group]
        judged = [judged_under(p, view) for group in prompts.values() for p in group]
        asked = [p.instruction for group in held_out.values() for p in group]
        said = ""
        for key, texts, new in (
            ("sample", [*sampled, *judged], self.config.sample.max_new_tokens),
            ("evaluate", asked, self.config.evaluate.max_new_tokens),
        ):
            longest = max((len(self.tokens(policy).prompt_ids(text)) for text in texts), default=0)
            if positions is not None and longest + new > positions:
                raise ValueError(
                    f"the longest prompt of {key}, as sampled or judged, has {longest} tokens and {key}.max_new_tokens "
                    f"is {new}, but the model has {positions} positions: lower {key}.max_new_tokens or leave the "
                    "longest prompts out"
                )
            said = said or f"longest prompt {longest} tokens, {new} new ones, {positions} positions"
        return said

    def sampler(self, model: Model) -> Sampler:
        from crossward.engines.hf_sampler import HfSampler

        return HfSampler(model.spec, self.tokens(model), batch_rows=self.config.runtime.sample_rows)

    def scorer(self, model: Model) -> Scorer:
        """A scorer of the given model, with the published code's quirks where the recipe asks for them."""
        from crossward.engines.hf_scorer import HfScorer
        from crossward.engines.published_scorer import PublishedScorer

        match self.config.compatibility:
            case "none":
                return HfScorer(model.spec, self.tokens(model), batch_tokens=self.config.runtime.score_tokens)
            case "published":
                return PublishedScorer(model.spec, self.tokens(model))

    def training_reference(self, model: Model) -> Scorer:
        """The reference of training is always scored correctly: no quirk of the published scorer is in its trainer."""
        from crossward.engines.hf_scorer import HfScorer

        return HfScorer(model.spec, self.tokens(model), batch_tokens=self.config.runtime.score_tokens)

    def trainer(self, model: Model) -> Trainer:
        from crossward.engines.trl_trainer import TrlTrainer

        return TrlTrainer(model.spec, self.tokens(model))

    def identifier(self, languages: Sequence[str]) -> LanguageIdentifier | None:
        """The language identifier for these languages and English; None where it is switched off."""
        from crossward.engines.lingua_identifier import LinguaIdentifier

        match self.config.pair.language_filter:
            case "none":
                return None
            case "lingua":
                return LinguaIdentifier(tuple(sorted({*languages, "en"})))


def sampling_of(decoding: Decoding, seed: int) -> Sampling:
    """A decoding section with its seed."""
    return Sampling(
        n=decoding.n,
        temperature=decoding.temperature,
        top_p=decoding.top_p,
        max_new_tokens=decoding.max_new_tokens,
        seed=seed,
    )


def rules_of(config: Config, seed: int) -> PairingRules:
    """The pairing rules of a recipe."""
    published = config.compatibility == "published"
    return PairingRules(
        length_unit="characters" if published else config.pair.length_unit,
        alpha_search="published-grid" if published else "exact",
        choice=config.pair.choice,
        seed=seed,
        upper_bound=config.pair.upper_bound,
        min_margin=config.pair.min_margin,
        min_responses=config.pair.min_responses,
        language_confidence=config.pair.language_confidence,
        filter_responses=not published,
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
        lora=None
        if lora is None
        else Lora(rank=lora.rank, alpha=lora.alpha, dropout=lora.dropout, target_modules=lora.target_modules),
    )


def checkpoint(engines: Engines, folder: Path, digest: str) -> Model:
    """The policy that an iteration trained; its stage's digest covers every file of it."""
    return engines.model(str(folder), None, fingerprint=digest)

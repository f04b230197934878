"""The method, top to bottom: read this first.

Every iteration samples from the policy, scores the responses under the English twin of their prompt, pairs the best
with the worst, trains the next policy, and answers held-out prompts with it, which a judge may compare with a
baseline's. Each stage resumes by itself, so running the same recipe again continues where it stopped. Paper:
Implicit Cross-Lingual Rewarding (arXiv 2503.04647), section 3.
"""

from collections.abc import Sequence
from pathlib import Path

from crossward.config import Config
from crossward.core.records import Prompt
from crossward.core.seeds import derive_seed
from crossward.pipeline import provenance, stages
from crossward.pipeline.assemble import Engines, Model, checkpoint, rules_of, sampling_of, training_of
from crossward.pipeline.guard import guard_english
from crossward.pipeline.judge_stage import Judging, english_preferences
from crossward.pipeline.measures import read_references
from crossward.pipeline.noise import noise_margins
from crossward.pipeline.progress import Progress
from crossward.pipeline.prompts import evaluation_prompts, prompt_hashes, training_prompts
from crossward.pipeline.report.markdown import write_report
from crossward.store.lock import run_lock
from crossward.store.manifest import StageManifest
from crossward.store.run_dir import IterationDir, RunDir


def run(config: Config, *, progress: Progress, redo: Sequence[str] = ()) -> RunDir:
    """Run a recipe, or continue it; returns its folder. `redo` names stages to do again, such as "iteration-1/pair"."""
    directory = RunDir(Path(config.run))
    with run_lock(directory):
        again = provenance.stages_to_redo(directory, config, redo)
        provenance.require_same_config(directory, config, again)
        engines = Engines(config)
        reference, policies = engines.reference(), [engines.policy()]
        engines.require_comparable(policies[0], reference)
        prompts, held_out = training_prompts(config), evaluation_prompts(config)
        engines.require_room(policies[0], prompts, held_out)
        judging = Judging.of(config, directory, tuple(held_out), progress)
        provenance.claim(directory, config, again)

        answer(directory.reference, reference, held_out, engines, progress)
        answer(directory.iteration(0), policies[0], held_out, engines, progress)
        judging.judge("reference", directory.reference)
        judging.judge("π_0", directory.iteration(0))
        for t in range(1, config.iterations + 1):
            here = directory.iteration(t)
            paired = make_pairs(here, t, policies, reference, prompts, engines, progress)
            policies.append(train(here, t, policies[-1], reference, paired, engines, progress))
            answer(here, policies[-1], held_out, engines, progress)
            judging.judge(f"π_{t}", here)
            guard_english(directory, t, progress, values_of=english_preferences)
        judging.tabulate()
        write_report(directory, config)
    return directory


def make_pairs(
    here: IterationDir,
    t: int,
    policies: Sequence[Model],
    reference: Model,
    prompts: dict[str, list[Prompt]],
    engines: Engines,
    progress: Progress,
) -> StageManifest:
    """Sample from π^(t−1), score under the view, pair best with worst.

    The reward is log π^(t−1) over models.reference (`reward.reference: initial`, the paper's main run) or over the
    policy before, π^(t−2) (`previous`; in iteration 1 that is models.reference too).
    """
    config, policy = engines.config, policies[-1]
    rewarding = policies[-2] if config.reward.reference == "previous" and t > 1 else reference
    sampled = stages.sample(
        here.stage("sample"),
        prompts,
        open_sampler=lambda: engines.sampler(policy, "sample", answers=here.stage("sample").answers, progress=progress),
        sampling=sampling_of(config.sample, derive_seed(config.seed, "sample", t)),
        shard_size=config.shard_size,
        settings=engines.sample_engine("sample"),
        inputs={"policy": policy.fingerprint, **prompt_hashes(prompts)},
        progress=progress,
    )
    scored = stages.score(
        here.stage("score"),
        here.stage("sample"),
        view=config.reward.view,
        open_scorers=lambda: (engines.scorer(policy), engines.scorer(rewarding)),
        open_exact=engines.exact_scorers(policy, rewarding),
        noise_sample=config.score.noise_sample,
        settings={
            "dtype": config.models.dtype,
            "compatibility": config.compatibility,
            "engine": config.score.engine,
        },
        inputs={"sample": sampled.digest, "policy": policy.fingerprint, "reference": rewarding.fingerprint},
        progress=progress,
    )
    return stages.pair(
        here.stage("pair"),
        here.stage("score"),
        rules=rules_of(config, derive_seed(config.seed, "pair", t)),
        margins=noise_margins(scored) if config.pair.min_margin == "auto" else None,
        open_identifier=lambda: engines.identifier(config.languages),
        settings={"language_filter": config.pair.language_filter},
        inputs={"score": scored.digest},
        progress=progress,
    )


def train(
    here: IterationDir,
    t: int,
    policy: Model,
    reference: Model,
    paired: StageManifest,
    engines: Engines,
    progress: Progress,
) -> Model:
    """π^(t−1) and its pairs in, π^t out; DPO is anchored to π^(t−1) or, with `train.reference: initial`, to π_ref."""
    config = engines.config
    anchor = policy if config.train.reference == "previous" else reference
    trained = stages.train(
        here.stage("train"),
        here.stage("pair"),
        open_reference=lambda: engines.training_reference(anchor),
        open_trainer=lambda: engines.trainer(policy),
        training=training_of(config, derive_seed(config.seed, "train", t)),
        inputs={"pair": paired.digest, "policy": policy.fingerprint, "reference": anchor.fingerprint},
        progress=progress,
    )
    return checkpoint(engines, here.stage("train").checkpoint, trained.digest)


def answer(
    here: IterationDir,
    policy: Model,
    held_out: dict[str, list[Prompt]],
    engines: Engines,
    progress: Progress,
) -> None:
    """Answer the held-out prompts, if the recipe names any. The seed is the same for every policy: paired draws."""
    if not held_out:
        return
    config = engines.config
    stages.evaluate(
        here.stage("evaluate"),
        held_out,
        open_sampler=lambda: engines.sampler(policy, "evaluate", progress=progress),
        open_identifier=lambda: engines.identifier((*config.languages, *held_out)),
        sampling=sampling_of(config.evaluate, derive_seed(config.seed, "evaluate")),
        shard_size=config.shard_size,
        settings=engines.sample_engine("evaluate"),
        inputs={"policy": policy.fingerprint, **prompt_hashes(held_out)},
        references=read_references(config.evaluate.reference_answers, held_out),
        progress=progress,
    )

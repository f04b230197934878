"""The method, top to bottom: read this first.

Every iteration samples from the policy, scores the responses under the English twin of their prompt, pairs the best
with the worst, trains the next policy, and answers held-out prompts with it, which a judge may compare with a
baseline's. Each stage resumes by itself, so running the same recipe again continues where it stopped. Paper:
Implicit Cross-Lingual Rewarding (arXiv 2503.04647), section 3.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from crossward.config import Config
from crossward.core.records import Prompt
from crossward.core.seeds import derive_seed
from crossward.pipeline import provenance, stages, training
from crossward.pipeline.assemble import Engines, Model, checkpoint
from crossward.pipeline.direction import pair_by_direction
from crossward.pipeline.experiment_plan import stages_of
from crossward.pipeline.given import NOTHING_GIVEN, Given
from crossward.pipeline.guard import guard_english
from crossward.pipeline.judge_stage import english_preferences
from crossward.pipeline.measures import read_references
from crossward.pipeline.noise import noise_margins
from crossward.pipeline.progress import Progress
from crossward.pipeline.prompts import prompt_hashes
from crossward.pipeline.ranking import rank
from crossward.pipeline.replay import Replayed
from crossward.pipeline.requirements import require
from crossward.pipeline.tracking import tracked
from crossward.pipeline.unpack import rules_of, sampling_of, training_of
from crossward.store.lock import run_lock
from crossward.store.manifest import StageManifest
from crossward.store.run_dir import IterationDir, RunDir
from crossward.store.shared_stages import SharedStages


def run(
    config: Config,
    *,
    progress: Progress,
    redo: Sequence[str] = (),
    shared: SharedStages | None = None,
    given: Given = NOTHING_GIVEN,
) -> RunDir:
    """Run a recipe, or continue it; returns its folder. `redo` names stages to do again, such as "iteration-1/pair".

    `shared` is the pool in which the runs of an experiment find stages that others of them have made. `given` are
    engines that a program brings along, for recipes that ask for them (`reward.kind: given`).
    """
    directory = RunDir(Path(config.run), shared)
    with run_lock(directory), tracked(config, directory, progress) as progress:
        again = provenance.stages_to_redo(directory, config, redo)
        provenance.require_same_config(directory, config, again)
        engines = Engines(config, given, progress=progress)
        needed = require(engines, directory, progress)
        reference, policies = needed.reference, [needed.policy]
        prompts, held_out, judging = needed.prompts, needed.held_out, needed.judging
        provenance.claim(directory, config, again, say=progress.say)
        progress.plan([stage.title for stage, _ in stages_of(config, directory)])

        answer(directory.reference, reference, held_out, engines, progress)
        answer(directory.iteration(0), policies[0], held_out, engines, progress)
        judging.judge("reference", directory.reference)
        judging.judge("π_0", directory.iteration(0))
        for t in range(1, config.iterations + 1):
            here = directory.iteration(t)
            paired = make_pairs(here, t, policies, reference, prompts, engines, progress)
            policies.append(train(here, t, policies[-1], reference, paired, needed.replay, engines, progress))
            answer(here, policies[-1], held_out, engines, progress)
            judging.judge(f"π_{t}", here)
            guard_english(directory, t, progress, values_of=english_preferences)
        judging.tabulate()
    return directory


def make_pairs(
    here: IterationDir,
    t: int,
    policies: Sequence[Model],
    reference: Model,
    prompts: Mapping[str, Sequence[Prompt]],
    engines: Engines,
    progress: Progress,
) -> StageManifest:
    """Sample from π^(t−1), rank by the reward, pair best with worst; or pair by direction (`method: lidr`).

    The reward is log π^(t−1) over models.reference (`reward.reference: initial`, the paper's main run) or over the
    policy before, π^(t−2) (`previous`; in iteration 1 that is models.reference too). With `reward.policy: initial` it
    is π_0's in every iteration.
    """
    config, policy = engines.config, policies[-1]
    sampled = stages.sample(
        here.stage("sample"),
        prompts,
        open_sampler=partial(engines.sampler, policy, "sample", answers=here.stage("sample").answers),
        sampling=sampling_of(config.sample, derive_seed(config.seed, "sample", t)),
        shard_size=config.shard_size,
        settings=engines.sample_engine("sample"),
        inputs={"policy": policy.fingerprint, **prompt_hashes(prompts)},
        workers=engines.workers(here=config.sample.engine in ("openai", "given")),
        progress=progress,
    )
    if config.method == "lidr":
        return pair_by_direction(here, sampled, policy, engines, progress)
    ours = policies[0] if config.reward.policy == "initial" else policy
    base = policies[-2] if config.reward.reference == "previous" and t > 1 else reference
    ranked = rank(here, sampled, policy=policy, rewarding=(ours, base), engines=engines, progress=progress)
    return stages.pair(
        here.stage("pair"),
        ranked.folder,
        rules=rules_of(config, derive_seed(config.seed, "pair", t)),
        margins=noise_margins(ranked.manifest) if config.pair.min_margin == "auto" else None,
        open_identifier=lambda: engines.identifier(config.languages),
        settings={"language_filter": config.pair.language_filter},
        inputs={"score": ranked.manifest.digest},
        progress=progress,
    )


def train(
    here: IterationDir,
    t: int,
    policy: Model,
    reference: Model,
    paired: StageManifest,
    replay: Replayed | None,
    engines: Engines,
    progress: Progress,
) -> Model:
    """π^(t−1) and its pairs in, π^t out; DPO is anchored to π^(t−1) or, with `train.reference: initial`, to π_ref."""
    config = engines.config
    anchor = policy if config.train.reference == "previous" else reference
    trained = training.train(
        here.stage("train"),
        here.stage("pair"),
        open_reference=partial(engines.training_reference, anchor),
        open_trainer=lambda: engines.trainer(policy),
        training=training_of(config, derive_seed(config.seed, "train", t)),
        replay=replay,
        inputs={"pair": paired.digest, "policy": policy.fingerprint, "reference": anchor.fingerprint},
        workers=engines.workers(),
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
    config, languages = engines.config, (*engines.config.languages, *held_out)
    stages.evaluate(
        here.stage("evaluate"),
        held_out,
        open_sampler=partial(engines.sampler, policy, "evaluate"),
        open_identifier=lambda: engines.identifier(languages),
        sampling=sampling_of(config.evaluate, derive_seed(config.seed, "evaluate")),
        shard_size=config.shard_size,
        settings={**engines.sample_engine("evaluate"), **engines.identified_by(languages)},
        inputs={"policy": policy.fingerprint, **prompt_hashes(held_out)},
        references=read_references(config.evaluate.reference_answers, held_out),
        workers=engines.workers(),
        progress=progress,
    )

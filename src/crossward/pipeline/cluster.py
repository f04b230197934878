"""From a recipe's `cluster` section to workers in a Ray cluster: the replicas of each step, and what each takes."""

import os
from collections.abc import Mapping
from pathlib import Path

from crossward.config import Config
from crossward.engines.ray_cluster import Cluster, require_ray
from crossward.engines.ray_workers import RayWorkers, Replicas
from crossward.engines.workers import IN_PROCESS, Workers
from crossward.pipeline.progress import Progress
from crossward.sections import ClusterReplicas
from crossward.store.run_dir import RunDir

# What replicas take over from the environment of the command; a token is each node's own.
_VARIABLES = ("HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "CROSSWARD_TRACEBACK")


def recipe_workers(config: Config, engines: Mapping[str, str], progress: Progress) -> Workers:
    """Workers of the recipe's cluster, or of this process. `engines` that are split over several GPUs, by step."""
    section = config.cluster
    if section is None:
        return IN_PROCESS
    cluster = Cluster(
        address=section.address,
        shared=RunDir(Path(config.run)).cluster,
        restarts=section.restarts,
        start_timeout_s=section.start_timeout_s,
    )
    variables = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    return RayWorkers(
        cluster,
        replicas=_replicas(config, engines),
        together=[names for names in _together(config) if all(name in engines for name in names)],
        variables=variables,
        say=progress.say,
    )


def require_cluster(config: Config) -> str:
    """The cluster in words; raises ValueError where Ray is not installed. Nothing is started or asked."""
    if config.cluster is None:
        return "this process"
    require_ray()
    return f"Ray at {config.cluster.address or 'this machine'}"


def _together(config: Config) -> list[tuple[str, ...]]:
    """The steps that are at work at the same time, of those that a recipe is sure to need or counts."""
    found: list[tuple[str, ...]] = [("sampler",)]
    if config.reward.kind == "implicit":
        found.append(("policy", "reference"))
    if config.cluster is not None and isinstance(named := config.cluster.replicas, ClusterReplicas):
        found += [("translator",)] * (named.translate is not None) + [("judge",)] * (named.judge is not None)
    return found


def _replicas(config: Config, engines: Mapping[str, str]) -> dict[str, Replicas]:
    section, split = config.cluster, config.runtime.vllm.tensor_parallel_size
    assert section is not None
    counts = {step: section.replicas if isinstance(section.replicas, int) else None for step in engines}
    if isinstance(section.replicas, ClusterReplicas):
        named = section.replicas
        counts = {
            "sampler": named.sample,
            "policy": named.score_policy,
            "reference": named.score_reference,
            "translator": named.translate,
            "judge": named.judge,
        }
    own = section.resources

    def gpus(engine: str) -> float | None:
        if own.gpus is not None or config.runtime.device == "cpu":
            return own.gpus or 0.0
        return float(split) if engine == "vllm" and split > 1 else None

    return {
        step: Replicas(
            count=counts.get(step),
            cpus=float(config.runtime.threads or 1) if own.cpus is None else own.cpus,
            gpus=gpus(engine),
            memory_gib=own.memory_gib,
            custom=own.custom,
        )
        for step, engine in engines.items()
    }
